"""Load days from the report API to the mart. This module alone defines the order of the steps.

::

    extract -> for each file: select, parse -> lock the days -> one transaction per batch of days -> load report

A failing day never blocks the others: days are loaded together, and one by one where that fails. Loads of
different days run at the same time, on any number of machines; those of the same day one after the other
(``sql/locks.sql``). Files are parsed before the days are locked, so two loads may parse the same file; only one
of them records it.
"""

import datetime as dt
import itertools
import tempfile
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from logging import Logger
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from sales_assets.pipeline.derive import DerivedTable
from sales_assets.pipeline.extract import fetch_increments, record
from sales_assets.pipeline.file_selection import (
    RawFile,
    SelectedFile,
    corrections_of,
    files_to_parse_again,
    look_up_files,
    select_files,
    unparsed_files,
)
from sales_assets.pipeline.isolation import together_or_one_by_one
from sales_assets.pipeline.load_report import (
    F_SALES,
    ONE_DATE,
    RECONCILIATION,
    ROW_RULES,
    UNIQUE_KEYS,
    LoadReport,
    raw_table,
    staging_table,
)
from sales_assets.pipeline.memory import release_memory
from sales_assets.pipeline.names import add_calendar_days, forget_names, store_names, upsert_dimensions
from sales_assets.pipeline.parse_file import ParsedFile, parse_file
from sales_assets.pipeline.progress import Progress
from sales_assets.pipeline.publish import MartRows, days_of_other_sources, occupied_days, publish_days, staged_rows
from sales_assets.pipeline.sale_ids import reserve_ids, sale_ids
from sales_assets.pipeline.stage import (
    Recorded,
    batches_of,
    exclude_other_recorders,
    may_be_recorded_by_others,
    names_of,
    record_parse_results,
    replaced_days,
    selected_rows,
    stage_days,
)
from sales_assets.pipeline.sums import Sums
from sales_assets.postgres.warehouse import Transaction, Warehouse, Writer
from sales_assets.resources.raw_files import RawFiles, RawFilesError
from sales_assets.resources.report_api import ReportApi
from sales_assets.schemas.calendar import date_id, day_of
from sales_assets.schemas.report_files import REPORT_FILES, USER_ORDERS_LOG, ReportFile

# Days that share a transaction.
DAYS_TOGETHER = 30
# Concurrent transactions of a large file. Encoding rows is CPU-bound: two keep two cores busy.
_WRITERS = 2
# Rows between two summarizations of the index: each reads the rows written since the last one, while still in memory.
_ROWS_PER_SUMMARY = 1_000_000

T = TypeVar("T")


class NoReportError(Exception):
    """No report was fetched yet, so that increments can't be requested."""


@dataclass(frozen=True)
class Pipeline:
    """The resources and limits of a load.

    scratch: folder for temporary files.
    first_day: days before it are never loaded.
    derived: tables of the mart that are filled whenever their staging table is.
    """

    warehouse: Warehouse
    raw_files: RawFiles
    report_api: ReportApi
    scratch: Path
    first_day: dt.date
    log: Logger
    progress: Progress = field(default_factory=Progress)
    derived: Sequence[DerivedTable] = ()


def load_days(pipeline: Pipeline, days: Sequence[dt.date], tables: Collection[str], run_id: str) -> LoadReport:
    """Load days into tables (names as in `load_report`): fetch increments, stage the selected files, publish.

    Failures of single days are in the report. Only failures that concern every day are raised, such as a lost
    connection (`psycopg.OperationalError`) or a missing report (`NoReportError`).
    """
    load = _Load(pipeline, LoadReport(tables, days), run_id)
    with pipeline.warehouse.reading_raw_files(f"{run_id[:8]} raw files"):
        load.run()
    return load.report


@dataclass(frozen=True)
class Replaced:
    """Days replaced together, with the sums of their mart rows if these were written too."""

    days: Sequence[SelectedFile]
    sums: Sums | None


class _Load:
    def __init__(self, pipeline: Pipeline, report: LoadReport, run_id: str) -> None:
        self.pipeline = pipeline
        self.warehouse = pipeline.warehouse
        self.log = pipeline.log
        self.report = report
        self.run_id = run_id
        self.files = [file for file in REPORT_FILES.values() if staging_table(file) in report.tables]
        self.publishes = F_SALES in report.tables
        self.derived = [derived for derived in pipeline.derived if derived.table in report.tables]
        self.occupied: set[int] = set()
        self.names_stored_at: dt.datetime | None = None
        # {file: {fetch_id: reason}} of raw files that can't be read or were changed: each is tried once per run.
        self.out_of_reach: dict[ReportFile, dict[int, str]] = {file: {} for file in REPORT_FILES.values()}
        self.replaced: dict[ReportFile, set[int]] = {file: set() for file in REPORT_FILES.values()}
        # {date_id: sums of all its mart rows} of published days without rows of other sources.
        self.sums: dict[int, Sums] = {}
        self.days_apart: set[int] = set()

    def run(self) -> None:
        days, progress = self.report.days, self.pipeline.progress
        self.pipeline.scratch.mkdir(parents=True, exist_ok=True)
        progress.notify("increments")
        progress.days_ahead(len(days))
        if self.publishes:
            with self._transaction("calendar") as transaction:
                add_calendar_days(transaction, days[0], days[-1])
        if self.files:
            self._start_resolved_days()
        extracts = any(raw_table(file) in self.report.tables for file in REPORT_FILES.values())
        for group in self._extracted(days) if extracts else batched(days, DAYS_TOGETHER):
            for file in self.files:
                together_or_one_by_one(
                    self._good_days(file, group), partial(self._load_increments, file), partial(self._fail_day, file)
                )
            progress.days_done(len(group))
        for file in self.files:
            progress.notify(f"{file.name}: reports and newly selected files")
            self._load_other_files(file)
        self._derive_remaining()
        if self.publishes:
            self._publish_remaining()
        # Comes last: a day whose newest file is unusable is published from the file that is selected instead.
        for file in self.files:
            self._note_unusable_files(file)
        if self.publishes:
            for day in days_of_other_sources(self.warehouse, self.sums):
                del self.sums[day]
        if self.files:
            self._end_resolved_days()
        self._note_verified_rules()
        self._add_counts()

    def _transaction(self, purpose: str, writer: Writer | None = None) -> AbstractContextManager[Transaction]:
        return (writer or self.warehouse).transaction(f"{self.run_id[:8]} {purpose}")

    @contextmanager
    def _writing(self, date_ids: Collection[int]) -> Iterator[Writer]:
        """Hold the locks of days, and report the time waited for them."""
        span = f"{min(date_ids)}..{max(date_ids)}"
        with self.warehouse.writing_days(f"{self.run_id[:8]} locks of days {span}", date_ids) as writer:
            if writer.waited_seconds:
                self.report.lock_wait_seconds += writer.waited_seconds
                self.log.info(f"waited {writer.waited_seconds:.1f} s for other loads of days {span}")
            yield writer

    def _good_days(self, file: ReportFile, days: Sequence[dt.date] | None = None) -> list[dt.date]:
        return self.report.good_days(staging_table(file), days)

    def _fail_days(self, file: ReportFile, days: Sequence[dt.date], reason: str) -> None:
        tables = {staging_table(file)} | ({F_SALES} if file is USER_ORDERS_LOG else set())
        tables |= {derived.table for derived in self._derived_from(file)}
        for day in days:
            self.report.fail(day, reason, tables)

    def _derived_from(self, file: ReportFile) -> list[DerivedTable]:
        return [derived for derived in self.derived if derived.file is file]

    def _fail_day(self, file: ReportFile, day: dt.date, error: Exception) -> None:
        self.log.error(f"{day}: {error}")
        self._fail_days(file, [day], f"{file.name}: {error}")

    # --- raw ----------------------------------------------------------------------------------------------

    def _extracted(self, days: Sequence[dt.date]) -> Iterator[Sequence[dt.date]]:
        """Fetch and record increments; yields the days in groups."""
        reports = self.warehouse.rows("raw/delivery", "latest_report")
        if not reports:
            raise NoReportError(
                "no report was fetched yet, and increments are requested by its id: "
                "materialize raw/user_orders_log first, or run `sales-assets load --report`"
            )
        groups = batched(days, DAYS_TOGETHER)
        api, raw_files = self.pipeline.report_api, self.pipeline.raw_files
        for deliveries in fetch_increments(api, raw_files, self.warehouse, reports[0]["report_id"], groups):
            for delivery in deliveries:
                if delivery.outcome == "failed":
                    self.log.error(f"{delivery.first_day}: {delivery.reason}")
                    self.report.fail(delivery.first_day, str(delivery.reason), self.report.tables)
            with self._transaction("raw increments") as transaction:
                recorded = record(transaction, deliveries, self.run_id)
            for delivery, recorded_files in zip(deliveries, recorded, strict=True):
                for file in REPORT_FILES.values():
                    facts = delivery.facts(file.name, recorded_files.get(file.name))
                    self.report.add(raw_table(file), delivery.first_day, facts)
            yield [delivery.first_day for delivery in deliveries]

    # --- staging and mart ---------------------------------------------------------------------------------

    def _load_increments(self, file: ReportFile, days: Sequence[dt.date]) -> None:
        with self._transaction(f"unparsed {file.name}") as transaction:
            unparsed = unparsed_files(transaction, file, days)
        self._load_files(file, days, [raw_file for raw_file in unparsed if raw_file.kind == "increment"])

    def _load_other_files(self, file: ReportFile) -> None:
        """Load reports that were not parsed yet, then days for which a file parsed earlier is now selected."""
        for find in (unparsed_files, files_to_parse_again):
            days = self._good_days(file)
            if not days:
                return
            with self._transaction(f"other {file.name}") as transaction:
                raw_files = find(transaction, file, days)
            for raw_file in raw_files:
                together_or_one_by_one(
                    [raw_file], partial(self._load_files, file, days), partial(self._fail_file, file, days)
                )

    def _fail_file(self, file: ReportFile, days: Sequence[dt.date], raw_file: RawFile, error: Exception) -> None:
        """Fail the days that the file covers and that were not loaded from another file."""
        self.log.error(f"{raw_file.path}: {error}")
        covered = [day for day in days if raw_file.first_day <= day <= raw_file.last_day]
        left = [day for day in covered if date_id(day) not in self.replaced[file]]
        self._fail_days(file, left, f"{raw_file.path}: {error}")

    def _load_files(self, file: ReportFile, days: Sequence[dt.date], raw_files: Sequence[RawFile]) -> None:
        """Parse raw files and replace the days for which they are selected."""
        raw_files = [raw_file for raw_file in raw_files if raw_file.fetch_id not in self.out_of_reach[file]]
        if not raw_files:
            return
        with self._transaction(f"corrections {file.name}") as transaction:
            corrections = corrections_of(transaction, raw_files)
        with tempfile.TemporaryDirectory(dir=self.pipeline.scratch, ignore_cleanup_errors=True) as folder:
            parsed_files = self._parse(file, raw_files, corrections, Path(folder))
            if not parsed_files:
                return
            release_memory()
            with self._writing(_written_days(days, parsed_files.values())) as writer:
                outdated = self._write(file, days, parsed_files, writer)
        if outdated:
            with self._transaction(f"resolutions {file.name}") as transaction:
                unparsed = [raw for raw in unparsed_files(transaction, file, days) if raw.fetch_id in outdated]
                others = outdated - {raw_file.fetch_id for raw_file in unparsed}
                again = [*unparsed, *look_up_files(transaction, others)]
            self._load_files(file, days, again)

    def _parse(
        self,
        file: ReportFile,
        raw_files: Sequence[RawFile],
        corrections: Mapping[int, Mapping[int, str | None]],
        folder: Path,
    ) -> dict[int, ParsedFile]:
        """Parse raw files. A file that can't be read, or was changed since its fetch, never blocks the others."""
        parsed_files: dict[int, ParsedFile] = {}
        for raw_file in raw_files:
            read = partial(self.pipeline.raw_files.verified_chunks, raw_file.path, raw_file.sha256)
            try:
                parsed_files[raw_file.fetch_id] = parse_file(
                    read, file, raw_file, corrections[raw_file.fetch_id], folder
                )
            except RawFilesError as error:
                self.log.error(str(error))
                self.out_of_reach[file][raw_file.fetch_id] = str(error)
        return parsed_files

    def _write(
        self, file: ReportFile, days: Sequence[dt.date], parsed_files: Mapping[int, ParsedFile], writer: Writer
    ) -> set[int]:
        """Record parse results, then replace days: a few in the same transaction, many in several.

        Returns the ids of files that have to be parsed again (see `record_parse_results`).
        """
        recorded: Recorded | None = None
        if any(may_be_recorded_by_others(one) for one in parsed_files.values()):
            # In a separate transaction, because writers of other days wait for its commit.
            with self._transaction(f"parse results {file.name}", writer) as transaction:
                exclude_other_recorders(transaction)
                recorded = self._record(transaction, parsed_files)
        replaced: list[Replaced] = []
        with self._transaction(file.name, writer) as transaction:
            recorded = recorded or self._record(transaction, parsed_files)
            won = [day for day in select_files(transaction, file, days) if day.fetch_id in recorded.revisions]
            # Days of a file that another writer has recorded again meanwhile, with further resolutions, are left out.
            selected = [day for day in won if day.revision == recorded.revisions[day.fetch_id]]
            outdated = recorded.outdated | {day.fetch_id for day in won} - {day.fetch_id for day in selected}
            if file is USER_ORDERS_LOG and self.publishes:
                self.occupied = occupied_days(transaction, [day.date_id for day in selected])
            batches = batches_of(selected, parsed_files)
            if len(batches) == 1:
                replaced = self._replace(file, batches[0], parsed_files, lambda _: transaction.savepoint())
                if file is USER_ORDERS_LOG and replaced:
                    transaction.run("staging/name", "reset_planner")
                    self._store_names(transaction, [day for one in replaced for day in one.days], parsed_files)
                    former = [day for one in replaced for day in replaced_days(one.days)]
                    if former:
                        forget_names(transaction, former, self.names_stored_at)
        self._note_replaced(file, replaced)
        if len(batches) > 1:
            self._replace_in_parallel(file, batches, parsed_files, writer)
        if file is USER_ORDERS_LOG and batches:
            self._summarize(writer)
        if len(batches) > 1:
            with self._transaction("sample", writer) as transaction:
                transaction.run_all("mart/f_sales", "sample")
            if file is USER_ORDERS_LOG:
                self.days_apart = self._find_days_apart(selected, parsed_files)
        return outdated

    def _record(self, transaction: Transaction, parsed_files: Mapping[int, ParsedFile]) -> Recorded:
        return record_parse_results(transaction, list(parsed_files.values()), self.pipeline.first_day, self.run_id)

    def _store_names(
        self, transaction: Transaction, selected: Sequence[SelectedFile], parsed_files: Mapping[int, ParsedFile]
    ) -> None:
        names = names_of(selected, parsed_files)
        self.names_stored_at = store_names(transaction, names, in_dimensions=self.publishes)
        release_memory()

    def _find_days_apart(self, selected: Sequence[SelectedFile], parsed_files: Mapping[int, ParsedFile]) -> set[int]:
        """Find days that share no uniq_id with another day, without a query; only in the first load of one file."""
        if len(parsed_files) > 1 or self.warehouse.rows(
            "staging/staged_day", "other_days", file=USER_ORDERS_LOG.name, date_ids=[day.date_id for day in selected]
        ):
            return set()
        (parsed,) = parsed_files.values()
        return {day.date_id for day in selected} - parsed.days_sharing_uniq_ids()

    def _replace_in_parallel(
        self,
        file: ReportFile,
        batches: Sequence[Sequence[SelectedFile]],
        parsed_files: Mapping[int, ParsedFile],
        writer: Writer,
    ) -> None:
        """Replace days in several transactions. Names are committed first, so that no row of the mart is an orphan."""
        reserved_ids: dict[int, int] = {}
        if file is USER_ORDERS_LOG:
            with self._transaction("names", writer) as transaction:
                self._store_names(transaction, list(itertools.chain(*batches)), parsed_files)
            with self._transaction("ids", writer) as transaction:
                days = itertools.chain(*batches)
                reserved_ids = reserve_ids(transaction, _rows_of(days, parsed_files))

        @contextmanager
        def begin(days: Sequence[SelectedFile]) -> Iterator[Transaction]:
            with self._transaction(f"{file.name} {days[0].date_id}", writer) as transaction:
                yield transaction
                if file is USER_ORDERS_LOG and replaced_days(days):
                    forget_names(transaction, replaced_days(days), self.names_stored_at)

        def replace(batch: Sequence[SelectedFile], rows_before: int) -> None:
            self._note_replaced(file, self._replace(file, batch, parsed_files, begin, reserved_ids))
            rows = rows_before + sum(_rows_of(batch, parsed_files).values())
            # A batch that deletes rows would read all blocks that the index does not cover yet.
            is_replaced = self.occupied.intersection(day.date_id for day in batch)
            if is_replaced or rows_before // _ROWS_PER_SUMMARY < rows // _ROWS_PER_SUMMARY:
                self._summarize(writer)

        sizes = [sum(_rows_of(batch, parsed_files).values()) for batch in batches]
        with ThreadPoolExecutor(_WRITERS, thread_name_prefix="write") as pool:
            for _ in pool.map(replace, batches, itertools.accumulate(sizes, initial=0)):
                pass

    def _replace(
        self,
        file: ReportFile,
        batch: Sequence[SelectedFile],
        parsed_files: Mapping[int, ParsedFile],
        begin: Callable[[Sequence[SelectedFile]], AbstractContextManager[Transaction]],
        reserved_ids: Mapping[int, int] = MappingProxyType({}),
    ) -> list[Replaced]:
        """Replace days in staging and the mart, in one transaction or savepoint that `begin` opens for them."""
        done: list[Replaced] = []

        def replace(days: Sequence[SelectedFile]) -> None:
            date_ids = [day.date_id for day in days]
            sums: Sums | None = None
            with begin(days) as transaction:
                if file is USER_ORDERS_LOG:
                    transaction.run("mart/f_sales", "avoid_full_scans")
                    ids = sale_ids(transaction, _rows_of(days, parsed_files), reserved_ids, replaced_days(days))
                    rows = ids.assign(selected_rows(days, parsed_files))
                    mart_rows = MartRows(transaction, self.pipeline.scratch) if self.publishes else None
                    stage_days(transaction, file, days, mart_rows.made_from(rows) if mart_rows else rows, self.run_id)
                    if mart_rows:
                        sums = publish_days(transaction, date_ids, mart_rows, self.occupied)
                else:
                    stage_days(transaction, file, days, selected_rows(days, parsed_files), self.run_id)
                for derived in self._derived_from(file):
                    derived.replace_days(transaction, date_ids)
            done.append(Replaced(days, sums))

        together_or_one_by_one(batch, replace, lambda day, error: self._fail_day(file, day_of(day.date_id), error))
        return done

    def _note_replaced(self, file: ReportFile, replaced: Sequence[Replaced]) -> None:
        """Record committed days and their sums."""
        for one in replaced:
            date_ids = [day.date_id for day in one.days]
            self.replaced[file].update(date_ids)
            if one.sums is not None:
                self.sums |= dict.fromkeys(date_ids, one.sums)

    def _summarize(self, writer: Writer) -> None:
        with self._transaction("summarize", writer) as transaction:
            transaction.run("mart/f_sales", "summarize_days")

    def _note_unusable_files(self, file: ReportFile) -> None:
        """Fail days whose newest file can't be read or parsed, or has no valid row; they keep older rows."""
        days = self._good_days(file)
        if not days:
            return
        for row in self.warehouse.rows("staging/staged_day", "faults", file=file.name, days=days):
            self.log.error(f"{row['day']}: {row['reason']}")
            self._fail_days(file, [row["day"]], row["reason"])
        reasons = self.out_of_reach[file]
        if reasons:
            parameters = {"fetch_ids": list(reasons), "days": days}
            for row in self.warehouse.rows("staging/fetch_reading", "out_of_reach", **parameters):
                self._fail_days(file, [row["day"]], reasons[row["fetch_id"]])

    def _publish_remaining(self) -> None:
        """Publish days that this run did not replace: all if only the mart is loaded, else those that differ."""
        days = self.report.good_days(F_SALES)
        left = {date_id(day): day for day in days if date_id(day) not in self.replaced[USER_ORDERS_LOG]}
        if left and USER_ORDERS_LOG in self.files:
            different = self.warehouse.rows(
                f"checks/{RECONCILIATION}",
                "offending",
                first_date_id=date_id(days[0]),
                last_date_id=date_id(days[-1]),
            )
            left = {row["date_id"]: left[row["date_id"]] for row in different if row["date_id"] in left}
        for group in batched(list(left.values()), DAYS_TOGETHER):
            together_or_one_by_one(group, self._publish, partial(self._fail_day, USER_ORDERS_LOG))

    def _derive_remaining(self) -> None:
        """Derive days that were not just staged: all if only the derived table is loaded, else those that differ."""
        for derived in self.derived:
            days = self.report.good_days(derived.table)
            left = {date_id(day): day for day in days if date_id(day) not in self.replaced[derived.file]}
            if left and derived.file in self.files:
                left = {day: left[day] for day in derived.differing_days(self.warehouse, left)}
            for group in batched(list(left.values()), DAYS_TOGETHER):
                together_or_one_by_one(group, partial(self._derive, derived), partial(self._fail_day, derived.file))

    def _derive(self, derived: DerivedTable, days: Sequence[dt.date]) -> None:
        date_ids = [date_id(day) for day in days]
        with self._writing(date_ids) as writer, self._transaction(derived.name, writer) as transaction:
            derived.replace_days(transaction, date_ids)

    def _publish(self, days: Sequence[dt.date]) -> None:
        """Publish staged days."""
        date_ids = [date_id(day) for day in days]
        with self._writing(date_ids) as writer, self._transaction("f_sales", writer) as transaction:
            transaction.run("mart/f_sales", "avoid_full_scans")
            rows = MartRows(transaction, self.pipeline.scratch)
            deque(rows.made_from(staged_rows(transaction, date_ids)), maxlen=0)
            publish_days(transaction, date_ids, rows, occupied_days(transaction, date_ids))
            transaction.run("staging/name", "reset_planner")
            upsert_dimensions(transaction, date_ids)

    # --- resolutions --------------------------------------------------------------------------------------

    def _start_resolved_days(self) -> None:
        """Mark days that wait for a load after a resolution as being loaded."""
        with self._transaction("resolved days") as transaction:
            date_ids = [date_id(day) for day in self.report.days]
            transaction.run("staging/resolution_day", "start", run_id=self.run_id, date_ids=date_ids)

    def _end_resolved_days(self) -> None:
        """Record which of the waiting days are loaded, and the reasons of failures.

        A day counts as loaded if it is staged from its currently selected file: another load may have recorded a newer
        parse of that file meanwhile.
        """
        with self._transaction("resolved days") as transaction:
            for file in self.files:
                table = F_SALES if file is USER_ORDERS_LOG else staging_table(file)
                good = self.report.good_days(staging_table(file), self.report.good_days(table))
                date_ids = [date_id(day) for day in good] if table in self.report.tables else []
                waiting = transaction.rows("staging/resolution_day", "open", file=file.name, date_ids=date_ids)
                if waiting:
                    days = [day_of(row["date_id"]) for row in waiting]
                    different = {selected.date_id for selected in select_files(transaction, file, days)}
                    loaded = [row["date_id"] for row in waiting if row["date_id"] not in different]
                    transaction.run(
                        "staging/resolution_day", "finish", file=file.name, run_id=self.run_id, date_ids=loaded
                    )
            transaction.run(
                "staging/resolution_day",
                "fail",
                run_id=self.run_id,
                date_ids=[date_id(day) for day in self.report.failures],
                reasons=["; ".join(reasons) for reasons in self.report.failures.values()],
            )

    # --- report -------------------------------------------------------------------------------------------

    def _note_verified_rules(self) -> None:
        """Record the days for which the load has already verified the rule of an asset check."""
        staged = self.replaced[USER_ORDERS_LOG] & {date_id(day) for day in self._good_days(USER_ORDERS_LOG)}
        proven = {
            UNIQUE_KEYS: staged,  # whole days, each from one file, in which `deduplicate` has compared the keys
            ONE_DATE: staged & self.days_apart,
        }
        if self.publishes:
            good = staged & {date_id(day) for day in self.report.good_days(F_SALES)}
            proven[RECONCILIATION] = good
            for rule in ROW_RULES:
                proven[rule] = {day for day in good & self.sums.keys() if day not in self.sums[day].days_of_wrong_sign}
        for derived in self.derived:
            good_days = {date_id(day) for day in self.report.good_days(derived.table)}
            proven[derived.reconciliation] = good_days & self.replaced[derived.file]
        self.report.verified = {rule: {day_of(day) for day in days} for rule, days in proven.items()}

    def _add_counts(self) -> None:
        """Add the counts of each day to the report."""
        days = {date_id(day): day for day in self.report.days}
        for file in self.files:
            rows = self.warehouse.rows("staging/staged_day", "summary", file=file.name, date_ids=list(days))
            for row in rows:
                facts = {
                    "rows": row["rows"],
                    "duplicates": int(row["repeats"]),
                    "rejected rows": int(row["bad"]),
                    "fetch number": row["fetch_id"],
                    "selected file": f"{row['kind']} {row['path']}",
                }
                self.report.add(staging_table(file), days[row["date_id"]], facts)
        for derived in self.derived:
            for row in derived.summary(self.warehouse, days):
                self.report.add(derived.table, days[row.pop("date_id")], row)
        if self.publishes:
            for day in days.keys() & self.sums.keys():
                self.report.add(F_SALES, days[day], self.sums[day].summary(day))
            for row in self.warehouse.rows("mart/f_sales", "summary", date_ids=list(days.keys() - self.sums.keys())):
                self.report.add(F_SALES, days[row["date_id"]], {k: v for k, v in row.items() if k != "date_id"})


def _rows_of(selected: Iterable[SelectedFile], parsed_files: Mapping[int, ParsedFile]) -> dict[int, int]:
    return {day.date_id: parsed_files[day.fetch_id].kept_on(day.date_id) for day in selected}


def _written_days(days: Sequence[dt.date], parsed: Iterable[ParsedFile]) -> set[int]:
    """Find the days to lock: those for which the files may be selected, and those of increments to be recorded."""
    raw_files = [one.raw_file for one in parsed]
    covered = {day for day in days if any(raw.first_day <= day <= raw.last_day for raw in raw_files)}
    return {date_id(day) for day in covered | {raw.first_day for raw in raw_files if raw.kind == "increment"}}


def batched(items: Sequence[T], size: int) -> Iterator[list[T]]:
    """Split items into lists of `size`; the last may be shorter."""
    remaining = iter(items)
    while group := list(itertools.islice(remaining, size)):
        yield group
