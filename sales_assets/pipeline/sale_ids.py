"""Ids of ``mart.f_sales`` for the order rows of some days: a row that was there before keeps its id."""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sales_assets.pipeline.hashing import hash_texts
from sales_assets.pipeline.line_rules import REFUNDED
from sales_assets.postgres.warehouse import Transaction
from sales_assets.schemas.report_files import USER_ORDERS_LOG

_FORMER = pa.schema([*map(USER_ORDERS_LOG.schema.field, USER_ORDERS_LOG.key), pa.field("sale_id", pa.int64())])

_DRAWN_AT_ONCE = 100_000


class SaleIds:
    """Assigns ids to rows in their order; assigning to the same rows again gives the same ids.

    new: an id for each row. former: (date_id, uniq_id, status, sale_id) of the rows that were there before.
    """

    def __init__(self, new: npt.NDArray[np.int64], former: Iterable[pa.RecordBatch] = ()) -> None:
        self._new = new
        hashed = [(_hash_keys(rows), rows.column("sale_id").to_numpy()) for rows in former]
        self._former = _FormerIds(*map(np.concatenate, zip(*hashed, strict=True))) if hashed else None

    def assign(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Append the column sale_id to batches of order rows."""
        at = 0
        if self._former is not None:
            self._former.forget_uses()
        for rows in batches:
            ids = self._new[at : at + rows.num_rows]
            at += rows.num_rows
            if self._former is not None:
                ids = self._former.replace_in(ids, rows)
            yield rows.append_column("sale_id", pa.array(ids))


class _FormerIds:
    """Ids by a hash of the row's key: 16 bytes a row, where the texts of five million would take a gigabyte.

    Each id is given once. So where two keys share a hash, at worst one gets the id of the other, or a new one.
    """

    def __init__(self, hashes: npt.NDArray[np.int64], ids: npt.NDArray[np.int64]) -> None:
        order = np.argsort(hashes)
        self._hashes, self._ids = hashes[order], ids[order]
        self._is_used = np.zeros(len(order), dtype=np.bool_)

    def forget_uses(self) -> None:
        self._is_used[:] = False

    def replace_in(self, ids: npt.NDArray[np.int64], rows: pa.RecordBatch) -> npt.NDArray[np.int64]:
        hashes = _hash_keys(rows)
        at = np.searchsorted(self._hashes, hashes).clip(max=len(self._hashes) - 1)
        keeps = (self._hashes[at] == hashes) & ~self._is_used[at]
        _, first = np.unique(at[keeps], return_index=True)
        keeping = np.flatnonzero(keeps)[first]
        self._is_used[at[keeping]] = True
        kept = ids.copy()
        kept[keeping] = self._ids[at[keeping]]
        return kept


def _hash_keys(rows: pa.RecordBatch) -> npt.NDArray[np.int64]:
    days = rows.column("date_id").to_numpy().astype(np.int64)
    is_refunded = pc.equal(rows.column("status"), REFUNDED).to_numpy(zero_copy_only=False)
    hashes = hash_texts(rows.column("uniq_id"))
    hashes += (2 * days + is_refunded) << 32
    return hashes


def sale_ids(transaction: Transaction, rows: int, replaced_days: list[int]) -> SaleIds:
    """Draw ids for a number of rows, and read the ids of the rows that are staged for the days to be replaced."""
    former: Iterable[pa.RecordBatch] = ()
    if replaced_days:
        window = {"first_date_id": min(replaced_days), "last_date_id": max(replaced_days)}
        former = transaction.copy_out(
            "staging/user_orders_log", "former_ids", _FORMER, date_ids=replaced_days, **window
        )
    return SaleIds(_draw(transaction, rows), former)


def _draw(transaction: Transaction, count: int) -> npt.NDArray[np.int64]:
    """Draw ids from the sequence of ``mart.f_sales``, from which other writers draw at the same time.

    One `nextval` an id costs a third of a second per million. To move the sequence by `count` at once takes its owner,
    and a lock that every open transaction of another writer would hold up.
    """
    drawn = np.empty(count, np.int64)
    for at in range(0, count, _DRAWN_AT_ONCE):
        ids = transaction.rows("facts/f_sales", "draw_ids", count=min(_DRAWN_AT_ONCE, count - at))[0]["ids"]
        drawn[at : at + len(ids)] = ids
    return drawn
