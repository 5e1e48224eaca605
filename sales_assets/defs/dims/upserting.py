"""Dimension rows of some days, made in the transaction that loads them.

Belongs here: the order of the upserts. Does not belong here: the statements (``sql/dims``), or Dagster.
"""

import datetime as dt
from collections.abc import Sequence

from sales_assets.resources.warehouse import Transaction

NAMED_DIMENSIONS = ("d_city", "d_customer", "d_item")


def add_calendar_days(transaction: Transaction, first_day: dt.date, last_day: dt.date) -> int:
    """Make sure that no day is missing between these and any other that was asked for; returns how many were added."""
    return transaction.run("dims/d_calendar", "add_days", first_day=first_day, last_day=last_day)


def upsert_dimensions(transaction: Transaction, date_ids: Sequence[int]) -> dict[str, int]:
    """Take cities, customers and items from the staged lines of the days; returns {table: rows written}."""
    return {table: transaction.run(f"dims/{table}", "upsert", date_ids=list(date_ids)) for table in NAMED_DIMENSIONS}
