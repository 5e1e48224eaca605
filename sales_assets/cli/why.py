"""`sales-assets why DAY`: explain where a day's numbers come from.

The selection itself is in ``sql/staging/staged_day.sql``.
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

_SHOWN_REJECTED = 20

Row = dict[str, Any]


@dataclass(frozen=True)
class Explanation:
    """Everything the warehouse has on a day.

    candidates: stored files that cover it, best first, each with the reason of its rank.
    deliveries: API responses with the number and fetch of their order file; a number above the fetch's means that the
    same contents were delivered again.
    """

    day: dt.date
    mart: list[Row]
    staged: Row | None
    candidates: list[Row]
    deliveries: list[Row]
    rejected: list[Row]


def why(day: Annotated[dt.date, typer.Argument(parser=dt.date.fromisoformat, metavar="YYYY-MM-DD")]) -> None:
    """Explain where a day's numbers come from.

    Shows the rows of the mart, the selected file, the other stored files with the reason why they were not selected,
    how often each was delivered, duplicates and rejected rows. The view mart.f_sales_lines has the file and line number
    of every row.
    """
    from sales_assets.postgres.warehouse import Warehouse

    explanation = explain(Warehouse(), day)
    mart = Table("source", "status", "rows", "quantity", "amount", title=f"mart.f_sales on {day}")
    for row in explanation.mart:
        mart.add_row(row["source"], row["status"], str(row["rows"]), str(row["quantity"]), str(row["amount"]))
    out.print(mart if explanation.mart else f"mart.f_sales has no row on {day}")
    fetches = Table(
        "fetch",
        "kind",
        "statuses",
        "kept",
        "duplicates",
        "rejected",
        "why",
        "delivered",
        "file",
        title="stored files, best first",
    )
    for row in explanation.candidates:
        fetches.add_row(
            str(row["fetch_id"]),
            row["kind"],
            "yes" if row["has_status"] else "no",
            str(row["kept"]),
            str(row["repeats"]),
            str(row["bad"]),
            row["reason_of_rank"],
            "once" if row["times"] == 1 else f"{row['times']} times, last {row['last_at']:%Y-%m-%d %H:%M:%S}",
            row["path"],
        )
    out.print(fetches if explanation.candidates else "no stored file covers the day")
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
    out.print(answers if explanation.deliveries else "the increment of the day was never requested")
    bad = Table("id", "fetch", "line", "state", "reason", title="rows in quarantine")
    for row in explanation.rejected:
        state = state_of(row)
        bad.add_row(str(row["quarantine_id"]), str(row["fetch_id"]), str(row["line_no"]), state, row["reason"])
    if explanation.rejected:
        out.print(bad)


def explain(warehouse: "Warehouse", day: dt.date) -> Explanation:
    """Collect everything the warehouse has on a day."""
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
            candidate["reason_of_rank"] = _reason_of_rank(candidate, best)
        return Explanation(
            day=day,
            mart=transaction.rows("staging/why", "mart", date_id=number),
            staged=staged,
            candidates=candidates,
            deliveries=transaction.rows("staging/why", "deliveries", day=day),
            rejected=transaction.rows("staging/why", "rejected_rows", day=day, date_id=number, limit=_SHOWN_REJECTED),
        )


def _reason_of_rank(candidate: Row, best: Row | None) -> str:
    """Explain why a file was selected or not, by the first rule on which it differs from the best one."""
    if candidate["verdict"] is None:
        return "not parsed yet"
    if candidate["verdict"] == "failed":
        return f"never selected: {candidate['reason']}"
    assert best is not None, "if a candidate is usable, so is the best"
    if candidate["fetch_id"] == best["fetch_id"]:
        return "selected"
    if candidate["has_status"] != best["has_status"]:
        return f"has no statuses, {best['fetch_id']} has"
    if candidate["kind"] != best["kind"]:
        return f"a report, {best['fetch_id']} is an increment"
    return f"delivered before {best['fetch_id']}"
