"""The one op that takes a day from the report API to the mart: raw increment files, staging, ``mart.f_sales``.

Why one op for three stages: in a range of days one broken day must keep no other day out of the mart, and must not
be shown as loaded where it broke or downstream. Dagster skips everything downstream of a failed op, so separate ops
could only fail all days or hide the broken one. Here each day, or a few days at a time, is a transaction; good days
are reported one by one when another day broke, and the run ends as failed, naming the broken ones.

Belongs here: which day goes through which steps, and what Dagster is told. Does not belong here: the steps
themselves (``raw/fetching``, ``staging/reading``, ``facts/replacing``).
"""

import contextlib
import datetime as dt
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import dagster as dg
import psycopg

from sales_assets.contracts.report_files import REPORT_FILES, USER_ORDERS_LOG, ReportFile
from sales_assets.defs.checking import SqlCheck, evaluate
from sales_assets.defs.dims.upserting import add_calendar_days, upsert_names, upsert_names_from_staging
from sales_assets.defs.facts.assets import F_SALES, f_sales_spec
from sales_assets.defs.facts.checks import RECONCILIATION, f_sales_checks
from sales_assets.defs.facts.plotting import plot_days
from sales_assets.defs.facts.replacing import occupied_days, replace_days
from sales_assets.defs.ledger import Ledger
from sales_assets.defs.progress import Progress
from sales_assets.defs.raw.assets import fetch_metadata, increment_key, increment_specs
from sales_assets.defs.raw.fetching import Delivery, fetch_increment, record
from sales_assets.defs.staging.assets import staging_key, staging_specs
from sales_assets.defs.staging.checks import staging_checks
from sales_assets.defs.staging.reading import KeptFetch, Reading, read
from sales_assets.defs.staging.replacing import (
    Choice,
    balanced,
    choose,
    corrections_of,
    names_of,
    record_readings,
    stage_days,
    stale_fetches,
    unread_fetches,
)
from sales_assets.partitions import DAYS, WHOLE_RANGE, date_id, day_of, days_of
from sales_assets.resources.memory import give_back, share_one_pool
from sales_assets.resources.raw_files import RawFiles
from sales_assets.resources.report_api import ReportApi, ReportApiError
from sales_assets.resources.spool import temporary_folder
from sales_assets.resources.warehouse import Transaction, Warehouse, Writer

# Days that share a transaction. When one of them breaks it, each is tried alone.
DAYS_TOGETHER = 30
# The API answers in tens of milliseconds and a day has five calls: a few at once hide that.
_FETCHERS = 6
# Transactions of a large fetch at a time. Parsing rows is bound by the processor: two keep two cores busy.
_WRITERS = 2


def all_checks() -> dict[dg.AssetCheckKey, SqlCheck]:
    return {check.key: check for check in (*staging_checks(), *f_sales_checks())}


def _specs() -> list[dg.AssetSpec]:
    """The assets of a day, upstream first."""
    return [*increment_specs(), *staging_specs(), f_sales_spec()]


@dg.multi_asset(
    name="day_chain",
    specs=_specs(),
    check_specs=[check.spec() for check in all_checks().values()],
    partitions_def=DAYS,
    backfill_policy=WHOLE_RANGE,
    can_subset=True,
)
def day_chain(
    context: dg.AssetExecutionContext,
    warehouse: Warehouse,
    raw_files: RawFiles,
    report_api: ReportApi,
    progress: Progress,
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Fetch the days' increments, stage what the chosen fetches bring, replace the days of the mart, check."""
    share_one_pool()
    selected = [spec.key for spec in _specs() if spec.key in context.selected_asset_keys]
    days = days_of(context.partition_keys) if selected else []
    ledger = Ledger(selected, days)
    reconciled: set[dt.date] = set()
    if selected:
        chain = _Chain(context, warehouse, raw_files, report_api, progress, ledger)
        chain.run(days)
        reconciled = chain.reconciled(days)
    wanted = [check for key, check in all_checks().items() if key in context.selected_asset_check_keys]
    results = evaluate(warehouse, wanted, days, {RECONCILIATION: reconciled})
    yield from ledger.report(context, results)


class _Chain:
    """One run over some days."""

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        warehouse: Warehouse,
        raw_files: RawFiles,
        report_api: ReportApi,
        progress: Progress,
        ledger: Ledger,
    ) -> None:
        self.log = context.log
        self.run_id = context.run.run_id
        self.warehouse = warehouse
        self.raw_files = raw_files
        self.report_api = report_api
        self.progress = progress
        self.ledger = ledger
        self.fetches = any(increment_key(file) in ledger.selected for file in REPORT_FILES.values())
        self.staged_files = [file for file in REPORT_FILES.values() if staging_key(file) in ledger.selected]
        self.fills_mart = F_SALES in ledger.selected
        self.occupied: set[int] = set()
        self.replaced: dict[ReportFile, set[int]] = {file: set() for file in REPORT_FILES.values()}

    def run(self, days: Sequence[dt.date]) -> None:
        self.progress.say("increments")
        self.progress.days_ahead(len(days))
        if self.fills_mart:
            with self.warehouse.writing() as writer, self._transaction("calendar", writer) as transaction:
                add_calendar_days(transaction, days[0], days[-1])
        for group in self._fetched(days) if self.fetches else _batched(days):
            for file in self.staged_files:
                self._together_or_alone(file, self._good(file, group), self._load_increments)
            self.progress.days_done(len(group))
        for file in self.staged_files:
            self.progress.say(f"{file.name}: what else the days take from kept fetches")
            self._load_the_rest(file, self._good(file, days))
            self._note_unusable(file, self._good(file, days))
        if self.fills_mart:
            self._fill_what_is_left(self.ledger.good_days(F_SALES, days))
        self._describe(days)

    def reconciled(self, days: Sequence[dt.date]) -> set[dt.date]:
        """The days whose mart was compared with staging by the transaction that replaced it."""
        if not self.fills_mart:
            return set()
        replaced = self.replaced[USER_ORDERS_LOG]
        return {day for day in self.ledger.good_days(F_SALES, days) if date_id(day) in replaced}

    def _transaction(
        self, purpose: str, writer: Writer | None = None
    ) -> contextlib.AbstractContextManager[Transaction]:
        return (writer or self.warehouse).transaction(f"{self.run_id[:8]} {purpose}")

    def _good(self, file: ReportFile, days: Sequence[dt.date]) -> list[dt.date]:
        return self.ledger.good_days(staging_key(file), days)

    # --- raw ----------------------------------------------------------------------------------------------

    def _fetched(self, days: Sequence[dt.date]) -> Iterator[Sequence[dt.date]]:
        """Fetch and record the days' increments, and yield the days a group at a time."""
        report = self.warehouse.rows("raw/delivery", "latest_report")
        if not report:
            raise dg.Failure(
                "no report was fetched yet, and increments are asked for by its id: "
                "materialize raw/user_orders_log first, or run `sales-assets load --report`"
            )
        report_id = report[0]["report_id"]
        with ThreadPoolExecutor(_FETCHERS, thread_name_prefix="fetch") as pool:
            asked = (
                [(day, pool.submit(fetch_increment, self.report_api, self.raw_files, report_id, day)) for day in group]
                for group in _batched(days)
            )
            # One group is downloaded while the one before it is loaded; not more, or a long range would lie in
            # memory as futures and on the API as a burst.
            ahead = next(asked)
            while ahead:
                group, ahead = ahead, next(asked, [])
                self._record_group(report_id, group)
                yield [day for day, _ in group]

    def _record_group(self, report_id: str, group: Sequence[tuple[dt.date, Future[Delivery]]]) -> None:
        deliveries = []
        for day, future in group:
            try:
                deliveries.append(future.result())
            except (ReportApiError, OSError) as error:  # OSError: the raw files can't be written
                self.log.error(f"{day}: {error}")
                self.ledger.break_day(day, str(error), self.ledger.selected)
                deliveries.append(Delivery("increment", day, day, "failed", str(error), report_id))
        with self._transaction("raw increments") as transaction:
            numbers = record(transaction, deliveries, self.run_id)
        for delivery, number in zip(deliveries, numbers, strict=True):
            for file in REPORT_FILES.values():
                self.ledger.describe(
                    increment_key(file),
                    delivery.first_day,
                    fetch_metadata(delivery, file, number.get(file.name)),
                )

    # --- staging and mart ---------------------------------------------------------------------------------

    def _together_or_alone(
        self, file: ReportFile, days: Sequence[dt.date], load: Callable[[ReportFile, Sequence[dt.date]], None]
    ) -> None:
        """Load days in one transaction; when one of them breaks it, each in a transaction of its own."""
        if not days:
            return
        try:
            load(file, days)
        except psycopg.OperationalError:
            raise  # the server itself is in trouble: day by day it would be no better
        except Exception as error:  # noqa: BLE001  whatever broke one day must not keep the others out
            if len(days) == 1:
                self.log.error(f"{days[0]}: {error}")
                self._break_days(file, days, str(error))
                return
            self.log.warning(f"{days[0]} to {days[-1]} do not load together ({error}); trying each alone")
            for day in days:
                self._together_or_alone(file, [day], load)

    def _break_days(self, file: ReportFile, days: Iterable[dt.date], reason: str) -> None:
        broken = {staging_key(file)} | ({F_SALES} if file is USER_ORDERS_LOG else set())
        for day in days:
            self.ledger.break_day(day, reason, broken)

    def _load_increments(self, file: ReportFile, days: Sequence[dt.date]) -> None:
        with self._transaction(f"unread {file.name}") as transaction:
            unread = unread_fetches(transaction, file, days)
        self._load(file, [fetch for fetch in unread if fetch.kind == "increment"], days)

    def _load(self, file: ReportFile, fetches: Sequence[KeptFetch], days: Sequence[dt.date]) -> None:
        """Read fetches and replace the days that they win; a few days in one transaction, many in several."""
        if not fetches:
            return
        with self._transaction(f"corrections {file.name}") as transaction:
            corrections = corrections_of(transaction, fetches)
        with temporary_folder() as folder:
            readings = {
                fetch.fetch_id: read(
                    partial(self.raw_files.chunks, fetch.path), file, fetch, corrections[fetch.fetch_id], folder
                )
                for fetch in fetches
            }
            give_back()
            with self.warehouse.writing() as writer:
                with self._transaction(file.name, writer) as transaction:
                    record_readings(transaction, list(readings.values()), self.run_id)
                    choices = [c for c in choose(transaction, file, days) if c.fetch_id in readings]
                    if file is USER_ORDERS_LOG and self.fills_mart:
                        upsert_names(transaction, names_of(readings, choices))
                        give_back()
                        self.occupied = occupied_days(transaction, [choice.date_id for choice in choices])
                    groups = balanced(choices, readings)
                    if len(groups) == 1 and self._replaced_together(transaction, file, groups[0], readings):
                        groups = []
                # What was read is written down; from here on each group of days stands or falls alone.
                self._replace_groups(writer, file, groups, readings)
                if file is USER_ORDERS_LOG and choices:
                    self._summarize(writer)
                if len(groups) > 1:
                    with self._transaction("sample", writer) as transaction:
                        transaction.run_all("facts/f_sales", "sample")

    def _summarize(self, writer: Writer) -> None:
        with self._transaction("summarize", writer) as transaction:
            transaction.run("facts/f_sales", "summarize_days")

    def _replaced_together(
        self,
        transaction: Transaction,
        file: ReportFile,
        choices: Sequence[Choice],
        readings: Mapping[int, Reading],
    ) -> bool:
        try:
            with transaction.savepoint():
                self._replace(transaction, file, choices, readings)
        except psycopg.OperationalError:
            raise
        except Exception as error:  # noqa: BLE001  whatever broke one day must not keep the others out
            self.log.warning(f"{len(choices)} days do not load together ({error}); trying each alone")
            return False
        return True

    def _replace_groups(
        self,
        writer: Writer,
        file: ReportFile,
        groups: Sequence[Sequence[Choice]],
        readings: Mapping[int, Reading],
    ) -> None:
        """Groups of days, each in a transaction of its own, as many at a time as the machine has use for."""
        if not groups:
            return

        def replace(group: Sequence[Choice]) -> None:
            with self._transaction(f"{file.name} {group[0].date_id}", writer) as transaction:
                self._replace(transaction, file, group, readings)
            if file is USER_ORDERS_LOG:
                # Each group would read all blocks that no index tells the days of: those of all groups before it.
                self._summarize(writer)

        with ThreadPoolExecutor(_WRITERS, thread_name_prefix="write") as pool:
            futures = [pool.submit(replace, group) for group in groups]
        broken: list[Choice] = []
        for group, future in zip(groups, futures, strict=True):
            error = future.exception()
            if isinstance(error, psycopg.OperationalError):
                raise error
            if error is not None and len(group) == 1:
                day = day_of(group[0].date_id)
                self.log.error(f"{day}: {error}")
                self._break_days(file, [day], f"{file.name}: {error}")
            elif error is not None:
                broken += group
        self._replace_groups(writer, file, [[choice] for choice in broken], readings)

    def _replace(
        self,
        transaction: Transaction,
        file: ReportFile,
        choices: Sequence[Choice],
        readings: Mapping[int, Reading],
    ) -> None:
        if not choices:
            return
        stage_days(transaction, file, choices, readings, self.run_id)
        date_ids = [choice.date_id for choice in choices]
        if file is USER_ORDERS_LOG and self.fills_mart:
            replace_days(transaction, date_ids, self.occupied)
        self.replaced[file].update(date_ids)

    def _load_the_rest(self, file: ReportFile, days: Sequence[dt.date]) -> None:
        """Reports that were not read yet, and fetches read before that win days they are not staged for."""
        for find in (unread_fetches, stale_fetches):
            if not days:
                return
            with self._transaction(f"{file.name} rest") as transaction:
                fetches = find(transaction, file, days)
            for fetch in fetches:
                try:
                    self._load(file, [fetch], days)
                except psycopg.OperationalError:
                    raise
                except Exception as error:  # noqa: BLE001  days that other fetches serve are not concerned
                    self.log.error(f"{fetch.path}: {error}")
                    covered = [day for day in days if fetch.first_day <= day <= fetch.last_day]
                    left = [day for day in covered if date_id(day) not in self.replaced[file]]
                    self._break_days(file, left, f"{fetch.path}: {error}")

    def _note_unusable(self, file: ReportFile, days: Sequence[dt.date]) -> None:
        """Days whose newest file can't be read, or has no good line: they stay as they were, and are broken."""
        if not days:
            return
        for row in self.warehouse.rows("staging/staged_day", "faults", file=file.name, days=list(days)):
            self.log.error(f"{row['day']}: {row['reason']}")
            self._break_days(file, [row["day"]], row["reason"])

    def _fill_what_is_left(self, days: Sequence[dt.date]) -> None:
        """Days of the mart that staging did not just replace: all if only the mart was asked for, else what differs."""
        left = {date_id(day): day for day in days if date_id(day) not in self.replaced[USER_ORDERS_LOG]}
        if left and USER_ORDERS_LOG in self.staged_files:
            different = self.warehouse.rows(
                "checks/equal_to_staging",
                "offending",
                first_date_id=date_id(days[0]),
                last_date_id=date_id(days[-1]),
            )
            left = {row["date_id"]: left[row["date_id"]] for row in different if row["date_id"] in left}
        for group in _batched(list(left.values())):
            self._together_or_alone(USER_ORDERS_LOG, group, self._fill)

    def _fill(self, _file: ReportFile, days: Sequence[dt.date]) -> None:
        date_ids = [date_id(day) for day in days]
        with self.warehouse.writing() as writer, self._transaction("f_sales", writer) as transaction:
            upsert_names_from_staging(transaction, date_ids)
            replace_days(transaction, date_ids, occupied_days(transaction, date_ids))

    # --- telling ------------------------------------------------------------------------------------------

    def _describe(self, days: Sequence[dt.date]) -> None:
        date_ids = {date_id(day): day for day in days}
        for file in self.staged_files:
            rows = self.warehouse.rows("staging/staged_day", "summary", file=file.name, date_ids=list(date_ids))
            for row in rows:
                self.ledger.describe(
                    staging_key(file),
                    date_ids[row["date_id"]],
                    {
                        "rows": row["rows"],
                        "repeats": int(row["repeats"]),
                        "bad lines": int(row["bad"]),
                        "fetch number": row["fetch_id"],
                        "taken from": f"{row['kind']} {row['path']}",
                    },
                )
        if not self.fills_mart:
            return
        sales = self.warehouse.rows("facts/f_sales", "summary", date_ids=list(date_ids))
        for row in sales:
            self.ledger.describe(
                F_SALES,
                date_ids[row["date_id"]],
                {
                    "rows": row["rows"],
                    "refunded rows": row["refunded_rows"],
                    # Dagster plots numbers only; the exact amount stands beside it.
                    "net amount": float(row["net_amount"]),
                    "net amount, exact": str(row["net_amount"]),
                    "net quantity": float(row["net_quantity"]),
                    "refunded amount": float(row["refunded_amount"]),
                },
            )
        if sales:
            latest = max(sales, key=lambda row: row["date_id"])
            self.ledger.describe(
                F_SALES,
                date_ids[latest["date_id"]],
                {"net amount per day": dg.MetadataValue.md(plot_days(sales))},
            )


def _batched(days: Sequence[dt.date]) -> Iterator[Sequence[dt.date]]:
    remaining = iter(days)
    while group := list(itertools.islice(remaining, DAYS_TOGETHER)):
        yield group
