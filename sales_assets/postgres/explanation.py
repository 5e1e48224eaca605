"""Explain where a day's numbers come from, for `sales-assets why` and the steward's pages.

The selection itself is in ``sql/staging/staged_day.sql``.
"""

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sales_assets.schemas.calendar import date_id
from sales_assets.schemas.report_files import USER_ORDERS_LOG

if TYPE_CHECKING:
    from sales_assets.postgres.warehouse import Transaction

_SHOWN_REJECTED = 20

Row = dict[str, Any]


@dataclass(frozen=True)
class Explanation:
    """Everything that the warehouse records about a day.

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


def explain(transaction: "Transaction", day: dt.date) -> Explanation:
    """Collect everything that the warehouse records about a day."""
    number = date_id(day)
    staged = transaction.row("staging/why", "staged", date_id=number)
    counts = {row["fetch_id"]: row for row in transaction.rows("staging/why", "counts", date_id=number)}
    candidates = transaction.rows("staging/staged_day", "candidates", file=USER_ORDERS_LOG.name, days=[day], every=True)
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
        return f"has no statuses, unlike fetch {best['fetch_id']}"
    if candidate["kind"] != best["kind"]:
        return f"is a report, fetch {best['fetch_id']} is an increment"
    return f"delivered before fetch {best['fetch_id']}"
