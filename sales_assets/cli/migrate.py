"""`sales-assets migrate`: bring the warehouse's schema to a revision."""

from typing import Annotated

import typer

from sales_assets.cli.console import out


def migrate(
    to: Annotated[str, typer.Option(help="Revision to go to, up or down; `base` undoes all.")] = "head",
    revisions: Annotated[bool, typer.Option("--list", help="List the revisions and change nothing.")] = False,
) -> None:
    """Bring the warehouse's schema up to date, or to a revision, all or nothing.

    An existing mart.f_sales is upgraded in place. Doing it twice does nothing. `migrate --to 0003` takes the mart's
    new columns back; refunds stay, negative.
    """
    from sales_assets.postgres import migrations
    from sales_assets.postgres.database import warehouse_url

    if revisions:
        for revision, what in migrations.revisions():
            out.print(f"{revision}  {what}")
        return
    before, after = migrations.migrate(warehouse_url(), to)
    if before == after:
        out.print(f"the warehouse is at revision {after or 'base'} already")
    else:
        out.print(f"the warehouse went from revision {before or 'base'} to {after or 'base'}")
