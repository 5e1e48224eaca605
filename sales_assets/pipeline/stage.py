"""Stage parsed files: record the parse results and replace whole days of one staging table.

The statements are in ``sql/staging``; this module runs them in order.
"""

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from psycopg.types.json import Jsonb

from sales_assets.pipeline.file_selection import SelectedFile
from sales_assets.pipeline.names import names_in
from sales_assets.pipeline.parse_file import NO_DAY, ParsedFile
from sales_assets.pipeline.prefetch import parallel_map, prefetch
from sales_assets.pipeline.sums import NotReconciledError
from sales_assets.postgres.binary_copy import encoded
from sales_assets.postgres.warehouse import Transaction
from sales_assets.schemas.calendar import date_id
from sales_assets.schemas.report_files import ReportFile

# If fewer, commits would dominate a load; if more, many days would be repeated one by one because of a failing one.
_ROWS_PER_TRANSACTION = 100_000
_ROWS_PER_BLOCK = 4_000
# Rows whose names are collected at once.
_ROWS_PER_NAMES = 40_000


@dataclass(frozen=True)
class Recorded:
    """Result of recording parse results.

    revisions: {fetch_id: revision under which its days are staged}.
    outdated: fetch ids of files to be parsed again, because their parse result misses a resolution.
    """

    revisions: dict[int, int]
    outdated: set[int]


def may_be_recorded_by_others(parsed: ParsedFile) -> bool:
    """Return whether writers of other days may record the same file, or rows of it in quarantine."""
    return parsed.raw_file.kind == "report" or parsed.rejected_count > 0 or parsed.raw_file.is_quarantined


def exclude_other_recorders(transaction: Transaction) -> None:
    """Lock parse results and quarantine; waits for other writers. Commit soon, and take no other lock before."""
    transaction.run("locks", "parse_results")


def record_parse_results(
    transaction: Transaction, parsed_files: Sequence[ParsedFile], first_day: dt.date, run_id: str
) -> Recorded:
    """Record counts, verdicts and rejected rows. A file that can't be read, or has no valid row, is never selected.

    A file that another writer has recorded since it was looked up is not recorded again: its parse is the same, or
    outdated if rows were resolved since then. A rejected row that inherits its resolution from other contents makes
    a parse result outdated too.
    """
    fetch_ids = [parsed.raw_file.fetch_id for parsed in parsed_files]
    present = {
        row["fetch_id"]: row for row in transaction.rows("staging/fetch_reading", "recorded", fetch_ids=fetch_ids)
    }
    revisions: dict[int, int] = {}
    outdated: set[int] = set()
    own: list[ParsedFile] = []
    for parsed in parsed_files:
        raw_file = parsed.raw_file
        row = present.get(raw_file.fetch_id)
        if row is None or row["read_at"] == raw_file.read_at:
            own.append(parsed)
        elif row["resolved_at"] == raw_file.resolved_at:
            revisions[raw_file.fetch_id] = row["revision"]
        else:
            outdated.add(raw_file.fetch_id)
    if own:
        recorded, inheriting = _record(transaction, own, first_day, run_id)
        outdated |= inheriting
        revisions |= {fetch_id: revision for fetch_id, revision in recorded.items() if fetch_id not in inheriting}
    return Recorded(revisions, outdated)


def _record(
    transaction: Transaction, parsed_files: Sequence[ParsedFile], first_day: dt.date, run_id: str
) -> tuple[dict[int, int], set[int]]:
    """Record parse results; returns {fetch_id: revision}, and the files with rows that inherited a resolution."""
    transaction.run("staging/fetch_reading", "create_rejected_row")
    transaction.copy("staging/fetch_reading", "copy_rejected_row", encoded(_rejected(parsed_files)))
    fetch_ids = [parsed.raw_file.fetch_id for parsed in parsed_files]
    transaction.run("staging/fetch_reading", "quarantine")
    transaction.run("staging/fetch_reading", "resolve_quarantine", fetch_ids=fetch_ids)
    transaction.run("staging/fetch_reading", "drop_rejected_row")
    transaction.run("staging/fetch_reading", "forget_days", fetch_ids=fetch_ids)
    days = [
        (parsed.raw_file.fetch_id, day, counts.kept, counts.duplicates, counts.rejected)
        for parsed in parsed_files
        for day, counts in parsed.days.items()
        if day != NO_DAY
    ]
    columns = ("fetch_ids", "date_ids", "kept", "repeats", "bad")
    transaction.run("staging/fetch_reading", "record_days", **_columns(columns, days))
    recorded = transaction.rows(
        "staging/fetch_reading",
        "record",
        parse_results=Jsonb([_parse_result(parsed, date_id(first_day)) for parsed in parsed_files]),
        corrected=[parsed.raw_file.fetch_id for parsed in parsed_files if parsed.raw_file.corrected],
        run_id=run_id,
    )
    inherited = transaction.rows("staging/quarantine", "inherit", fetch_ids=fetch_ids, ids=[], reopened=[])
    revisions = {row["fetch_id"]: row["revision"] for row in recorded}
    return revisions, {row["fetch_id"] for row in inherited} & set(fetch_ids)


def _parse_result(parsed: ParsedFile, first_date_id: int) -> dict[str, object]:
    raw_file = parsed.raw_file
    reason = parsed.unreadable
    if reason is None and parsed.kept == 0 and parsed.rejected_count > 0:
        reason = f"every row rejected ({parsed.rejected_count}, see `sales-assets quarantine list`)"
    return {
        "fetch_id": raw_file.fetch_id,
        "verdict": "failed" if reason else "usable",
        "reason": f"{raw_file.path}: {reason}" if reason else None,
        "header": parsed.header or None,
        "has_status": parsed.has_status,
        "extra_columns": parsed.extra_columns,
        "lines": parsed.lines,
        "kept": parsed.kept,
        "repeats": parsed.duplicates,
        "bad": parsed.rejected_count + parsed.discarded,
        "before_first_day": sum(c.kept for day, c in parsed.days.items() if NO_DAY < day < first_date_id),
        "outside_period": parsed.outside_period,
        "read_at": raw_file.found_at.isoformat(),
        "resolved_at": raw_file.resolved_at.isoformat() if raw_file.resolved_at else None,
    }


def _rejected(parsed_files: Sequence[ParsedFile]) -> Iterator[pa.RecordBatch]:
    for parsed in parsed_files:
        for batch in parsed.rejected.to_batches(max_chunksize=_ROWS_PER_BLOCK):
            yield _with_fetch_id(batch, parsed.raw_file.fetch_id)


def stage_days(
    transaction: Transaction,
    file: ReportFile,
    selected: Sequence[SelectedFile],
    rows: Iterable[pa.RecordBatch],
    run_id: str,
) -> None:
    """Replace days of a staging table with the given rows; other rows of these days are deleted.

    rows: batches with the columns of the table (`selected_rows`, for order rows with their `sale_id`).
    """
    statements = f"staging/{file.name}"
    # Skip days that staging never had: in a first load, looking for their rows would cost more with every day.
    former = replaced_days(selected)
    if former:
        transaction.run_all(
            statements, "before_copy", date_ids=former, first_date_id=min(former), last_date_id=max(former)
        )
    counts = dict.fromkeys((day.date_id for day in selected), 0)

    def counted() -> Iterator[pa.RecordBatch]:
        for batch in rows:
            for count in pc.value_counts(batch.column("date_id")).to_pylist():
                counts[count["values"]] += count["counts"]
            yield batch

    with closing(prefetch(encoded(counted()))) as blocks:
        stored = transaction.copy(statements, "copy_days", blocks)
    if stored != sum(counts.values()):
        raise NotReconciledError(f"{sum(counts.values())} rows were sent to staging, {stored} stored")
    staged = [(day.date_id, day.fetch_id, day.revision, counts[day.date_id]) for day in selected]
    columns = ("date_ids", "fetch_ids", "revisions", "rows")
    transaction.run("staging/staged_day", "record", file=file.name, run_id=run_id, **_columns(columns, staged))


def replaced_days(selected: Sequence[SelectedFile]) -> list[int]:
    """List the days that staging has from another file or an earlier parse."""
    return [day.date_id for day in selected if day.staged]


def selected_rows(selected: Sequence[SelectedFile], parsed_files: Mapping[int, ParsedFile]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of days, each day from its selected file, with fetch_id and without names; combines small days."""
    waiting: list[pa.RecordBatch] = []
    size = 0
    for day in selected:
        parsed = parsed_files[day.fetch_id]
        names = [column.name for column in parsed.file.columns if column.is_name]
        for rows in parsed.rows(day.date_id):
            waiting.append(_with_fetch_id(rows.drop_columns(names), day.fetch_id))
            size += rows.num_rows
            if size >= _ROWS_PER_BLOCK:
                yield pa.concat_batches(waiting)
                waiting, size = [], 0
    if waiting:
        yield pa.concat_batches(waiting)


def batches_of(selected: Sequence[SelectedFile], parsed_files: Mapping[int, ParsedFile]) -> list[list[SelectedFile]]:
    """Split days, in order, into batches for one transaction each, by their number of rows."""
    batches: list[list[SelectedFile]] = []
    rows = _ROWS_PER_TRANSACTION
    for day in selected:
        if rows >= _ROWS_PER_TRANSACTION:
            batches.append([])
            rows = 0
        rows += parsed_files[day.fetch_id].kept_on(day.date_id)
        batches[-1].append(day)
    return batches


def names_of(selected: Sequence[SelectedFile], parsed_files: Mapping[int, ParsedFile]) -> Iterator[pa.Table]:
    """Collect the names of cities, customers and items in the order rows of the selected days."""

    def portions() -> Iterator[pa.Table]:
        # A day comes from one file only, so line numbers order rows of the same event time.
        rows: list[pa.RecordBatch] = []
        size = 0
        for day in selected:
            for batch in parsed_files[day.fetch_id].rows(day.date_id):
                rows.append(batch)
                size += batch.num_rows
                if size >= _ROWS_PER_NAMES:
                    yield pa.Table.from_batches(rows)
                    rows, size = [], 0
        if rows:
            yield pa.Table.from_batches(rows)

    return parallel_map(names_in, portions())


def _with_fetch_id(rows: pa.RecordBatch, fetch_id: int) -> pa.RecordBatch:
    return rows.append_column("fetch_id", pa.repeat(pa.scalar(fetch_id, pa.int64()), rows.num_rows))


def _columns(names: Sequence[str], rows: Sequence[Sequence[int]]) -> dict[str, list[int]]:
    """Transpose rows to one array parameter per column, for `unnest`."""
    return {name: [row[n] for row in rows] for n, name in enumerate(names)}
