"""Spill buffer: rows by key, returned from memory or files while more rows are added."""

from pathlib import Path

import pyarrow as pa
import pytest

from sales_assets.pipeline import spill
from sales_assets.pipeline.spill import SpillBuffer


def rows(*numbers: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"n": pa.array(numbers, pa.int64())})


@pytest.mark.parametrize("held", [1, 1 << 20])
def test_rows_are_returned_in_order_and_concurrent_additions_by_the_next_iteration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    """While rows of one key are read, adding rows for another key may move them from memory to a file."""
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


def test_rows_are_held_in_memory_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill, "HELD_BYTES", 3 * rows(1).nbytes)
    folder = tmp_path / "deep" / "buffer"
    buffer = SpillBuffer(folder)
    buffer.add("a", rows(1))
    buffer.add("b", rows(2, 3))
    assert not folder.exists()
    buffer.add("a", rows(4))
    assert {file.name for file in folder.iterdir()} == {"a.arrows", "b.arrows"}
    size = (folder / "a.arrows").stat().st_size
    buffer.add("a", rows(5, 6, 7))
    assert (folder / "a.arrows").stat().st_size == size
    buffer.add("b", rows(8))
    assert (folder / "a.arrows").stat().st_size > size


def test_dropped_rows_free_their_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill, "HELD_BYTES", 3 * rows(1).nbytes)
    buffer = SpillBuffer(tmp_path / "buffer")
    buffer.add("a", rows(1))
    buffer.add("b", rows(2, 3))
    buffer.drop("b")
    buffer.drop("of nobody")
    buffer.add("c", rows(4, 5))
    assert list(tmp_path.iterdir()) == []
    buffer.add("c", rows(6))
    assert buffer.rows == {"a": 1, "c": 3}
    buffer.drop("c")
    assert [file.name for file in (tmp_path / "buffer").iterdir()] == ["a.arrows"]
    assert buffer.table("c") is None


def test_spilled_rows_are_returned_in_small_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill, "HELD_BYTES", 1)
    monkeypatch.setattr(spill, "_ROWS_PER_BATCH", 2)
    buffer = SpillBuffer(tmp_path / "buffer")
    buffer.add("a", rows(1, 2, 3, 4, 5))
    assert [batch.column("n").to_pylist() for batch in buffer.batches("a")] == [[1, 2], [3, 4], [5]]
