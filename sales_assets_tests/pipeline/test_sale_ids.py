"""Ids of mart rows: new ones in order, former ones for rows that stay."""

import numpy as np
import pyarrow as pa
import pytest

from sales_assets.pipeline import sale_ids
from sales_assets.pipeline.sale_ids import SaleIds

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


@pytest.mark.parametrize("together", [True, False])
def test_keys_that_share_a_hash_never_share_an_id(monkeypatch: pytest.MonkeyPatch, together: bool) -> None:
    monkeypatch.setattr(sale_ids, "_hash_keys", lambda rows: np.zeros(len(rows), np.int64))
    ids = SaleIds(np.array([7, 8, 9]), former((1, "a", "shipped", 3), (1, "b", "shipped", 4)))
    keys = (1, "a", "shipped"), (1, "b", "shipped"), (1, "c", "shipped")
    batches = [rows(*keys)] if together else [rows(key) for key in keys]
    assert len(set(assigned(ids, *batches))) == 3
