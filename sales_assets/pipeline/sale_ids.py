"""Assign ids of ``mart.f_sales`` to order rows; a row that was loaded before keeps its id."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sales_assets.pipeline.hashing import hash_texts
from sales_assets.postgres.warehouse import Transaction
from sales_assets.schemas.line_rules import REFUNDED
from sales_assets.schemas.report_files import USER_ORDERS_LOG

_FORMER = pa.schema([*map(USER_ORDERS_LOG.schema.field, USER_ORDERS_LOG.key), pa.field("sale_id", pa.int64())])

_DRAWN_AT_ONCE = 100_000


class SaleIds:
    """Ids for the rows of some days; assigning to the same rows again gives the same ids.

    new: an id for each row. former: (date_id, uniq_id, status, sale_id) of the rows loaded before.
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
    """Ids by the hash of a row's key: at most some 50 bytes per row; the keys' texts would take several hundred.

    Each id is assigned once. If two keys share a hash, one of them may get the other's id or a new one.
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


def reserve_ids(transaction: Transaction, rows: Mapping[int, int]) -> dict[int, int]:
    """Reserve ids for {day: rows}; returns {day: first id}, or {} if that would have to wait for another writer.

    Commit the transaction at once: other writers wait for it. Without a reservation, `sale_ids` draws ids one by one,
    which takes half a second per million.
    """
    (reserved,) = transaction.rows("mart/f_sales", "reserve_ids", count=max(1, sum(rows.values())))
    if reserved["first_id"] is None:
        return {}
    starts = itertools.accumulate(rows.values(), initial=reserved["first_id"])
    return dict(zip(rows, starts, strict=False))


def sale_ids(
    transaction: Transaction, rows: Mapping[int, int], reserved: Mapping[int, int], replaced_days: Sequence[int]
) -> SaleIds:
    """Get new ids for {day: rows}, and the former ids of the rows staged for `replaced_days`.

    reserved: {day: first id} of days for which ids were reserved.
    """
    former: Iterable[pa.RecordBatch] = ()
    if replaced_days:
        window = {"first_date_id": min(replaced_days), "last_date_id": max(replaced_days)}
        parameters = {"date_ids": list(replaced_days), **window}
        former = transaction.copy_out("staging/user_orders_log", "former_ids", _FORMER, **parameters)
    if rows.keys() <= reserved.keys():
        new = [np.arange(reserved[day], reserved[day] + count, dtype=np.int64) for day, count in rows.items()]
    else:
        new = list(_draw(transaction, sum(rows.values())))
    return SaleIds(np.concatenate([np.empty(0, np.int64), *new]), former)


def _draw(transaction: Transaction, count: int) -> Iterator[npt.NDArray[np.int64]]:
    """Draw ids from the sequence of ``mart.f_sales``, which concurrent writers share."""
    for at in range(0, count, _DRAWN_AT_ONCE):
        (drawn,) = transaction.rows("mart/f_sales", "draw_ids", count=min(_DRAWN_AT_ONCE, count - at))
        yield np.array(drawn["ids"], np.int64)
