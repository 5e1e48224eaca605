"""Tables on their way: rows by bucket, in memory while they are few, in files of one folder when they are many.

Belongs here: keeping arrow batches apart by bucket in bounded memory. Does not belong here: what a bucket means.
"""

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from sales_assets.settings import settings

# Larger and a load would grow with its file; smaller and every day of a small one would cost a file.
HELD_BYTES = 4 << 20
# What `batches` gives at most at once.
_ROWS_A_BATCH = 4_000


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder below SALES_HOME that goes with the block."""
    parent = settings().sales_home / "tmp"
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


class Spool:
    """Batches by bucket. Not for several threads at once, but for `get` and `batches`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, list[pa.RecordBatch]] = {}
        self._held_bytes = 0
        self._rows: dict[str, int] = {}

    @property
    def rows(self) -> dict[str, int]:
        """{bucket: rows} of all buckets."""
        return self._rows

    def add(self, bucket: str, data: pa.RecordBatch | pa.Table) -> None:
        """Append rows to a bucket; the name is of letters, digits, '-' and '_'."""
        assert re.fullmatch(r"[\w-]+", bucket), "a bucket's name is part of a file's name"
        batches = data.to_batches() if isinstance(data, pa.Table) else [data]
        self._held.setdefault(bucket, []).extend(batches)
        self._held_bytes += data.nbytes
        self._rows[bucket] = self._rows.get(bucket, 0) + data.num_rows
        if self._held_bytes > HELD_BYTES:
            self._write_down()

    def get(self, bucket: str) -> pa.Table | None:
        """All rows of a bucket, in the order they came and in one chunk; None for one without rows."""
        batches = list(self.batches(bucket))
        return _in_one(batches) if batches else None

    def batches(self, bucket: str) -> Iterator[pa.RecordBatch]:
        """The same a few rows at a time, as they were added or written down."""
        file = self._file(bucket)
        if file.exists():
            yield from _read(file)
        yield from self._held.get(bucket, [])

    def rename(self, bucket: str, to: str) -> None:
        """Give a bucket another name, under which there is none yet."""
        self._rows[to] = self._rows.pop(bucket)
        if bucket in self._held:
            self._held[to] = self._held.pop(bucket)
        if self._file(bucket).exists():
            self._file(bucket).rename(self._file(to))

    def drop(self, bucket: str) -> None:
        """Forget a bucket."""
        self._rows.pop(bucket, None)
        self._held_bytes -= sum(batch.nbytes for batch in self._held.pop(bucket, []))
        self._file(bucket).unlink(missing_ok=True)

    def close(self) -> None:
        self._held.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _file(self, bucket: str) -> Path:
        return self._folder / f"{bucket}.arrows"

    def _write_down(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        for bucket, batches in self._held.items():
            # One stream after the other in one file: thousands of days must not be thousands of open files.
            with self._file(bucket).open("ab") as file, pa.ipc.new_stream(file, batches[0].schema) as stream:
                stream.write_table(_in_one(batches), max_chunksize=_ROWS_A_BATCH)
        self._held.clear()
        self._held_bytes = 0


def _in_one(batches: list[pa.RecordBatch]) -> pa.Table:
    """A large file gives a bucket thousands of slices of a few rows, and every step after costs by the slice."""
    return pa.Table.from_batches(batches).combine_chunks()


def _read(file: Path) -> Iterator[pa.RecordBatch]:
    with pa.OSFile(str(file)) as source:
        size = source.size()
        while source.tell() < size:
            with pa.ipc.open_stream(source) as stream:
                yield from stream
