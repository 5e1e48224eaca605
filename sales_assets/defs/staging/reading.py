"""Reading a kept fetch: its raw file in, settled lines by day and bad lines out. No database is involved.

Belongs here: taking a file of any size apart in bounded memory, so that every line ends in exactly one of kept,
repeats and bad. Does not belong here: the rules (`sales_assets.contracts`), which fetch wins a day and what becomes
of it (`replacing`).
"""

import datetime as dt
import itertools
import re
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sales_assets.contracts.parse import Batch, ReportReader, parse_line
from sales_assets.contracts.report_files import USER_ORDERS_LOG, ReportFile
from sales_assets.contracts.rules import UnreadableFile
from sales_assets.contracts.settling import settle
from sales_assets.defs.dims.upserting import names_in
from sales_assets.defs.staging.ahead import ahead
from sales_assets.partitions import date_id
from sales_assets.resources.spool import Spool

# Lines that are settled at once: tens of megabytes as tables.
_LINES_TOGETHER = 30_000
# Lines that are divided at once: ten million lines go to some three hundred buckets, which costs by the slice.
_LINES_DIVIDED = 30_000
_ISO_DAY = re.compile(r'(?:^|[,"])(\d{4}-\d{2}-\d{2})(?=[T ,"]|$)', re.ASCII)

_SHOWN = 40  # characters of a value in a reason

BAD_LINES = "bad"
# Stands for the day of files whose lines have none.
NO_DAY = 0

_BAD_SCHEMA = pa.schema(
    [("line_no", pa.int64()), ("date_id", pa.int32()), ("reason", pa.string()), ("text", pa.string())]
)

T = TypeVar("T")


@dataclass(frozen=True)
class KeptFetch:
    """A fetch that is to be read; `corrected` tells that a line of it was settled by hand since it was read.

    `settled_at` is when the latest of its lines was settled, of those that could be seen at `found_at`.
    """

    fetch_id: int
    kind: str
    path: str
    first_day: dt.date
    last_day: dt.date
    line_count: int
    corrected: bool
    found_at: dt.datetime
    settled_at: dt.datetime | None = None


@dataclass
class DayCounts:
    """How the lines of a day of a fetch were divided."""

    kept: int = 0
    repeats: int = 0
    bad: int = 0


@dataclass
class Reading:
    """What a fetch holds. Its lines lie in `spool`: a bucket per day and part, one of bad lines, and for a large order
    file one of names per day.

    days: {date_id: how its lines were divided}.
    """

    fetch: KeptFetch
    spool: Spool
    has_status: bool = False
    extra_columns: list[str] = field(default_factory=list)
    unreadable: str | None = None
    lines: int = 0
    discarded: int = 0
    outside_period: int = 0
    days: dict[int, DayCounts] = field(default_factory=dict)
    bad: int = 0

    @property
    def kept(self) -> int:
        return sum(day.kept for day in self.days.values())

    @property
    def repeats(self) -> int:
        return sum(day.repeats for day in self.days.values())

    def lines_of(self, day: int) -> Iterator[pa.RecordBatch]:
        """The settled lines of a day, a few at a time."""
        for bucket in sorted(name for name in self.spool.rows if name.startswith(f"kept-{day}-")):
            yield from self.spool.batches(bucket)

    @property
    def is_small(self) -> bool:
        """Whether its names are left in its lines: gathering costs as much for few of them as for many."""
        return self.fetch.line_count <= _LINES_TOGETHER

    def names_of(self, day: int) -> Iterator[pa.RecordBatch]:
        """The names of cities, customers and items in the lines of a day, where they were gathered; a name may stand
        more than once.
        """
        return self.spool.batches(f"names-{day}")

    def bad_lines(self) -> pa.Table:
        """(line_no, date_id or null, reason, text) of the bad lines."""
        return self.spool.get(BAD_LINES) or _BAD_SCHEMA.empty_table()


def read(
    chunks: Callable[[], Iterator[bytes]],
    file: ReportFile,
    fetch: KeptFetch,
    corrections: Mapping[int, str | None],
    folder: Path,
) -> Reading:
    """Read a fetch whose raw file `chunks` gives from its beginning, as often as it is called.

    corrections: {line number: text to be read instead, or None for a line that was left out by hand}.
    A file that can't be read gives a Reading with `unreadable` and without lines.
    """
    reading = Reading(fetch, Spool(folder / str(fetch.fetch_id)))
    try:
        _divide(reading, file, chunks(), corrections)
    except UnreadableFile as error:
        # A wrong encoding may show only at the end: what was read before is void.
        reading.spool.close()
        return Reading(fetch, Spool(folder / f"{fetch.fetch_id}-unreadable"), unreadable=str(error))
    reasons = _settle(reading, file)
    if reasons:
        _add_bad_lines(reading, chunks(), reasons)
    return reading


# --- dividing by day --------------------------------------------------------------------------------------


def _divide(reading: Reading, file: ReportFile, chunks: Iterator[bytes], corrections: Mapping[int, str | None]) -> None:
    fetch = reading.fetch
    reader = ReportReader(chunks, file)
    reading.has_status = reader.header.has_status
    reading.extra_columns = list(reader.header.extra_columns)
    days = (fetch.last_day - fetch.first_day).days + 1
    parts = 1 + fetch.line_count // (_LINES_TOGETHER * (days if file.is_dated else 1))
    waiting: list[pa.RecordBatch] = []
    for batch in ahead(_settled_by_hand(reader, reading, file, corrections)):
        reading.lines += batch.lines.num_rows + batch.bad.num_rows
        if batch.bad.num_rows:
            _add_bad(reading, batch.bad.column("line_no"), batch.bad.column("reason"), batch.bad.column("text"))
        waiting.append(batch.lines)
        if sum(lines.num_rows for lines in waiting) >= _LINES_DIVIDED:
            _add_lines(reading, file, _joined(waiting), parts)
    if waiting:
        _add_lines(reading, file, _joined(waiting), parts)


def _joined(waiting: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Empties the list: two copies of the lines at a time are enough."""
    lines = pa.concat_batches(waiting)
    waiting.clear()
    return lines


def _settled_by_hand(
    reader: ReportReader, reading: Reading, file: ReportFile, corrections: Mapping[int, str | None]
) -> Iterator[Batch]:
    """The reader's batches, with corrected lines in place of the file's and discarded lines left out."""
    if not corrections:
        yield from reader
        return
    numbers = pa.array(sorted(corrections), pa.int64())
    for batch in reader:
        kept = []
        for part in (batch.lines, batch.bad):
            by_hand = pc.is_in(part.column("line_no"), value_set=numbers)
            kept.append(part.filter(pc.invert(by_hand)))
        yield Batch(*kept)
    for line_no, text in corrections.items():
        if text is None:
            reading.lines += 1
            reading.discarded += 1
        else:
            yield parse_line(text, file, reader.header, line_no)


def _add_lines(reading: Reading, file: ReportFile, lines: pa.RecordBatch, parts: int) -> None:
    """Put lines into the buckets of their days; lines of other days than the fetch covers wait for their text."""
    if not lines.num_rows:
        return
    if not file.is_dated:
        reading.spool.add(f"lines-{NO_DAY}-0", lines)
        return
    days = lines.column("date_id").to_numpy()
    first, last = date_id(reading.fetch.first_day), date_id(reading.fetch.last_day)
    outside = (days < first) | (days > last)
    if outside.any():
        reading.spool.add("outside", lines.select(["line_no", "date_id"]).filter(pa.array(outside)))
        lines = lines.filter(pa.array(~outside))
        days = days[~outside]
    if not len(days):
        return
    if parts == 1 and (days[0] == days).all():
        reading.spool.add(f"lines-{days[0]}-0", lines)
        return
    buckets = days.astype(np.int64) * parts + (_parts(file, lines, parts) if parts > 1 else 0)
    order = np.argsort(buckets, kind="stable")
    buckets = buckets[order]
    lines = lines.take(pa.array(order))
    starts = [0, *(np.flatnonzero(np.diff(buckets)) + 1).tolist(), len(buckets)]
    for start, end in itertools.pairwise(starts):
        day, part = divmod(int(buckets[start]), parts)
        reading.spool.add(f"lines-{day}-{part}", lines.slice(start, end - start))


def _parts(file: ReportFile, lines: pa.RecordBatch, parts: int) -> npt.NDArray[np.int64]:
    """Which part of its day each line belongs to: all lines of one key to the same one."""
    key = lines.column(file.key[1])
    if key.null_count:  # very old order files: their identity is all contents, the customer's number among them
        key = lines.column("customer_id")
    if pa.types.is_integer(key.type):
        numbers: npt.NDArray[np.int64] = key.to_numpy().astype(np.int64)
        return np.remainder(numbers, parts)
    ends = pc.utf8_slice_codeunits(key, -3).dictionary_encode()
    hashes = np.array([zlib.crc32(end.encode()) for end in ends.dictionary.to_pylist()], dtype=np.int64)
    chosen: npt.NDArray[np.int64] = np.remainder(hashes, parts)[ends.indices.to_numpy()]
    return chosen


# --- settling ---------------------------------------------------------------------------------------------


def _settle(reading: Reading, file: ReportFile) -> dict[int, tuple[int | None, str]]:
    """Settle bucket after bucket. Returns {line number: (day, reason)} of lines that are bad among others."""
    reasons: dict[int, tuple[int | None, str]] = {}
    for bucket in [name for name in reading.spool.rows if name.startswith("lines-")]:
        _, day_text, part = bucket.split("-")
        lines = reading.spool.get(bucket)
        settled = settle(lines, file)
        counts = reading.days.setdefault(int(day_text), DayCounts())
        counts.kept += settled.lines.num_rows
        counts.repeats += settled.repeats
        if settled.lines is lines:
            reading.spool.rename(bucket, f"kept-{day_text}-{part}")
        else:
            reading.spool.drop(bucket)
            if settled.lines.num_rows:
                reading.spool.add(f"kept-{day_text}-{part}", settled.lines)
        if settled.lines.num_rows and file is USER_ORDERS_LOG and not reading.is_small:
            reading.spool.add(f"names-{day_text}", names_in(settled.lines))
        for row in settled.conflicts.to_pylist():
            key = ", ".join(f"{name} {str(row[name])[:_SHOWN]}" for name in file.key)
            reasons[row["line_no"]] = (int(day_text) or None, f"{row['versions']} different lines share {key}")
    outside = reading.spool.get("outside")
    if outside is not None:
        period = f"{reading.fetch.first_day} to {reading.fetch.last_day}"
        reading.outside_period = outside.num_rows
        for line_no, day in zip(*(column.to_pylist() for column in outside.columns), strict=True):
            reasons[line_no] = (day, f"the day is outside the period {period} of the fetch")
    return reasons


# --- bad lines --------------------------------------------------------------------------------------------


def _add_bad(reading: Reading, line_nos: pa.Array, reasons: pa.Array, texts: pa.Array) -> None:
    days = [_day_in(text) for text in texts.to_pylist()]
    _put_bad(reading, line_nos, days, reasons, texts)


def _add_bad_lines(reading: Reading, chunks: Iterator[bytes], reasons: Mapping[int, tuple[int | None, str]]) -> None:
    """Lines that are good alone: their text has to be looked up in the file once more."""
    texts = _texts(chunks, reasons.keys())
    found = sorted(reasons)
    _put_bad(
        reading,
        pa.array(found, pa.int64()),
        [reasons[line_no][0] for line_no in found],
        pa.array([reasons[line_no][1] for line_no in found], pa.string()),
        pa.array([texts.get(line_no, "") for line_no in found], pa.string()),
    )


def _put_bad(reading: Reading, line_nos: pa.Array, days: list[int | None], reasons: pa.Array, texts: pa.Array) -> None:
    for day in days:
        if day is not None:
            reading.days.setdefault(day, DayCounts()).bad += 1
    reading.bad += len(days)
    columns = [line_nos, pa.array(days, pa.int32()), reasons, texts]
    reading.spool.add(BAD_LINES, pa.RecordBatch.from_arrays(columns, schema=_BAD_SCHEMA))


def _day_in(text: str) -> int | None:
    """The day that a bad line seems to be about, for the eye only: its first field that looks like a date."""
    found = _ISO_DAY.search(text)
    try:
        return date_id(dt.date.fromisoformat(found[1])) if found else None
    except ValueError:
        return None


def _texts(chunks: Iterator[bytes], line_nos: Collection[int]) -> dict[int, str]:
    """The raw text of some lines of a file. A record that goes on in further lines is given whole."""
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
