"""`sales-assets why DAY`: from the mart's numbers of a day back to the selected file, and why that one.

Does not belong here: the selection itself (``sql/staging/staged_day.sql``).
"""

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from sales_assets.cli.console import out
from sales_assets.cli.quarantine import state_of

if TYPE_CHECKING:
    from sales_assets.postgres.warehouse import Warehouse

_SHOWN_BAD_LINES = 20

Row = dict[str, Any]


@dataclass(frozen=True)
class Explanation:
    """What is known of a day. `candidates` are the kept fetches that cover it, best first, each with its reason.

    `deliveries` have the number and fetch of their order file; a number above the fetch's is a repeated delivery.
    """

    day: dt.date
    mart: list[Row]
    staged: Row | None
    candidates: list[Row]
    deliveries: list[Row]
    bad_lines: list[Row]


def why(day: Annotated[dt.date, typer.Argument(parser=dt.date.fromisoformat, metavar="YYYY-MM-DD")]) -> None:
    """Say why the numbers of a day are as they are.

    Shows the rows of the mart, the fetch they were taken from, the other kept fetches with the reason why they were
    not chosen and how often each was delivered, repeats and bad lines. `mart.f_sales_lines` has file and line number
    of every single row.
    """
    from sales_assets.postgres.warehouse import Warehouse

    told = explain(Warehouse(), day)
    mart = Table("source", "status", "rows", "quantity", "amount", title=f"mart.f_sales on {day}")
    for row in told.mart:
        mart.add_row(row["source"], row["status"], str(row["rows"]), str(row["quantity"]), str(row["amount"]))
    out.print(mart if told.mart else f"mart.f_sales has no row on {day}")
    fetches = Table(
        "fetch",
        "kind",
        "statuses",
        "kept",
        "repeats",
        "bad",
        "why",
        "delivered",
        "file",
        title="kept fetches, best first",
    )
    for row in told.candidates:
        fetches.add_row(
            str(row["fetch_id"]),
            row["kind"],
            "yes" if row["has_status"] else "no",
            str(row["kept"]),
            str(row["repeats"]),
            str(row["bad"]),
            row["told"],
            "once" if row["times"] == 1 else f"{row['times']} times, last {row['last_at']:%Y-%m-%d %H:%M:%S}",
            row["path"],
        )
    out.print(fetches if told.candidates else "no kept fetch covers the day")
    if told.staged:
        out.print(
            f"staged from fetch {told.staged['fetch_id']}: {told.staged['rows']} rows at "
            f"{told.staged['staged_at']:%Y-%m-%d %H:%M:%S} by run {told.staged['run_id']}"
        )
    answers = Table(
        "asked at", "answer", "order file", "reason", title="what the report API answered for the increment"
    )
    for row in told.deliveries:
        contents = "" if row["fetch_id"] is None else f"fetch {row['fetch_id']}"
        if row["number"] != row["fetch_id"]:
            contents = f"same contents as {contents}"
        answers.add_row(f"{row['asked_at']:%Y-%m-%d %H:%M:%S}", row["outcome"], contents, row["reason"] or "")
    out.print(answers if told.deliveries else "the increment of the day was never asked for")
    bad = Table("id", "fetch", "line", "state", "reason", title="lines in quarantine")
    for row in told.bad_lines:
        state = state_of(row)
        bad.add_row(str(row["quarantine_id"]), str(row["fetch_id"]), str(row["line_no"]), state, row["reason"])
    if told.bad_lines:
        out.print(bad)


def explain(warehouse: "Warehouse", day: dt.date) -> Explanation:
    """Collect what the warehouse knows of a day."""
    from sales_assets.schemas.calendar import date_id
    from sales_assets.schemas.report_files import USER_ORDERS_LOG

    number = date_id(day)
    with warehouse.transaction("sales_assets why", read_only=True) as transaction:
        staged = transaction.row("staging/why", "staged", date_id=number)
        counts = {row["fetch_id"]: row for row in transaction.rows("staging/why", "counts", date_id=number)}
        candidates = transaction.rows(
            "staging/staged_day", "candidates", file=USER_ORDERS_LOG.name, days=[day], every=True
        )
        fetch_ids = [candidate["fetch_id"] for candidate in candidates]
        delivered = {
            row["fetch_id"]: row for row in transaction.rows("staging/why", "times_delivered", fetch_ids=fetch_ids)
        }
        best = candidates[0] if candidates and candidates[0]["verdict"] == "usable" else None
        for candidate in candidates:
            count = counts.get(candidate["fetch_id"], {})
            candidate |= {key: count.get(key, 0) for key in ("kept", "repeats", "bad")}
            times = delivered.get(candidate["fetch_id"], {})
            candidate |= {"times": times.get("times", 1), "last_at": times.get("last_at", candidate["fetched_at"])}
            candidate["told"] = _told(candidate, best)
        return Explanation(
            day=day,
            mart=transaction.rows("staging/why", "mart", date_id=number),
            staged=staged,
            candidates=candidates,
            deliveries=transaction.rows("staging/why", "deliveries", day=day),
            bad_lines=transaction.rows("staging/why", "bad_lines", day=day, date_id=number, limit=_SHOWN_BAD_LINES),
        )


def _told(candidate: Row, best: Row | None) -> str:
    """Why a fetch was chosen, or what it lost by: the first of the rules on which it differs from the best."""
    if candidate["verdict"] is None:
        return "not read yet"
    if candidate["verdict"] == "failed":
        return f"never chosen: {candidate['reason']}"
    assert best is not None, "a usable fetch stands behind a usable best"
    if candidate["fetch_id"] == best["fetch_id"]:
        return "chosen"
    if candidate["has_status"] != best["has_status"]:
        return f"has no statuses, {best['fetch_id']} has"
    if candidate["kind"] != best["kind"]:
        return f"a report, {best['fetch_id']} is an increment"
    return f"delivered before {best['fetch_id']}"
