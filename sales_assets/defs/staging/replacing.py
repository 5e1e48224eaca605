"""What becomes of readings: written down, a fetch chosen for each day, whole days of staging replaced.

Belongs here: the order of the statements of ``sql/staging`` for one of the four files.
Does not belong here: reading (`reading`), the mart (`sales_assets.defs.facts`), or Dagster.
"""

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import pyarrow as pa
from psycopg.types.json import Jsonb

from sales_assets.contracts.report_files import ReportFile
from sales_assets.defs.dims.upserting import names_in
from sales_assets.defs.staging.ahead import ahead
from sales_assets.defs.staging.frames import FRAMED, typed_frame
from sales_assets.defs.staging.reading import NO_DAY, KeptFetch, Reading
from sales_assets.partitions import date_id
from sales_assets.resources.copying import encode
from sales_assets.resources.warehouse import Transaction
from sales_assets.settings import first_day

# Fewer, and commits would be the load; more, and a broken day would take many others with it.
_LINES_A_TRANSACTION = 200_000
_LINES_A_BLOCK = 4_000
# Lines of small files whose names are gathered at once.
_LINES_OF_NAMES = 40_000


@dataclass(frozen=True)
class Choice:
    """The fetch that a day is to be taken from, where staging holds it from another one (`staged`) or not at all."""

    date_id: int
    fetch_id: int
    revision: int
    staged: bool


def unread_fetches(transaction: Transaction, file: ReportFile, days: Sequence[dt.date]) -> list[KeptFetch]:
    """Kept fetches that cover the days and have lines nobody has read yet; increments first, reports last."""
    rows = transaction.rows("staging/fetch_reading", "unread", file=file.name, first_day=min(days), last_day=max(days))
    return [KeptFetch(**row) for row in rows]


def stale_fetches(transaction: Transaction, file: ReportFile, days: Sequence[dt.date]) -> list[KeptFetch]:
    """Fetches that were read before, and now win days which staging holds from another fetch or not at all."""
    fetch_ids = sorted({choice.fetch_id for choice in choose(transaction, file, days)})
    return [KeptFetch(**row) for row in transaction.rows("staging/fetch_reading", "kept", fetch_ids=fetch_ids)]


def corrections_of(transaction: Transaction, fetches: Sequence[KeptFetch]) -> dict[int, dict[int, str | None]]:
    """{fetch: {line number: text to be read instead, or None}} of the lines that a person has settled."""
    corrections: dict[int, dict[int, str | None]] = {fetch.fetch_id: {} for fetch in fetches}
    for row in transaction.rows("staging/fetch_reading", "corrections", fetch_ids=list(corrections)):
        corrections[row["fetch_id"]][row["line_no"]] = row["text"]
    return corrections


def record_readings(transaction: Transaction, readings: Sequence[Reading], run_id: str) -> None:
    """Write down what reading showed: counts, verdicts, quarantine. A file that can't be read is never chosen."""
    transaction.run("staging/fetch_reading", "create_bad_line")
    transaction.copy("staging/fetch_reading", "copy_bad_line", _bad_lines(readings))
    fetch_ids = [reading.fetch.fetch_id for reading in readings]
    transaction.run("staging/fetch_reading", "quarantine")
    transaction.run("staging/fetch_reading", "resolve_quarantine", fetch_ids=fetch_ids)
    transaction.run("staging/fetch_reading", "drop_bad_line")
    transaction.run("staging/fetch_reading", "forget_days", fetch_ids=fetch_ids)
    days = [
        (reading.fetch.fetch_id, day, counts.kept, counts.repeats, counts.bad)
        for reading in readings
        for day, counts in reading.days.items()
        if day != NO_DAY
    ]
    columns = ("fetch_ids", "date_ids", "kept", "repeats", "bad")
    transaction.run("staging/fetch_reading", "record_days", **_columns(columns, days))
    transaction.run(
        "staging/fetch_reading",
        "record",
        readings=Jsonb([_told(reading) for reading in readings]),
        corrected=[reading.fetch.fetch_id for reading in readings if reading.fetch.corrected],
        run_id=run_id,
    )


def _told(reading: Reading) -> dict[str, object]:
    reason = reading.unreadable
    if reason is None and reading.kept == 0 and reading.bad > 0:
        reason = f"every line is bad ({reading.bad}, see `sales-assets quarantine list`)"
    first_date_id = date_id(first_day())
    settled_at = reading.fetch.settled_at
    return {
        "fetch_id": reading.fetch.fetch_id,
        "verdict": "failed" if reason else "usable",
        "reason": f"{reading.fetch.path}: {reason}" if reason else None,
        "has_status": reading.has_status,
        "extra_columns": reading.extra_columns,
        "lines": reading.lines,
        "kept": reading.kept,
        "repeats": reading.repeats,
        "bad": reading.bad + reading.discarded,
        "before_first_day": sum(c.kept for day, c in reading.days.items() if NO_DAY < day < first_date_id),
        "outside_period": reading.outside_period,
        "read_at": reading.fetch.found_at.isoformat(),
        "settled_at": settled_at.isoformat() if settled_at else None,
    }


def _bad_lines(readings: Sequence[Reading]) -> Iterator[memoryview]:
    for reading in readings:
        for batch in reading.bad_lines().to_batches(max_chunksize=_LINES_A_BLOCK):
            yield encode(_numbered(batch, reading.fetch.fetch_id))


def choose(transaction: Transaction, file: ReportFile, days: Sequence[dt.date]) -> list[Choice]:
    """The days that are to be replaced, each with its fetch; days that staging holds rightly are left out."""
    return [Choice(**row) for row in transaction.rows("staging/staged_day", "choose", file=file.name, days=list(days))]


def stage_days(
    transaction: Transaction,
    file: ReportFile,
    choices: Sequence[Choice],
    readings: Mapping[int, Reading],
    run_id: str,
) -> None:
    """Make the days in staging what their chosen fetches bring: what a fetch does not bring is gone."""
    statements = f"staging/{file.name}"
    # Days that staging never held have nothing to clear: looking for it would cost a first load more with every day.
    former = [choice.date_id for choice in choices if choice.staged]
    window = {"date_ids": former, "first_date_id": min(former, default=0), "last_date_id": max(former, default=0)}
    if former:
        transaction.run_all(statements, "before_copy", **window)
    rows: dict[int, int] = {}
    with closing(ahead(_lines(file, choices, readings, rows))) as blocks:
        transaction.copy(statements, "copy_days", blocks)
    if former:
        transaction.run_all(statements, "after_copy", **window)
    staged = [(choice.date_id, choice.fetch_id, choice.revision, rows.get(choice.date_id, 0)) for choice in choices]
    columns = ("date_ids", "fetch_ids", "revisions", "rows")
    transaction.run("staging/staged_day", "record", file=file.name, run_id=run_id, **_columns(columns, staged))


def balanced(choices: Sequence[Choice], readings: Mapping[int, Reading]) -> list[list[Choice]]:
    """Groups of days, in order, each with about as many lines as one transaction should have; at least one group."""
    groups: list[list[Choice]] = [[]]
    lines = 0
    for choice in choices:
        count = readings[choice.fetch_id].days.get(choice.date_id)
        lines += count.kept if count else 0
        groups[-1].append(choice)
        if lines >= _LINES_A_TRANSACTION:
            groups.append([])
            lines = 0
    return groups if groups[-1] or len(groups) == 1 else groups[:-1]


def names_of(readings: Mapping[int, Reading], choices: Sequence[Choice]) -> Iterator[pa.Table]:
    """The names of cities, customers and items in the order lines of the chosen days."""
    small: list[pa.RecordBatch] = []
    for choice in choices:
        reading = readings[choice.fetch_id]
        if not reading.is_small:
            yield from (pa.Table.from_batches([names]) for names in reading.names_of(choice.date_id))
            continue
        # No day is in two readings: whatever the lines are from, those of one moment are still ordered by number.
        small.extend(reading.lines_of(choice.date_id))
        if sum(lines.num_rows for lines in small) > _LINES_OF_NAMES:
            yield names_in(pa.Table.from_batches(small))
            small = []
    if small:
        yield names_in(pa.Table.from_batches(small))


def _lines(
    file: ReportFile, choices: Sequence[Choice], readings: Mapping[int, Reading], rows: dict[int, int]
) -> Iterator[memoryview]:
    """Lines encoded for COPY, those of small days together; `rows` is told how many each day has."""
    waiting: list[pa.RecordBatch] = []
    count = 0
    for choice in choices:
        for lines in _lines_of(file, choice, readings[choice.fetch_id]):
            rows[choice.date_id] = rows.get(choice.date_id, 0) + lines.num_rows
            waiting.append(_numbered(lines, choice.fetch_id))
            count += lines.num_rows
            if count >= _LINES_A_BLOCK:
                yield _encoded(file, waiting)
                waiting, count = [], 0
    if waiting:
        yield _encoded(file, waiting)


def _encoded(file: ReportFile, waiting: Sequence[pa.RecordBatch]) -> memoryview:
    lines = pa.concat_batches(waiting)
    if file in FRAMED:
        lines = pa.RecordBatch.from_pandas(typed_frame(file, lines), schema=lines.schema)
    return encode(lines)


def _lines_of(file: ReportFile, choice: Choice, reading: Reading) -> Iterable[pa.RecordBatch]:
    if file.is_dated:
        return reading.lines_of(choice.date_id)
    # The list stands for every day that takes it.
    return (_dated(lines, choice.date_id) for lines in reading.lines_of(NO_DAY))


def _dated(lines: pa.RecordBatch, day: int) -> pa.RecordBatch:
    return lines.append_column("date_id", pa.repeat(pa.scalar(day, pa.int32()), lines.num_rows))


def _numbered(lines: pa.RecordBatch, fetch_id: int) -> pa.RecordBatch:
    return lines.append_column("fetch_id", pa.repeat(pa.scalar(fetch_id, pa.int64()), lines.num_rows))


def _columns(names: Sequence[str], rows: Sequence[Sequence[int]]) -> dict[str, list[int]]:
    """Rows as one array parameter per column, for `unnest`."""
    return {name: [row[n] for row in rows] for n, name in enumerate(names)}
