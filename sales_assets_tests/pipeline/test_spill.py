"""The spill buffer returns rows by key, from memory or files, while more rows are added."""

from pathlib import Path

import pyarrow as pa
import pytest

from sales_assets.pipeline import spill
from sales_assets.pipeline.spill import SpillBuffer


def rows(*numbers: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"n": pa.array(numbers, pa.int64())})


@pytest.mark.parametrize("held", [1, 1 << 20])
def test_rows_come_back_in_order_and_those_added_meanwhile_with_the_next_iteration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    """Adding to another key may send the rows being read to the file."""
    monkeypatch.setattr(spill, "HELD_BYTES", held)
    buffer = SpillBuffer(tmp_path / "buffer")
    buffer.add("a", rows(1, 2))
    monkeypatch.setattr(spill, "HELD_BYTES", 1 << 20)
    buffer.add("a", rows(3))
    monkeypatch.setattr(spill, "HELD_BYTES", held)
    seen = []
    for batch in buffer.batches("a"):
        seen += batch.column("n").to_pylist()
        buffer.add("b", batch)
        buffer.add("a", rows(9))
    assert seen == [1, 2, 3]
    table = buffer.table("a")
    assert table is not None
    assert table.column("n").to_pylist() == [1, 2, 3, 9, 9]
    assert buffer.rows == {"a": 5, "b": 3}
    buffer.close()
    assert list(tmp_path.iterdir()) == []
