"""`sales-assets why DAY`: from the mart's numbers of a day back to the fetch they come from, and why that one.

Does not belong here: the choice itself (``sql/staging/staged_day.sql``); this only tells it.
"""

import datetime as dt
from dataclasses import dataclass
from typing import Any

from sales_assets.postgres.warehouse import Warehouse
from sales_assets.schemas.calendar import date_id
from sales_assets.schemas.report_files import USER_ORDERS_LOG

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


def explain(warehouse: Warehouse, day: dt.date) -> Explanation:
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
