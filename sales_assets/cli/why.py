"""`sales-assets why DAY`: explain where a day's numbers come from.

``postgres/explanation.py`` computes the explanation.
"""

import datetime as dt
from typing import Annotated

import typer
from rich.table import Table

from sales_assets.cli.console import out
from sales_assets.cli.options import parse_day
from sales_assets.cli.quarantine import state_of


def why(day: Annotated[dt.date, typer.Argument(parser=parse_day, metavar="YYYY-MM-DD")]) -> None:
    """Explain where a day's numbers come from.

    Shows the rows of the mart, the selected file, the other stored files with the reason why they were not selected,
    how often each was delivered, duplicates and rejected rows. The view mart.f_sales_lines has the file and line number
    of every row.
    """
    from sales_assets.postgres.explanation import explain
    from sales_assets.postgres.warehouse import Warehouse

    with Warehouse().transaction("sales_assets why", read_only=True) as transaction:
        explanation = explain(transaction, day)
    mart = Table("source", "status", "rows", "quantity", "amount", title=f"mart.f_sales on {day}")
    for row in explanation.mart:
        mart.add_row(row["source"], row["status"], str(row["rows"]), str(row["quantity"]), str(row["amount"]))
    out.print(mart if explanation.mart else f"mart.f_sales has no row on {day}")
    # Narrow columns, for terminals of 80 columns; paths and times have lines below the table.
    fetches = Table(title="stored files, best first")
    for heading in ("fetch", "kind", "statuses", "kept", "duplicates", "rejected"):
        fetches.add_column(heading, no_wrap=True)
    fetches.add_column("why", overflow="fold")
    for row in explanation.candidates:
        fetches.add_row(
            str(row["fetch_id"]),
            row["kind"],
            "yes" if row["has_status"] else "no",
            str(row["kept"]),
            str(row["repeats"]),
            str(row["bad"]),
            row["reason_of_rank"],
        )
    out.print(fetches if explanation.candidates else "no stored file covers the day")
    for row in explanation.candidates:
        last = f"{row['last_at']:%Y-%m-%d %H:%M:%S}"
        delivered = f"once, {last}" if row["times"] == 1 else f"{row['times']} times, last {last}"
        out.print(f"fetch {row['fetch_id']}: {row['path']}, delivered {delivered}")
    if explanation.staged:
        out.print(
            f"staged from fetch {explanation.staged['fetch_id']}: {explanation.staged['rows']} rows at "
            f"{explanation.staged['staged_at']:%Y-%m-%d %H:%M:%S} by run {explanation.staged['run_id']}"
        )
    answers = Table(
        "requested at", "outcome", "order file", "reason", title="responses of the report API for the increment"
    )
    for row in explanation.deliveries:
        contents = "" if row["fetch_id"] is None else f"fetch {row['fetch_id']}"
        if row["number"] != row["fetch_id"]:
            contents = f"same contents as {contents}"
        answers.add_row(f"{row['asked_at']:%Y-%m-%d %H:%M:%S}", row["outcome"], contents, row["reason"] or "")
    never = f"the increment of the day was never requested: `sales-assets load --from {day} --to {day}` requests it"
    out.print(answers if explanation.deliveries else never)
    bad = Table("id", "fetch", "line", "state", "reason", title="rows in quarantine")
    for row in explanation.rejected:
        state = state_of(row)
        bad.add_row(str(row["quarantine_id"]), str(row["fetch_id"]), str(row["line_no"]), state, row["reason"])
    if explanation.rejected:
        out.print(bad)
