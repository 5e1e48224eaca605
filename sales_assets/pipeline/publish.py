"""Publish rows of staging to ``mart.f_sales``: replace days, and compare what PostgreSQL stored before the commit.

The dimension rows are written by the same transaction or an earlier one (`names`).
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from sales_assets.pipeline.line_rules import REFUNDED, SHIPPED
from sales_assets.pipeline.prefetch import prefetch
from sales_assets.postgres.binary_copy import encode, unscaled
from sales_assets.postgres.warehouse import Transaction
from sales_assets.schemas.report_files import USER_ORDERS_LOG

# The asset check that asks the same of staging and mart; days compared here need not be asked again.
RECONCILIATION = "equal_to_staging"
_SOURCE = "report_api"

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
# Types that binary COPY takes; a column of another one is sent as text.
_BINARY = {
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "numeric": _HUNDREDTHS,
    "text": pa.string(),
    "character varying": pa.string(),
}


class NotReconciledError(Exception):
    """The mart does not hold what was sent for a day; the transaction must not be committed."""


def occupied_days(transaction: Transaction, date_ids: Sequence[int]) -> set[int]:
    """Find the days that have rows a replacement has to delete."""
    if not date_ids:
        return set()
    rows = transaction.rows("facts/f_sales", "occupied_days", **_window(date_ids))
    return {row["date_id"] for row in rows}


def staged_rows(transaction: Transaction, date_ids: Sequence[int]) -> Iterator[pa.RecordBatch]:
    """Read the rows of some days from staging: what `publish_days` needs of them."""
    return transaction.copy_out("staging/user_orders_log", "staged_rows", _STAGED, **_window(date_ids))


def publish_days(
    transaction: Transaction, date_ids: Sequence[int], rows: Iterable[pa.RecordBatch], occupied: Collection[int]
) -> None:
    """Replace days of the mart with the given rows of staging; days that were never staged are left alone.

    rows: batches with the columns of the order file and `sale_id`.
    occupied: the days with rows to delete (`occupied_days`); looking for them in each transaction would cost a first
    load more with every day. Raises NotReconciledError.
    """
    if not date_ids:
        return
    is_replaced = any(day in occupied for day in date_ids)
    if is_replaced:
        transaction.run("facts/f_sales", "clear_days", **_window(date_ids))
    sent = _Sums()
    stored = _copy(transaction, map(sent.count, map(_mart_rows, rows)))
    if is_replaced:
        found = transaction.rows("facts/f_sales", "sums_of_days", **_window(date_ids))
    else:
        found = transaction.rows(
            "facts/f_sales", "sums_of_ids", first_id=sent.first_id, last_id=sent.last_id, **_window(date_ids)
        )
    sent.compare(stored, found)


def _window(date_ids: Sequence[int]) -> dict[str, object]:
    return {"date_ids": list(date_ids), "first_date_id": min(date_ids), "last_date_id": max(date_ids)}


def _mart_rows(staged: pa.RecordBatch) -> pa.RecordBatch:
    """Rows of the mart. Refunds become negative here and nowhere else, so that every SUM is net."""
    is_refunded = pc.equal(staged.column("status"), REFUNDED)
    columns = {name: staged.column(column) for name, column in _COLUMNS.items()}
    for name in ("quantity", "amount"):
        columns[name] = pc.if_else(is_refunded, pc.negate(columns[name]), columns[name])
    columns["source"] = pa.repeat(_SOURCE, staged.num_rows)
    return pa.RecordBatch.from_pydict(columns)


def _copy(transaction: Transaction, rows: Iterator[pa.RecordBatch]) -> int:
    types = {row["column"]: row["type"] for row in transaction.rows("facts/f_sales", "column_types")}
    binary = [_BINARY.get(types[name]) for name in (*_COLUMNS, "source")]
    if None in binary:
        return transaction.copy("facts/f_sales", "copy_rows_as_text", map(_as_csv, rows), binary=False)

    def encoded() -> Iterator[memoryview]:
        for batch in rows:
            columns = [column.cast(kind) for column, kind in zip(batch.columns, binary, strict=True)]
            yield encode(pa.RecordBatch.from_arrays(columns, batch.schema.names))

    with closing(prefetch(encoded())) as blocks:
        return transaction.copy("facts/f_sales", "copy_rows", blocks)


def _as_csv(rows: pa.RecordBatch) -> memoryview:
    text = BytesIO()
    pa_csv.write_csv(rows, text, pa_csv.WriteOptions(include_header=False))
    return text.getbuffer()


class _Sums:
    """Sums of mart rows by day and status, to be compared with those that PostgreSQL finds.

    `keys` ties item, customer and city to the row's id: totals alone would not show that two rows have swapped them.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.first_id, self.last_id = 0, -1
        # {(date_id, status): [rows, quantity and amount in hundredths, keys modulo 2 ** 64]}
        self._sums: dict[tuple[int, str], list[int]] = {}

    def count(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Add a batch of mart rows; returns it."""
        ids, days, item, customer, city = (
            rows.column(name).to_numpy().astype(np.int64)
            for name in ("id", "date_id", "item_id", "customer_id", "city_id")
        )
        if not len(ids):
            return rows
        first, last = int(ids.min()), int(ids.max())
        self.first_id = min(self.first_id, first) if self.rows else first
        self.last_id = max(self.last_id, last)
        self.rows += len(ids)
        # Sums that are too large for 64 bits wrap around, which is what modulo 2 ** 64 means.
        keys = ids % 65521 * (1 + item + 7 * customer + 31 * city)
        values = np.stack([np.ones_like(ids), unscaled(rows.column("quantity")), unscaled(rows.column("amount")), keys])
        is_refunded = pc.equal(rows.column("status"), REFUNDED).to_numpy(zero_copy_only=False)
        groups, members = np.unique(2 * days + is_refunded, return_inverse=True)
        sums = np.zeros((len(values), len(groups)), np.int64)
        for total, of_rows in zip(sums, values, strict=True):
            np.add.at(total, members, of_rows)
        for group, added in zip(groups.tolist(), sums.T.tolist(), strict=True):
            key = group // 2, REFUNDED if group % 2 else SHIPPED
            known = self._sums.get(key, [0, 0, 0, 0])
            self._sums[key] = [a + b for a, b in zip(known, added, strict=True)]
        return rows

    def compare(self, stored: int, found: Iterable[Mapping[str, Any]]) -> None:
        """Raise NotReconciledError unless PostgreSQL stored and finds the rows that were counted."""
        sent = {key: (*sums[:3], sums[3] % 2**64) for key, sums in self._sums.items()}
        held = {
            (row["date_id"], row["status"]): (
                row["rows"],
                int(row["quantity"] * 100),
                int(row["amount"] * 100),
                int(row["keys"]) % 2**64,
            )
            for row in found
        }
        wrong = [
            f"{key[0]}: {key[1]}: {_spelled(sent.get(key))} sent, {_spelled(held.get(key))} in the mart"
            for key in sorted(sent.keys() | held.keys())
            if sent.get(key) != held.get(key)
        ]
        if stored != self.rows:
            wrong.append(f"{self.rows} rows were sent, {stored} stored")
        if wrong:
            raise NotReconciledError("; ".join(wrong))


def _spelled(sums: tuple[int, ...] | None) -> str:
    rows, quantity, amount, keys = sums or (0, 0, 0, 0)
    return f"{rows} rows, quantity {quantity / 100:.2f}, amount {amount / 100:.2f}, keys {keys:x}"
