"""Read rows of ``mart.f_sales`` with the names of their dimensions, a day at a time.

Memory does not depend on the number of rows. A transaction that begins with `use_one_snapshot` sees all days as of one
moment.
"""

import datetime as dt
import re
from collections.abc import Iterator, Sequence

import pyarrow as pa

from sales_assets.postgres.warehouse import Transaction
from sales_assets.schemas.calendar import date_id

_STATEMENTS = "mart/f_sales"
_NUMERIC = re.compile(r"numeric\((\d+),(\d+)\)")
# Types for columns of an adopted mart. A value with more digits is an error.
_INTEGER = pa.decimal128(19, 0)
_ANY_NUMBER = pa.decimal128(38, 10)


def use_one_snapshot(transaction: Transaction) -> None:
    """Fix the transaction to one snapshot of the mart; it must not have run a statement yet."""
    transaction.run(_STATEMENTS, "use_one_snapshot")


def row_counts(transaction: Transaction, days: Sequence[dt.date]) -> dict[dt.date, int]:
    """Count the rows per day, in the order of the days; days without rows are left out."""
    numbers = [date_id(day) for day in days]
    rows = {row["date_id"]: row["rows"] for row in transaction.rows(_STATEMENTS, "summary", date_ids=numbers)}
    return {day: rows[number] for day, number in zip(days, numbers, strict=True) if number in rows}


def schema_of(transaction: Transaction) -> pa.Schema:
    """Return the columns of `rows_of`, with the mart's types of quantity and amount."""
    numbers = {row["column"]: _decimal(row["type"]) for row in transaction.rows(_STATEMENTS, "number_types")}
    return pa.schema(
        [
            ("id", pa.int64()),
            ("date_id", pa.int32()),
            ("date", pa.date32()),
            ("city_id", pa.int64()),
            ("city_name", pa.string()),
            ("customer_id", pa.int64()),
            ("first_name", pa.string()),
            ("last_name", pa.string()),
            ("item_id", pa.int64()),
            ("item_name", pa.string()),
            ("quantity", numbers["quantity"]),
            ("amount", numbers["amount"]),
            ("status", pa.string()),
            ("source", pa.string()),
        ]
    )


def rows_of(transaction: Transaction, schema: pa.Schema, day: dt.date) -> Iterator[pa.RecordBatch]:
    """Read the rows of a day by id. `schema` is that of `schema_of`."""
    return transaction.copy_out(_STATEMENTS, "named_rows", schema, date_id=date_id(day), for_spreadsheets=False)


def csv_of(transaction: Transaction, day: dt.date) -> Iterator[bytes]:
    """Read the rows of a day as CSV without a header: PostgreSQL's text, NULL as an empty field, '' as two quotes.

    A name that a spreadsheet would read as a formula is prefixed with an apostrophe.
    """
    return transaction.copy_text(_STATEMENTS, "named_rows", date_id=date_id(day), for_spreadsheets=True)


def _decimal(type_name: str) -> pa.Decimal128Type:
    if found := _NUMERIC.fullmatch(type_name):
        return pa.decimal128(int(found[1]), int(found[2]))
    return _INTEGER if type_name in ("smallint", "integer", "bigint") else _ANY_NUMBER
