"""`sales-assets orders`: map the partner's ids, and list order lines that wait for a mapping."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from sales_assets.cli.console import out

app = typer.Typer(help="Partner orders: map the partner's ids to ours.", no_args_is_help=True)


@app.command("map")
def orders_map(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV: kind,theirs,ours")],
) -> None:
    """Map the partner's ids to ours; days that waited for a mapping are loaded again by the sensor.

    The header is `kind,theirs,ours`, a line is for example `item,58,3`. Kinds: item (their item id, our item_id),
    pharmacy (their pharmacy id, our city_id) and customer (phone, our customer_id). The supplier is PARTNERAPI_KODPOST.
    Separators: commas, semicolons or tabs; encoding: UTF-8, or UTF-16 as spreadsheets save it. The file is stored
    completely or not at all.
    """
    from sales_assets.postgres.warehouse import Warehouse
    from sales_assets.services.partner_orders.mapping import mappings_in, shared_phones, store

    mappings = mappings_in(file)
    again = store(Warehouse(), mappings)
    out.print(f"{len(mappings)} mapped; {again} events will be loaded again")
    for row in shared_phones(Warehouse()):
        customers = ", ".join(map(str, row["customers"]))
        out.print(f"phone {row['phone']} is mapped to several customers ({customers}) and therefore unused")


@app.command("waiting")
def orders_waiting() -> None:
    """List the order lines that wait for a mapping, with the reason and the phone that was looked up."""
    from sales_assets.postgres.warehouse import Warehouse
    from sales_assets.services.partner_orders.mapping import waiting

    rows = waiting(Warehouse())
    table = Table("day", "event", "line", "status", "reason")
    table.add_column("phone", no_wrap=True)
    for row in rows:
        cells = (row["date_id"], row["message_id"], row["line_no"], row["status"], row["reason"], row["phone"] or "")
        table.add_row(*map(str, cells))
    out.print(table if rows else "no lines wait for a mapping")
