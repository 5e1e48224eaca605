"""Buffer rows by key: in memory while they are few, spilled to files of one folder when they are many."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

# If larger, memory would grow with the file; if smaller, every day of a small file would cost a file on disk.
HELD_BYTES = 4 << 20
_ROWS_PER_BATCH = 4_000


class SpillBuffer:
    """Arrow batches by key, in the order they were added. Not thread-safe, except for `table` and `batches`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, list[pa.RecordBatch]] = {}
        self._held_bytes = 0
        self._rows: dict[str, int] = {}

    @property
    def rows(self) -> dict[str, int]:
        """Return {key: number of rows}."""
        return self._rows

    def add(self, key: str, data: pa.RecordBatch | pa.Table) -> None:
        """Append rows to a key, which consists of letters, digits, '-' and '_'."""
        assert re.fullmatch(r"[\w-]+", key), "a key is part of a file name"
        batches = data.to_batches() if isinstance(data, pa.Table) else [data]
        self._held.setdefault(key, []).extend(batches)
        self._held_bytes += data.nbytes
        self._rows[key] = self._rows.get(key, 0) + data.num_rows
        if self._held_bytes > HELD_BYTES:
            self._spill()

    def table(self, key: str) -> pa.Table | None:
        """Return all rows of a key in one chunk; None for a key without rows."""
        batches = list(self.batches(key))
        return _combined(batches) if batches else None

    def batches(self, key: str) -> Iterator[pa.RecordBatch]:
        """Yield the rows that a key has when the iteration begins, a few thousand at a time."""
        # Copy: rows added during the iteration may spill the held ones to the file, beyond the size read here.
        held = list(self._held.get(key, []))
        file = self._file(key)
        if file.exists():
            yield from _read(file)
        yield from held

    def drop(self, key: str) -> None:
        """Delete the rows of a key."""
        self._rows.pop(key, None)
        self._held_bytes -= sum(batch.nbytes for batch in self._held.pop(key, []))
        self._file(key).unlink(missing_ok=True)

    def close(self) -> None:
        """Delete everything, the folder included."""
        self._held.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _file(self, key: str) -> Path:
        return self._folder / f"{key}.arrows"

    def _spill(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        for key, batches in self._held.items():
            # Append a stream per spill, then close the file: thousands of days must not be thousands of open files.
            with self._file(key).open("ab") as file, pa.ipc.new_stream(file, batches[0].schema) as stream:
                stream.write_table(_combined(batches), max_chunksize=_ROWS_PER_BATCH)
        self._held.clear()
        self._held_bytes = 0


def _combined(batches: list[pa.RecordBatch]) -> pa.Table:
    """Combine batches into one chunk: a large file gives a key thousands, and each takes time in later steps."""
    return pa.Table.from_batches(batches).combine_chunks()


def _read(file: Path) -> Iterator[pa.RecordBatch]:
    with pa.OSFile(str(file)) as source:
        size = source.size()
        while source.tell() < size:
            with pa.ipc.open_stream(source) as stream:
                yield from stream
