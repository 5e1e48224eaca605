"""Load days of partner orders: staged events -> lines -> rows of ``mart.f_sales``, reconciled before the commit.

Loads of different days run at the same time, and beside loads from the report API (``sql/locks.sql``).
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from sales_assets.pipeline.names import add_calendar_days
from sales_assets.pipeline.sums import NotReconciledError
from sales_assets.postgres.warehouse import DayLock, Transaction, Warehouse
from sales_assets.schemas.calendar import date_id

Rows = list[dict[str, Any]]

# Loads with different values of SALES_TIMEZONE can put the same line on different days. Each such load takes one more
# attempt, which also locks that load's day.
_MOST_COLLISIONS = 5

# {SALE_ON: type of the event that makes a sale}
_SALE_KINDS = {"created": "accepted", "done": "done"}


@dataclass(frozen=True)
class LoadedOrders:
    """Counts of the loaded days, one row per day with rows.

    lock_wait_seconds: time that the load waited for other writers of its days.
    """

    events: Rows
    lines: Rows
    sales: Rows
    lock_wait_seconds: float


def load_order_days(
    warehouse: Warehouse, days: Sequence[dt.date], run_id: str, *, timezone: str, sale_on: str
) -> LoadedOrders:
    """Replace the order lines of days and their rows of the mart; days without events end up without rows.

    Raises `NotReconciledError`.

    timezone: SALES_TIMEZONE, which determines the day of an event.
    sale_on: SALE_ON, which determines the event that makes a sale.
    """
    locked = {date_id(day) for day in days}
    date_ids = [date_id(day) for day in days]
    waited, collisions = 0.0, 0
    while True:
        purpose = f"{run_id[:8]} locks of order days {min(locked)}..{max(locked)}"
        try:
            with (
                warehouse.writing_days(purpose, locked, DayLock.PARTNER_ORDERS) as writer,
                writer.transaction(f"{run_id[:8]} partner orders") as transaction,
            ):
                waited += writer.waited_seconds
                _make_lines(transaction, days, timezone=timezone, sale_on=sale_on)
                former = transaction.rows("staging/partner_order_line", "former_days", date_ids=date_ids)
                elsewhere = {row["date_id"] for row in former} - locked
                if not elsewhere:
                    return _replace_days(transaction, days, waited)
        except psycopg.errors.UniqueViolation:
            # Another load, with another time zone, has just put new lines on another day; the next attempt finds them.
            collisions += 1
            if collisions > _MOST_COLLISIONS:
                raise
            continue
        # A changed time zone or SALE_ON moves lines from these days, which another load may be writing.
        locked |= elsewhere


def _make_lines(transaction: Transaction, days: Sequence[dt.date], *, timezone: str, sale_on: str) -> None:
    """Make the lines of days from their events, in temporary tables."""
    transaction.run("staging/partner_order_line", "take_events", days=list(days), timezone=timezone)
    transaction.run("staging/partner_order_line", "make_lines", sale_kind=_SALE_KINDS[sale_on])


def _replace_days(transaction: Transaction, days: Sequence[dt.date], waited: float) -> LoadedOrders:
    date_ids = [date_id(day) for day in days]
    transaction.run("staging/partner_order_line", "clear_quarantine", date_ids=date_ids)
    transaction.run("staging/partner_order_line", "quarantine")
    transaction.run("staging/partner_order_line", "remember", date_ids=date_ids)
    transaction.run("mart/f_sales_partner_orders", "clear_days", date_ids=date_ids)
    transaction.run("staging/partner_order_line", "clear_days")
    transaction.run("staging/partner_order_line", "fill_days")
    transaction.run("mart/f_sales_partner_orders", "fill_days", date_ids=date_ids)
    transaction.run("staging/partner_order_event", "mark_loaded")
    wrong = transaction.rows(
        "checks/equal_to_order_lines", "offending", first_date_id=min(date_ids), last_date_id=max(date_ids)
    )
    if wrong:
        raise NotReconciledError("; ".join(f"{row['date_id']}: {row['example']}" for row in wrong))
    loaded = LoadedOrders(
        events=transaction.rows("staging/partner_order_line", "event_summary"),
        lines=transaction.rows("staging/partner_order_line", "summary", date_ids=date_ids),
        sales=transaction.rows("mart/f_sales_partner_orders", "summary", date_ids=date_ids),
        lock_wait_seconds=waited,
    )
    add_calendar_days(transaction, days[0], days[-1])
    transaction.run("mart/f_sales_partner_orders", "add_dimension_rows", date_ids=date_ids)
    return loaded
