"""`sales-assets suppressions`: import, export and remove phones that are excluded from mailings."""

from pathlib import Path
from typing import Annotated

import typer

from sales_assets.cli.console import out

app = typer.Typer(help="Import, export and remove phones that are excluded from mailings.", no_args_is_help=True)


@app.command("import")
def suppressions_import(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV: phone[,suppressed_at]")],
) -> None:
    """Suppress the phones of a file.

    Columns are `phone`, in any spelling of a Russian phone, and optionally `suppressed_at`; others are ignored. The
    file is stored as a whole or not at all. Phones that are suppressed already stay as they are.
    """
    from sales_assets.postgres.warehouse import Warehouse
    from sales_assets.services.mailings.suppressions import import_file

    phones, added = import_file(Warehouse(), file)
    out.print(f"{phones} phones; {added} were not suppressed before")


@app.command("export")
def suppressions_export(
    file: Annotated[Path, typer.Argument(dir_okay=False, help="CSV file to write; an existing one is replaced")],
) -> None:
    """Write all suppressed phones to a file that can be imported."""
    from sales_assets.postgres.warehouse import Warehouse
    from sales_assets.services.mailings.suppressions import exported

    lines = list(exported(Warehouse()))
    part = file.with_name(f".{file.name}.part")
    try:
        # Phones are personal data: only the user may read the file.
        part.touch(mode=0o600)
        part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    out.print(f"{len(lines) - 1} phones in {file}")


@app.command("remove")
def suppressions_remove(phone: Annotated[str, typer.Argument(help="A phone, in any spelling")]) -> None:
    """Allow mailings to a phone again, after its owner has agreed."""
    from sales_assets.postgres.warehouse import Warehouse
    from sales_assets.services.mailings.suppressions import remove

    out.print("removed" if remove(Warehouse(), phone) else "the phone is not suppressed")
