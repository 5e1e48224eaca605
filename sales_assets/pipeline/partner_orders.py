"""Load days of partner orders: staged events -> lines -> rows of ``mart.f_sales``, reconciled before the commit."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sales_assets.pipeline.names import add_calendar_days
from sales_assets.pipeline.sums import NotReconciledError
from sales_assets.postgres.warehouse import Transaction
from sales_assets.schemas.calendar import date_id

Rows = list[dict[str, Any]]

# {SALE_ON: type of the event that makes a sale}
_SALE_KINDS = {"created": "accepted", "done": "done"}


@dataclass(frozen=True)
class LoadedOrders:
    """Counts of the loaded days, one row per day with rows."""

    events: Rows
    lines: Rows
    sales: Rows


def load_order_days(transaction: Transaction, days: Sequence[dt.date], *, timezone: str, sale_on: str) -> LoadedOrders:
    """Replace the order lines of days and their rows of the mart; days without events end up without rows.

    Call it as the only writer (`Warehouse.writing`). Raises `NotReconciledError`.

    timezone: SALES_TIMEZONE, which determines the day of an event.
    sale_on: SALE_ON, which determines the event that makes a sale.
    """
    date_ids = [date_id(day) for day in days]
    add_calendar_days(transaction, days[0], days[-1])
    transaction.run("staging/partner_order_line", "take_events", days=list(days), timezone=timezone)
    transaction.run("staging/partner_order_line", "make_lines", sale_kind=_SALE_KINDS[sale_on])
    transaction.run("staging/partner_order_line", "clear_quarantine", date_ids=date_ids)
    transaction.run("staging/partner_order_line", "quarantine")
    transaction.run("staging/partner_order_line", "remember", date_ids=date_ids)
    transaction.run("mart/f_sales_partner_orders", "clear_days", date_ids=date_ids)
    transaction.run("staging/partner_order_line", "clear_days")
    transaction.run("staging/partner_order_line", "fill_days")
    transaction.run("mart/f_sales_partner_orders", "add_dimension_rows", date_ids=date_ids)
    transaction.run("mart/f_sales_partner_orders", "fill_days", date_ids=date_ids)
    transaction.run("staging/partner_order_event", "mark_loaded")
    wrong = transaction.rows(
        "checks/equal_to_order_lines", "offending", first_date_id=min(date_ids), last_date_id=max(date_ids)
    )
    if wrong:
        raise NotReconciledError("; ".join(f"{row['date_id']}: {row['example']}" for row in wrong))
    return LoadedOrders(
        events=transaction.rows("staging/partner_order_line", "event_summary"),
        lines=transaction.rows("staging/partner_order_line", "summary", date_ids=date_ids),
        sales=transaction.rows("mart/f_sales_partner_orders", "summary", date_ids=date_ids),
    )
