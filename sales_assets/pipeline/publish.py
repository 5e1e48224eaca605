"""Publish rows of staging to ``mart.f_sales``: replace days, and compare what PostgreSQL stored before the commit.

The dimension rows are written by the same transaction or an earlier one (`names`).
"""

import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from tempfile import SpooledTemporaryFile

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from sales_assets.pipeline.sums import Sums
from sales_assets.postgres.binary_copy import BinaryEncoder
from sales_assets.postgres.warehouse import Transaction, Warehouse
from sales_assets.schemas.line_rules import REFUNDED
from sales_assets.schemas.report_files import USER_ORDERS_LOG

_SOURCE = "report_api"

# One COPY into the mart at a time, while another transaction copies into staging: ids only grow, so that the primary
# key is appended to. Two concurrent COPY took 1.15 times as long, and the key a fifth more space.
_APPENDING = threading.Lock()
# A transaction of 100 000 rows has some 12 MB.
_HELD_BYTES = 4 << 20
_BLOCK_BYTES = 1 << 20

_HUNDREDTHS = pa.decimal128(10, 2)
# {column of mart.f_sales: column of a staged row}, in the order of the COPY.
_COLUMNS = {
    "id": "sale_id",
    "date_id": "date_id",
    "item_id": "item_id",
    "customer_id": "customer_id",
    "city_id": "city_id",
    "quantity": "quantity",
    "amount": "payment_amount",
    "status": "status",
}
_STAGED = pa.schema(
    [
        *(USER_ORDERS_LOG.schema.field(name) for name in _COLUMNS.values() if name != "sale_id"),
        pa.field("sale_id", pa.int64()),
    ]
)
# {type in Arrow: {type in PostgreSQL: type to encode}}; a column of another type is sent as text.
_BINARY: dict[pa.DataType, dict[str, pa.DataType]] = {
    pa.int32(): {"integer": pa.int32(), "bigint": pa.int64()},
    pa.int64(): {"integer": pa.int32(), "bigint": pa.int64()},
    _HUNDREDTHS: {"numeric": _HUNDREDTHS},
    pa.string(): {"text": pa.string(), "character varying": pa.string()},
}
# Maximum ids per row for which a batch is read back by its range of ids.
_LONGEST_SPAN = 4


def occupied_days(transaction: Transaction, date_ids: Sequence[int]) -> set[int]:
    """Find days with rows that a replacement has to delete."""
    if not date_ids:
        return set()
    rows = transaction.rows("mart/f_sales", "occupied_days", **_window(date_ids))
    return {row["date_id"] for row in rows}


def staged_rows(transaction: Transaction, date_ids: Sequence[int]) -> Iterator[pa.RecordBatch]:
    """Read the rows of some days from staging, in the columns that `MartRows` needs."""
    return transaction.copy_out("staging/user_orders_log", "staged_rows", _STAGED, **_window(date_ids))


class MartRows:
    """Mart rows of some days, made from order rows while these are sent to staging.

    They are encoded for COPY immediately, and held in memory or, if they are many, in a temporary file in `folder`.

    sums: sums of the rows so far.
    """

    def __init__(self, transaction: Transaction, folder: Path) -> None:
        self.sums = Sums()
        self._encoder = _encoder(transaction)
        self._encoded = SpooledTemporaryFile(_HELD_BYTES, dir=str(folder))  # noqa: SIM115

    def made_from(self, rows: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield batches of order rows (columns of the file and `sale_id`) unchanged. Call it once, with all rows."""
        for batch in rows:
            self._encoded.write(self._encoder.add(self.sums.count(_mart_rows(batch))))
            yield batch
        self._encoded.write(self._encoder.finish())

    def copy(self, transaction: Transaction) -> int:
        """Send the rows to the mart; returns the number of rows that PostgreSQL stored."""
        self._encoded.seek(0)
        with self._encoded, _APPENDING:
            return transaction.copy("mart/f_sales", self._encoder.statement, iter(self._next_block, b""))

    def _next_block(self) -> bytes:
        return self._encoded.read(_BLOCK_BYTES)


def publish_days(transaction: Transaction, date_ids: Sequence[int], rows: MartRows, occupied: Collection[int]) -> Sums:
    """Replace days of the mart with the given rows; days that were never staged do not change.

    occupied: days with rows to delete (`occupied_days`), found once per file: in a first load, looking for them in each
    transaction would cost more with every day.
    Returns the sums of the sent rows, which equal those read back. Raises NotReconciledError.
    """
    sent = rows.sums
    if not date_ids:
        return sent
    is_replaced = any(day in occupied for day in date_ids)
    if is_replaced:
        transaction.run("mart/f_sales", "clear_days", **_window(date_ids))
    stored = rows.copy(transaction)
    # Rows that keep an earlier id may be far from the new ids.
    if is_replaced or sent.last_id - sent.first_id > _LONGEST_SPAN * sent.rows:
        found = transaction.rows("mart/f_sales", "sums_of_days", **_window(date_ids))
    else:
        ids = {"first_id": sent.first_id, "last_id": sent.last_id}
        found = transaction.rows("mart/f_sales", "sums_of_ids", **ids, date_ids=list(date_ids))
    sent.require_stored(stored, found)
    return sent


def days_of_other_sources(warehouse: Warehouse, date_ids: Collection[int]) -> set[int]:
    """Find days with mart rows from other sources than the report API."""
    if not date_ids:
        return set()
    rows = warehouse.rows("mart/f_sales", "days_of_other_sources", **_window(list(date_ids)))
    return {row["date_id"] for row in rows}


def _window(date_ids: Sequence[int]) -> dict[str, object]:
    return {"date_ids": list(date_ids), "first_date_id": min(date_ids), "last_date_id": max(date_ids)}


def _mart_rows(staged: pa.RecordBatch) -> pa.RecordBatch:
    """Make rows of the mart from order rows. Refunds become negative, so that every SUM is net."""
    is_refunded = pc.equal(staged.column("status"), REFUNDED)
    columns = {name: staged.column(column) for name, column in _COLUMNS.items()}
    for name in ("quantity", "amount"):
        columns[name] = pc.if_else(is_refunded, pc.negate(columns[name]), columns[name])
    columns["source"] = pa.repeat(_SOURCE, staged.num_rows)
    return pa.RecordBatch.from_pydict(columns)


class _BinaryEncoder:
    """Encodes rows for a binary COPY, in the types of the table."""

    statement = "copy_rows"

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._encoder = BinaryEncoder(schema)
        self.finish = self._encoder.finish

    def add(self, rows: pa.RecordBatch) -> bytes:
        return self._encoder.add(rows.cast(self._schema))


class _TextEncoder:
    """Encodes rows as CSV, which PostgreSQL converts to the types of the table."""

    statement = "copy_rows_as_text"

    def add(self, rows: pa.RecordBatch) -> bytes:
        text = BytesIO()
        pa_csv.write_csv(rows, text, pa_csv.WriteOptions(include_header=False))
        return text.getvalue()

    def finish(self) -> bytes:
        return b""


def _encoder(transaction: Transaction) -> _BinaryEncoder | _TextEncoder:
    """Choose the encoder by the types of the table: an adopted mart may have other types."""
    types = {row["column"]: row["type"] for row in transaction.rows("mart/f_sales", "column_types")}
    schema = _mart_rows(pa.RecordBatch.from_pylist([], _STAGED)).schema
    binary = [_BINARY[field.type].get(types[field.name]) for field in schema]
    if None in binary:
        return _TextEncoder()
    return _BinaryEncoder(pa.schema(list(zip(schema.names, binary, strict=True))))
