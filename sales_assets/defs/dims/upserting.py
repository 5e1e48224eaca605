"""Dimension rows of some days, made in the transaction that loads them.

Belongs here: gathering names, from lines on their way or from staging, and the order of the upserts.
Does not belong here: which name wins (``sql/dims``), or Dagster.
"""

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

from sales_assets.contracts.parse import to_copy
from sales_assets.resources.warehouse import Transaction

# Dimension: (its key, the columns of its name) in an order line.
NAMED_DIMENSIONS = {
    "d_city": ("city_id", ("city_name",)),
    "d_customer": ("customer_id", ("first_name", "last_name")),
    "d_item": ("item_id", ("item_name",)),
}


def add_calendar_days(transaction: Transaction, first_day: dt.date, last_day: dt.date) -> int:
    """Make sure that no day is missing between these and any other that was asked for; returns how many were added."""
    return transaction.run("dims/d_calendar", "add_days", first_day=first_day, last_day=last_day)


def names_in(lines: pa.Table) -> pa.Table:
    """The names in order lines with the latest time each was used: a few rows, whatever the number of lines."""
    found = []
    for table, (key, names) in NAMED_DIMENSIONS.items():
        grouped = lines.group_by([key, *names], use_threads=False)
        latest = grouped.aggregate([("date_time", "max"), ("line_no", "max")])
        rows = latest.num_rows
        columns = [
            pa.repeat(pa.scalar(table), rows),
            latest.column(key),
            latest.column(names[0]),
            latest.column(names[1]) if len(names) > 1 else pa.repeat(pa.scalar(""), rows),
            latest.column("date_time_max"),
            latest.column("line_no_max"),
        ]
        found.append(pa.table(columns, names=_COLUMNS))
    return pa.concat_tables(found)


_COLUMNS = ["dimension", "id", "first", "second", "date_time", "line_no"]


def upsert_names(transaction: Transaction, names: Iterable[pa.Table]) -> dict[str, int]:
    """Take gathered names into cities, customers and items; returns {table: rows written}."""

    def blocks() -> Iterator[bytes]:
        for table in names:
            for batch in table.to_batches():
                yield to_copy(batch)

    transaction.run("dims/named", "create")
    transaction.copy("dims/named", "copy", blocks())
    return _upsert(transaction)


def upsert_names_from_staging(transaction: Transaction, date_ids: Sequence[int]) -> dict[str, int]:
    """The same from the staged lines of some days."""
    transaction.run("dims/named", "create")
    transaction.run("dims/named", "from_staging", date_ids=list(date_ids))
    return _upsert(transaction)


def _upsert(transaction: Transaction) -> dict[str, int]:
    written = {table: transaction.run(f"dims/{table}", "upsert") for table in NAMED_DIMENSIONS}
    transaction.run("dims/named", "drop")
    return written
