"""Ids of mart rows: new rows get ids in order, unchanged rows keep theirs."""

import numpy as np
import pyarrow as pa
import pytest

from sales_assets.pipeline import sale_ids
from sales_assets.pipeline.sale_ids import SaleIds, reserve_ids
from sales_assets.postgres.warehouse import Warehouse

_SCHEMA = pa.schema([("date_id", pa.int32()), ("uniq_id", pa.string()), ("status", pa.string())])
_FORMER = _SCHEMA.append(pa.field("sale_id", pa.int64()))


def rows(*keys: tuple[int, str, str]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([dict(zip(_SCHEMA.names, key, strict=True)) for key in keys], _SCHEMA)


def former(*keys: tuple[int, str, str, int]) -> list[pa.RecordBatch]:
    return [pa.RecordBatch.from_pylist([dict(zip(_FORMER.names, key, strict=True))], _FORMER) for key in keys]


def assigned(ids: SaleIds, *batches: pa.RecordBatch) -> list[int]:
    return [number for batch in ids.assign(batches) for number in batch.column("sale_id").to_pylist()]


def test_new_rows_get_new_ids_in_order() -> None:
    ids = SaleIds(np.array([7, 8, 20]), former())
    assert assigned(ids, rows((1, "a", "shipped"), (1, "b", "shipped")), rows((2, "a", "shipped"))) == [7, 8, 20]


def test_a_row_with_the_same_day_uniq_id_and_status_keeps_its_id() -> None:
    ids = SaleIds(np.array([7, 8, 9, 10]), former((1, "a", "shipped", 3), (1, "z", "shipped", 4)))
    batches = rows((1, "b", "shipped"), (1, "a", "refunded")), rows((2, "a", "shipped"), (1, "a", "shipped"))
    assert assigned(ids, *batches) == [7, 8, 9, 3]
    assert assigned(ids, *batches) == [7, 8, 9, 3]


def test_every_unchanged_row_keeps_its_id() -> None:
    keys = [(1, str(n), "shipped") for n in range(50)]
    ids = SaleIds(np.arange(100, 150), former(*((*key, n) for n, key in enumerate(keys))))
    assert assigned(ids, rows(*keys[:20]), rows(*keys[20:])) == [*range(50)]


@pytest.mark.parametrize("together", [True, False])
def test_keys_that_share_a_hash_never_share_an_id(monkeypatch: pytest.MonkeyPatch, together: bool) -> None:
    monkeypatch.setattr(sale_ids, "_hash_keys", lambda rows: np.zeros(len(rows), np.int64))
    ids = SaleIds(np.array([7, 8, 9]), former((1, "a", "shipped", 3), (1, "b", "shipped", 4)))
    keys = (1, "a", "shipped"), (1, "b", "shipped"), (1, "c", "shipped")
    batches = [rows(*keys)] if together else [rows(key) for key in keys]
    assert len(set(assigned(ids, *batches))) == 3


@pytest.mark.usefixtures("warehouse_url")
def test_ids_are_reserved_for_days_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Days without a reservation draw ids outside the reserved ones."""
    monkeypatch.setattr(sale_ids, "_DRAWN_AT_ONCE", 2)
    second = rows(*((2, str(n), "shipped") for n in range(3)))
    with Warehouse().transaction("ids") as transaction:
        assert reserve_ids(transaction, {}) == {}
        reserved = reserve_ids(transaction, {1: 2, 2: 3, 3: 1})
        assert reserved == {1: 2, 2: 4, 3: 7}
        assert assigned(sale_ids.sale_ids(transaction, {2: 3, 1: 2}, reserved, []), second) == [4, 5, 6]
        assert assigned(sale_ids.sale_ids(transaction, {2: 3, 4: 2}, reserved, []), second) == [8, 9, 10]
        assert reserve_ids(transaction, {5: 1}) == {5: 13}
        assert assigned(sale_ids.sale_ids(transaction, {}, {}, [])) == []
