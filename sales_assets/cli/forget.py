"""`sales-assets forget`: erase a person's names and phones."""

from typing import Annotated

import typer

from sales_assets.cli.console import err, out, print_error


def forget(
    customer: Annotated[int | None, typer.Option(help="Number of the customer.", min=-(2**31), max=2**31 - 1)] = None,
    phone: Annotated[str | None, typer.Option(help="Phone, in any spelling; - reads it from standard input.")] = None,
) -> None:
    """Erase a person's names and phones.

    Covers raw files, staging, quarantine, dimensions, partner orders, mailings and the lake. Customer numbers, sums and
    lineage stay. Waits for running loads; new loads wait until it is done. Files that are delivered again later don't
    restore the names. Repeat the command after a failure or an interruption: it completes the erasure.
    """
    from sales_assets.pipeline.forget import Forgetting, remove_from_disk
    from sales_assets.postgres.warehouse import Warehouse
    from sales_assets.resources.raw_files import RawFiles
    from sales_assets.schemas.pseudonyms import Pseudonyms
    from sales_assets.settings import settings

    if (customer is None) == (phone is None):
        raise typer.BadParameter("give --customer or --phone")
    if phone == "-":
        phone = typer.get_text_stream("stdin").readline().strip()
    warehouse = Warehouse()
    pseudonyms = Pseudonyms(settings().sales_erasure_secret.get_secret_value())
    with err.status("") as status:
        forgetting = Forgetting(warehouse, RawFiles(), pseudonyms, settings().sales_home / "tmp", status.update)
        done = forgetting.forget(customer_id=customer, phone=phone)
        if settings().lake_url:
            from sales_assets.resources.lake import Lake

            status.update("lake")
            done.counts["tables of the lake"] = Lake(warehouse).forget_names("sales_assets forget")
        status.update("files of the server")
        done.left += remove_from_disk(warehouse, is_embedded=settings().warehouse_url is None)
    for what, number in done.counts.items():
        if number:
            out.print(f"{what}: {number}")
    if not done.is_changed:
        out.print("nothing to erase")
    for left in done.left:
        print_error(f"not erased: {left}")
    if done.left:
        raise typer.Exit(1)
