"""`sales-assets warehouse`: print the warehouse's address; stop or upgrade the embedded server."""

from pathlib import Path
from typing import Annotated

import typer

from sales_assets.cli.console import out

app = typer.Typer(help="The warehouse's address and the embedded server.", no_args_is_help=True)


@app.command("url")
def warehouse_url_command() -> None:
    """Print the libpq URL of the warehouse, for `psql "$(sales-assets warehouse url)"`.

    Without WAREHOUSE_URL, starts the embedded server, which runs until `sales-assets warehouse stop`.
    """
    from sales_assets.postgres.database import warehouse_url

    print(warehouse_url())  # noqa: T201  rich would wrap it


@app.command("stop")
def warehouse_stop() -> None:
    """Stop the embedded server. A server at WAREHOUSE_URL is not affected."""
    from sales_assets.postgres.database import embedded

    server = embedded()
    if not server.is_running():
        out.print("no embedded server is running")
        return
    server.stop()
    out.print("the embedded server was stopped")


@app.command("upgrade")
def warehouse_upgrade(
    programs: Annotated[
        Path | None,
        typer.Option(help="Folder of the former version's programs (pg_ctl, postgres), if not part of this release."),
    ] = None,
) -> None:
    """Upgrade the embedded server's data to this release's major version of PostgreSQL, with pg_upgrade.

    The server is stopped. The old data are kept in a separate folder, so as much free space is needed again.
    """
    from sales_assets.postgres.database import embedded
    from sales_assets.postgres.embedded import MAJOR
    from sales_assets.postgres.embedded.upgrade import upgrade

    kept = upgrade(embedded(), programs)
    if kept is None:
        out.print(f"nothing to upgrade: this release's PostgreSQL {MAJOR} is in use, or there are no data yet")
        return
    out.print(f"upgraded to PostgreSQL {MAJOR}; the old data are in {kept}")
    out.print("next: `sales-assets doctor`, then remove the old data")
