"""`sales-assets orders`: map the partner's ids to ours, and list order lines without a mapping."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from sales_assets.cli.console import out

app = typer.Typer(help="Map the ids of partner orders to ours.", no_args_is_help=True)


@app.command("map")
def orders_map(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV: kind,theirs,ours")],
) -> None:
    """Map the partner's ids to ours; a sensor then loads the waiting days again.

    Columns are `kind,theirs,ours`, with lines such as `item,58,3`. Kinds: item (their item id, our item_id), pharmacy
    (their pharmacy id, our city_id) and customer (phone, our customer_id). The supplier is PARTNERAPI_KODPOST.
    Delimiters: commas, semicolons or tabs. Encodings: UTF-8 or UTF-16. The file is stored as a whole or not at all.
    """
    from sales_assets.postgres.warehouse import Warehouse
    from sales_assets.services.partner_orders.mapping import mappings_in, shared_phones, store

    mappings = mappings_in(file)
    again = store(Warehouse(), mappings)
    out.print(f"{len(mappings)} mapped; {again} events will be loaded again")
    for row in shared_phones(Warehouse()):
        customers = ", ".join(map(str, row["customers"]))
        out.print(f"phone {row['phone']} is mapped to several customers ({customers}), so it is not used")


@app.command("waiting")
def orders_waiting() -> None:
    """List order lines without a mapping, with the reason and the phone."""
    from sales_assets.postgres.warehouse import Warehouse
    from sales_assets.services.partner_orders.mapping import waiting

    rows = waiting(Warehouse())
    table = Table("day", "event", "line", "status", "reason")
    table.add_column("phone", no_wrap=True)
    for row in rows:
        cells = (row["date_id"], row["message_id"], row["line_no"], row["status"], row["reason"], row["phone"] or "")
        table.add_row(*map(str, cells))
    out.print(table if rows else "no waiting lines")
