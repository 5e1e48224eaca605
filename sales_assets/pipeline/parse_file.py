"""Parse one raw file: rows by day, rejected rows and counts, in bounded memory. No database is involved.

Every line ends up in exactly one of kept, duplicates and rejected. The rules of a line are in `line_rules`, those
between lines in `deduplicate`; which file wins a day is decided by `file_selection`.
"""

import datetime as dt
import itertools
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sales_assets.pipeline.csv_reader import Batch, ReportReader, parse_line
from sales_assets.pipeline.deduplicate import Deduplicated, deduplicate
from sales_assets.pipeline.fast_path import Flags
from sales_assets.pipeline.file_selection import RawFile
from sales_assets.pipeline.hashing import hash_texts
from sales_assets.pipeline.prefetch import parallel_map, prefetch
from sales_assets.pipeline.spill import SpillBuffer
from sales_assets.resources.raw_files import RawFilesError
from sales_assets.schemas.calendar import date_id
from sales_assets.schemas.line_rules import UnreadableFile
from sales_assets.schemas.report_files import USER_ORDERS_LOG, ReportFile

# Rows that are compared as texts at once: tens of megabytes.
_ROWS_PER_PARTITION = 30_000
# Keys whose hashes are compared at once: 32 MB. A larger day is compared in several passes.
_HASHES_AT_ONCE = 2_000_000
# Rows that are distributed to their days at once: each slice takes time.
_ROWS_PER_DISTRIBUTION = 30_000
_MAX_SHOWN = 40  # characters of a value in a reason

_REJECTED = "rejected"
_OUTSIDE = "outside"
_KEY_HASH = "key_hash"
_ODD = 1_000_003
# The day of the rows of an undated file.
NO_DAY = 0

_REJECTED_SCHEMA = pa.schema(
    [("line_no", pa.int64()), ("date_id", pa.int32()), ("reason", pa.string()), ("text", pa.string())]
)
_ISO_DAY = re.compile(r'(?:^|[,"])(\d{4}-\d{2}-\d{2})(?=[T ,"]|$)', re.ASCII)


@dataclass
class DayCounts:
    """Row counts of one day of a file."""

    kept: int = 0
    duplicates: int = 0
    rejected: int = 0


@dataclass
class ParsedFile:
    """The rows of one raw file, deduplicated and grouped by day.

    days: {date_id: counts}. An undated file (the price list) has the single day `NO_DAY`.
    unreadable: reason why the file as a whole can't be read; such a file has no rows.
    header: columns of the file in its order; empty if it can't be read.
    lacks_uniq_id: the file is a very old order file, whose rows are identified by their contents.
    discarded: lines that a user discarded in quarantine.
    """

    raw_file: RawFile
    file: ReportFile
    _buffer: SpillBuffer
    header: list[str] = field(default_factory=list)
    has_status: bool = False
    extra_columns: list[str] = field(default_factory=list)
    unreadable: str | None = None
    lacks_uniq_id: bool = False
    lines: int = 0
    discarded: int = 0
    outside_period: int = 0
    rejected_count: int = 0
    days: dict[int, DayCounts] = field(default_factory=dict)
    # {date_id: flags of the rows read that share their key hash with another}; these are deduplicated separately.
    _suspected: dict[int, Flags] = field(default_factory=dict)

    @property
    def kept(self) -> int:
        return sum(day.kept for day in self.days.values())

    @property
    def duplicates(self) -> int:
        return sum(day.duplicates for day in self.days.values())

    def kept_on(self, day: int) -> int:
        """Count the kept rows of a day."""
        counts = self.days.get(day if self.file.is_dated else NO_DAY)
        return counts.kept if counts else 0

    def rows(self, day: int) -> Iterator[pa.RecordBatch]:
        """Yield the kept rows of a day with the schema of the file, plus date_id for an undated file."""
        key = day if self.file.is_dated else NO_DAY
        for batch in self._kept_rows(key):
            yield batch if self.file.is_dated else _with_day(batch, day)

    def _kept_rows(self, key: int) -> Iterator[pa.RecordBatch]:
        suspected = self._suspected.get(key)
        at = 0
        for batch in self._buffer.batches(f"rows-{key}"):
            rows = batch.drop_columns([_KEY_HASH])
            if suspected is not None:
                rows = rows.filter(pa.array(~suspected[at : at + len(batch)]))
                at += len(batch)
            if rows.num_rows:
                yield rows
        for partition in [name for name in self._buffer.rows if name.startswith(f"kept-{key}-")]:
            yield from self._buffer.batches(partition)

    def days_sharing_uniq_ids(self) -> set[int]:
        """Find days of an order file that may share a uniq_id with another of its days, by hashes.

        For a very old file these are all days: its rows get their uniq_ids only when they are deduplicated.
        """
        if self.lacks_uniq_id:
            return set(self.days)
        days = sorted(self.days)
        day_bits = len(days).bit_length()
        passes = 1 + sum(self._buffer.rows.get(f"hashes-{day}", 0) for day in days) // _HASHES_AT_ONCE
        shared: set[int] = set()
        for number in range(passes):
            # The day replaces the lowest bits of a hash, so that sorting brings equal hashes together with their days.
            parts = [
                (of[of % passes == number] >> day_bits << day_bits) | at
                for at, day in enumerate(days)
                for of in _hashes(self._buffer, day)
            ]
            hashes = np.concatenate([np.empty(0, np.int64), *parts])
            hashes.sort()
            differs = hashes[1:] ^ hashes[:-1]
            pairs = np.flatnonzero((differs != 0) & (differs >> day_bits == 0))
            for at in np.unique(np.concatenate([hashes[pairs], hashes[pairs + 1]]) & ((1 << day_bits) - 1)):
                shared.add(days[at])
        return shared

    @property
    def rejected(self) -> pa.Table:
        """Return the rejected rows: line_no, date_id (null if unknown), reason, text."""
        return self._buffer.table(_REJECTED) or _REJECTED_SCHEMA.empty_table()


def parse_file(
    read: Callable[[], Iterator[bytes]],
    file: ReportFile,
    raw_file: RawFile,
    corrections: Mapping[int, str | None],
    folder: Path,
) -> ParsedFile:
    """Parse a raw file, spilling to `folder`.

    read: opens the file and yields its bytes; called again when the text of conflicting lines is needed.
    corrections: {line number: replacement text, or None for a discarded line}.
    A file that can't be parsed gives a ParsedFile with `unreadable` set and no rows. Raises `RawFilesError` for a
    file that can't be read from storage or has changed since its fetch; `folder` is cleaned up then.
    """
    parsed = ParsedFile(raw_file, file, SpillBuffer(folder / str(raw_file.fetch_id)))
    try:
        chunks = read()
        try:
            _distribute(parsed, chunks, corrections)
        except UnreadableFile as error:
            # A wrong encoding may show only at the end of the file; the rows read before that are invalid.
            parsed._buffer.close()
            _exhaust(chunks)
            empty = SpillBuffer(folder / f"{raw_file.fetch_id}-unreadable")
            return ParsedFile(raw_file, file, empty, unreadable=str(error))
        reasons = _deduplicate(parsed)
        if reasons:
            _reject_lines(parsed, read(), reasons)
    except RawFilesError:
        parsed._buffer.close()
        raise
    return parsed


def _exhaust(chunks: Iterator[bytes]) -> None:
    """Read to the end, where the checksum is verified: otherwise a damaged copy could pass for a faulty delivery."""
    for _ in chunks:
        pass


def _with_day(batch: pa.RecordBatch, day: int) -> pa.RecordBatch:
    return batch.append_column("date_id", pa.repeat(pa.scalar(day, pa.int32()), batch.num_rows))


# --- distributing rows to days ----------------------------------------------------------------------------


def _distribute(parsed: ParsedFile, chunks: Iterator[bytes], corrections: Mapping[int, str | None]) -> None:
    reader = ReportReader(chunks, parsed.file)
    parsed.header = list(reader.header.columns)
    parsed.has_status = reader.header.has_status
    parsed.extra_columns = list(reader.header.extra_columns)
    parsed.lacks_uniq_id = parsed.file is USER_ORDERS_LOG and "uniq_id" not in reader.header.columns
    waiting: list[pa.RecordBatch] = []
    for batch in prefetch(_corrected(reader, parsed, corrections)):
        parsed.lines += batch.lines.num_rows + batch.rejected.num_rows
        if batch.rejected.num_rows:
            texts = batch.rejected.column("text")
            days_of = [_day_in(text) for text in texts.to_pylist()]
            _add_rejected(parsed, batch.rejected.column("line_no"), days_of, batch.rejected.column("reason"), texts)
        waiting.append(batch.lines)
        if sum(rows.num_rows for rows in waiting) >= _ROWS_PER_DISTRIBUTION:
            _add_rows(parsed, _drain(waiting))
    if waiting:
        _add_rows(parsed, _drain(waiting))


def _drain(waiting: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Concatenate and clear the list, so that at most two copies of the rows exist at a time."""
    rows = pa.concat_batches(waiting)
    waiting.clear()
    return rows


def _corrected(reader: ReportReader, parsed: ParsedFile, corrections: Mapping[int, str | None]) -> Iterator[Batch]:
    """Yield the reader's batches with corrected lines replaced and discarded lines removed."""
    if not corrections:
        yield from reader
        return
    numbers = pa.array(sorted(corrections), pa.int64())
    for batch in reader:
        remaining = []
        for part in (batch.lines, batch.rejected):
            resolved = pc.is_in(part.column("line_no"), value_set=numbers)
            remaining.append(part.filter(pc.invert(resolved)))
        yield Batch(*remaining)
    for line_no, text in corrections.items():
        if text is None:
            parsed.lines += 1
            parsed.discarded += 1
        else:
            yield parse_line(text, parsed.file, reader.header, line_no)


def _add_rows(parsed: ParsedFile, rows: pa.RecordBatch) -> None:
    """Put rows into the buffers of their days; rows outside the file's period are rejected at the end."""
    buffer = parsed._buffer
    if not rows.num_rows:
        return
    rows = rows.append_column(_KEY_HASH, pa.array(_key_hashes(parsed.file, rows)))
    if not parsed.file.is_dated:
        _add_to_day(buffer, NO_DAY, rows)
        return
    days = rows.column("date_id").to_numpy()
    first, last = date_id(parsed.raw_file.first_day), date_id(parsed.raw_file.last_day)
    outside = (days < first) | (days > last)
    if outside.any():
        buffer.add(_OUTSIDE, rows.select(["line_no", "date_id"]).filter(pa.array(outside)))
        rows = rows.filter(pa.array(~outside))
        days = days[~outside]
    if not len(days):
        return
    if not (days[1:] >= days[:-1]).all():
        order = np.argsort(days, kind="stable")
        rows, days = rows.take(pa.array(order)), days[order]
    for day, of_day in _runs(rows, days):
        _add_to_day(buffer, day, of_day)


def _add_to_day(buffer: SpillBuffer, day: int, rows: pa.RecordBatch) -> None:
    buffer.add(f"rows-{day}", rows)
    buffer.add(f"hashes-{day}", rows.select([_KEY_HASH]))


def _key_hashes(file: ReportFile, rows: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """Hash the key of each row. Rows of a day with equal keys have equal hashes; the converse need not hold."""
    # The status is left out: few rows share all the rest.
    columns = [rows.column(name) for name in file.key if name not in ("date_id", "status")]
    if columns[0].null_count:  # no uniq_id: whole rows are compared, and one column is enough for a hash
        columns = [rows.column("customer_id")]
    hashes = np.zeros(rows.num_rows, np.int64)
    for column in columns:
        of_column = hash_texts(column) if pa.types.is_string(column.type) else column.to_numpy().astype(np.int64)
        hashes = hashes * _ODD + of_column
    return hashes


def _runs(rows: pa.RecordBatch, keys: npt.NDArray[np.integer[Any]]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield (key, slice) of rows that are sorted by key."""
    starts = [0, *(np.flatnonzero(np.diff(keys)) + 1).tolist(), len(keys)]
    for start, end in itertools.pairwise(starts):
        yield int(keys[start]), rows.slice(start, end - start)


# --- deduplication ----------------------------------------------------------------------------------------


def _deduplicate(parsed: ParsedFile) -> dict[int, tuple[int | None, str]]:
    """Find rows whose key hash occurs more than once in their day, and deduplicate them by their texts.

    Returns {line number: (day, reason)} of lines that are rejected because of another line or their day.
    """
    file, buffer = parsed.file, parsed._buffer
    reasons: dict[int, tuple[int | None, str]] = {}
    for day in [int(name.removeprefix("rows-")) for name in buffer.rows if name.startswith("rows-")]:
        suspected = _sharing_keys(parsed, day)
        parsed.days.setdefault(day, DayCounts()).kept += int(len(suspected) - suspected.sum())
        if suspected.any():
            parsed._suspected[day] = suspected
            _partition_suspects(buffer, day, suspected)

    def work(partition: tuple[str, pa.Table]) -> tuple[str, Deduplicated]:
        name, rows = partition
        return name, deduplicate(rows.drop_columns([_KEY_HASH]), file)

    partitions = ((name, buffer.table(name)) for name in list(buffer.rows) if name.startswith("suspects-"))
    for partition, result in parallel_map(work, partitions):
        _, day_text, number = partition.split("-")
        day = int(day_text)
        counts = parsed.days[day]
        counts.kept += result.rows.num_rows
        counts.duplicates += result.duplicates
        buffer.drop(partition)
        if result.rows.num_rows:
            buffer.add(f"kept-{day}-{number}", result.rows)
        for row in result.conflicts.to_pylist():
            key = ", ".join(f"{name} {str(row[name])[:_MAX_SHOWN]}" for name in file.key)
            reasons[row["line_no"]] = (day or None, f"{row['versions']} different lines share {key}")
    outside = buffer.table(_OUTSIDE)
    if outside is not None:
        period = f"{parsed.raw_file.first_day} to {parsed.raw_file.last_day}"
        parsed.outside_period = outside.num_rows
        for line_no, outside_day in zip(*(column.to_pylist() for column in outside.columns), strict=True):
            reasons[line_no] = (outside_day, f"the day is outside the period {period} of the fetch")
    return reasons


def _sharing_keys(parsed: ParsedFile, day: int) -> Flags:
    """Flag the rows of a day that share their key hash with another row."""
    buffer = parsed._buffer
    count = buffer.rows[f"rows-{day}"]
    if parsed.lacks_uniq_id:  # rows get one only when they are deduplicated
        return np.ones(count, dtype=np.bool_)
    shared = np.zeros(count, dtype=np.bool_)
    passes = 1 + count // _HASHES_AT_ONCE
    for number in range(passes):
        hashes = np.concatenate([of[of % passes == number] for of in _hashes(buffer, day)])
        hashes.sort()
        repeated = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
        if not len(repeated):
            continue
        at = 0
        for of in _hashes(buffer, day):
            found = np.searchsorted(repeated, of).clip(max=len(repeated) - 1)
            shared[at : at + len(of)] |= repeated[found] == of
            at += len(of)
    return shared


def _hashes(buffer: SpillBuffer, day: int) -> Iterator[npt.NDArray[np.int64]]:
    for batch in buffer.batches(f"hashes-{day}"):
        yield batch.column(_KEY_HASH).to_numpy()


def _partition_suspects(buffer: SpillBuffer, day: int, suspected: Flags) -> None:
    """Copy the flagged rows into partitions; rows with equal keys go to the same partition."""
    parts = 1 + int(suspected.sum()) // _ROWS_PER_PARTITION
    at = 0
    for batch in buffer.batches(f"rows-{day}"):
        rows = batch.filter(pa.array(suspected[at : at + len(batch)]))
        at += len(batch)
        if not rows.num_rows:
            continue
        parts_of_rows = rows.column(_KEY_HASH).to_numpy() % parts
        order = np.argsort(parts_of_rows, kind="stable")
        for part, of_part in _runs(rows.take(pa.array(order)), parts_of_rows[order]):
            buffer.add(f"suspects-{day}-{part}", of_part)


# --- rejected rows ----------------------------------------------------------------------------------------


def _reject_lines(parsed: ParsedFile, chunks: Iterator[bytes], reasons: Mapping[int, tuple[int | None, str]]) -> None:
    """Reject valid lines that conflict with others or with the period; their text is read from the file again."""
    texts = _texts(chunks, reasons.keys())
    _exhaust(chunks)
    found = sorted(reasons)
    _add_rejected(
        parsed,
        pa.array(found, pa.int64()),
        [reasons[line_no][0] for line_no in found],
        pa.array([reasons[line_no][1] for line_no in found], pa.string()),
        pa.array([texts.get(line_no, "") for line_no in found], pa.string()),
    )


def _add_rejected(
    parsed: ParsedFile, line_nos: pa.Array, days: list[int | None], reasons: pa.Array, texts: pa.Array
) -> None:
    for day in days:
        if day is not None:
            parsed.days.setdefault(day, DayCounts()).rejected += 1
    parsed.rejected_count += len(days)
    columns = [line_nos, pa.array(days, pa.int32()), reasons, texts]
    parsed._buffer.add(_REJECTED, pa.RecordBatch.from_arrays(columns, schema=_REJECTED_SCHEMA))


def _day_in(text: str) -> int | None:
    """Guess the day of an invalid line, for display only: its first field that looks like a date."""
    found = _ISO_DAY.search(text)
    try:
        return date_id(dt.date.fromisoformat(found[1])) if found else None
    except ValueError:
        return None


def _texts(chunks: Iterator[bytes], line_nos: Collection[int]) -> dict[int, str]:
    """Read the raw text of some lines of a file. A record that spans several lines is returned whole."""
    wanted = set(line_nos)
    last = max(wanted)
    texts: dict[int, str] = {}
    open_at: int | None = None
    for line_no, line in enumerate(_lines(chunks), start=1):
        if open_at is not None:
            texts[open_at] += "\n" + line
            if texts[open_at].count('"') % 2 == 0:
                open_at = None
        elif line_no in wanted:
            texts[line_no] = line
            open_at = line_no if line.count('"') % 2 else None
        if line_no >= last and open_at is None:
            break
    return texts


def _lines(chunks: Iterator[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r").decode(errors="backslashreplace")
    if rest:
        yield rest.removesuffix(b"\r").decode(errors="backslashreplace")
