"""`sales-assets migrate`: migrate the warehouse's schema to a revision."""

from typing import Annotated

import typer

from sales_assets.cli.console import out


def migrate(
    to: Annotated[str, typer.Option(help="Target revision, newer or older; `base` reverts everything.")] = "head",
    revisions: Annotated[bool, typer.Option("--list", help="List the revisions and change nothing.")] = False,
) -> None:
    """Migrate the warehouse's schema to the newest or another revision, in one transaction.

    An existing mart.f_sales is upgraded in place. Running it again changes nothing. `migrate --to 0003` removes the
    mart's new columns; refunds stay, as negative rows.
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
        out.print(f"the warehouse was migrated from revision {before or 'base'} to {after or 'base'}")
