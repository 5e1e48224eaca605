"""`sales-assets load`: load a range of days through Dagster in this process, with a fresh report if needed."""

import datetime as dt
import gc
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from sales_assets.cli.console import ProgressBar, out, print_error
from sales_assets.cli.options import day_option
from sales_assets.settings import first_day

if TYPE_CHECKING:
    import dagster as dg

    from sales_assets.pipeline.progress import Progress
    from sales_assets.postgres.warehouse import Warehouse


_CHECKED_BY_DOCTOR = " (`sales-assets doctor` checks the report API and its settings)"


class LoadError(Exception):
    """The requested load is impossible; the message is the reason."""


@dataclass(frozen=True)
class LoadResult:
    """The mart's totals for the days after a load, and the failures of the load."""

    first_day: dt.date
    last_day: dt.date
    rows: int
    refunded_rows: int
    net_amount: Decimal
    net_quantity: Decimal
    days_with_rows: int
    not_found: int
    open_quarantine: int
    outside_period: int
    before_first_day: int
    failures: list[str] = field(default_factory=list)

    @property
    def days(self) -> int:
        return (self.last_day - self.first_day).days + 1


def load(
    report: Annotated[bool, typer.Option("--report", help="Request a fresh report first.")] = False,
    from_day: Annotated[
        dt.date | None,
        day_option("--from", "First day. Default: first day of the newest report."),
    ] = None,
    to_day: Annotated[
        dt.date | None,
        day_option("--to", "Last day, inclusive. Default: yesterday."),
    ] = None,
) -> None:
    """Load a range of days into mart.f_sales through Dagster, in this process.

    Requests the increment of every day of the range again. With --report, also requests a fresh report and loads its
    days inside the range; without --report, requests one only if no usable report is stored. The exit code is 0 only if
    every requested day is done: delivered and loaded, or NOT FOUND. Rows in quarantine don't change it.

    Examples: `sales-assets load --report --from 2024-09-08 --to 2024-10-02`; `sales-assets load --from 2024-10-02`.
    """
    with ProgressBar() as progress:
        result = load_days(fresh_report=report, from_day=from_day, to_day=to_day, progress=progress.resource)
    print_result(result)
    for failure in result.failures:
        print_error(failure)
    if result.failures:
        raise typer.Exit(1)


def print_result(result: LoadResult) -> None:
    """Print the totals of the days."""
    table = Table("", f"{result.first_day} to {result.last_day}", title="mart.f_sales")
    table.add_row("days requested", str(result.days))
    table.add_row("of them without increment", str(result.not_found))
    table.add_row("days with rows", str(result.days_with_rows))
    table.add_row("rows", f"{result.rows} ({result.refunded_rows} refunded)")
    table.add_row("net quantity", str(result.net_quantity))
    table.add_row("net amount", str(result.net_amount))
    table.add_row("rows in quarantine", str(result.open_quarantine))
    if result.outside_period or result.before_first_day:
        table.add_row("rows outside their file's period", str(result.outside_period))
        table.add_row("rows before SALES_FIRST_DAY", str(result.before_first_day))
    out.print(table)


def defs() -> "dg.Definitions":
    """Build only the definitions that a load runs; building all takes a third of a second longer."""
    import dagster as dg

    from sales_assets.defs.automation.jobs import load_days, load_report, load_report_and_days
    from sales_assets.defs.load_daily_sales import load_daily_sales
    from sales_assets.defs.metadata import with_metadata
    from sales_assets.defs.raw.report_files import report_files
    from sales_assets.defs.resources import resources

    loading = dg.Definitions(
        assets=[report_files, load_daily_sales], jobs=[load_report, load_days, load_report_and_days]
    )
    return dg.Definitions.merge(with_metadata(loading), resources())


def load_days(
    *, fresh_report: bool, from_day: dt.date | None, to_day: dt.date | None, progress: "Progress"
) -> LoadResult:
    """Load the days from_day..to_day (inclusive). Raises `LoadError` if no load could be started.

    from_day: default is the first day of the newest report. to_day: default is yesterday.
    """
    import dagster as dg

    from sales_assets.dagster_internals import range_tags
    from sales_assets.deploy.instance import prepare_dagster_home
    from sales_assets.deploy.runs import failures_of, run_job
    from sales_assets.partitions import key_of
    from sales_assets.pipeline.memory import share_one_pool
    from sales_assets.postgres.warehouse import Warehouse

    share_one_pool()
    prepare_dagster_home()
    warehouse = Warehouse()
    warehouse.require_writable()
    if from_day is not None or to_day is not None:
        require_partitions(from_day or to_day, to_day or from_day)
    job_definitions = defs()
    gc.freeze()  # exclude permanent objects from the garbage collections of each day
    with dg.DagsterInstance.get() as instance:
        job = "load_days"
        if fresh_report or not _has_usable_report(warehouse, from_day):
            progress.notify("requesting a report")
            if from_day and to_day:
                job = "load_report_and_days"  # one run is 0.5 s shorter than two
            else:
                _require_report(run_job(job_definitions, instance, "load_report", {}, progress))
        first, last = (from_day, to_day) if from_day and to_day else _range(warehouse, from_day, to_day)
        run = run_job(job_definitions, instance, job, range_tags(key_of(first), key_of(last)), progress)
        _require_report(run)
        return summary(first, last, [run.run_id], failures_of(run))


def _require_report(run: "dg.ExecuteInProcessResult") -> None:
    """Raise `LoadError` if the run failed to get a report."""
    from sales_assets.deploy.runs import failures_of

    if any(event.is_step_failure and event.step_key == "report_files" for event in run.all_events):
        raise LoadError("; ".join(failures_of(run)) + _CHECKED_BY_DOCTOR)


def require_partitions(first: dt.date | None, last: dt.date | None) -> None:
    """Raise `LoadError` unless all days of the range are partitions."""
    assert first is not None
    assert last is not None
    if last < first:
        raise LoadError(f"the range is reversed: {first} is after {last}")
    if first < first_day():
        raise LoadError(f"{first} is before the first day, {first_day()}: set SALES_FIRST_DAY to load it")
    latest = latest_day()
    if last > latest:
        raise LoadError(f"{last} has not ended yet (UTC): increments exist up to {latest}, `--to {latest}` loads them")


def latest_day() -> dt.date:
    """Return the last day that can be loaded."""
    from sales_assets.partitions import DAYS, days_of

    return days_of([DAYS.get_last_partition_key() or ""])[0]


def _has_usable_report(warehouse: "Warehouse", from_day: dt.date | None) -> bool:
    """Whether increments can be requested with the id of the latest stored report."""
    from sales_assets.resources.report_api import ReportApi, ReportApiError, UnknownReport

    report = warehouse.rows("raw/delivery", "latest_report")
    if not report:
        return False
    try:
        ReportApi().increment(report[0]["report_id"], from_day or report[0]["last_day"])
    except UnknownReport:
        return False
    except ReportApiError as error:
        raise LoadError(f"{error}{_CHECKED_BY_DOCTOR}") from error
    return True


def _range(warehouse: "Warehouse", from_day: dt.date | None, to_day: dt.date | None) -> tuple[dt.date, dt.date]:
    report = warehouse.rows("raw/delivery", "latest_report")[0]
    first = from_day or max(report["first_day"], first_day())
    last = to_day or latest_day()
    require_partitions(first, last)
    return first, last


def summary(first: dt.date, last: dt.date, run_ids: Sequence[str], failures: list[str]) -> LoadResult:
    """Read the mart's totals for the days, after the runs that loaded them."""
    from sales_assets.postgres.warehouse import Warehouse
    from sales_assets.schemas.calendar import date_id

    with Warehouse().transaction("sales_assets load summary", read_only=True) as transaction:
        mart = transaction.rows(
            "mart/load_summary", "summary", first_date_id=date_id(first), last_date_id=date_id(last)
        )[0]
        not_found = transaction.rows("mart/load_summary", "not_found", first_day=first, last_day=last)[0]
        waiting = transaction.rows("mart/load_summary", "open_quarantine", first_day=first, last_day=last)[0]
        outside = transaction.rows("mart/load_summary", "outside", run_ids=list(run_ids))[0]
    return LoadResult(
        first_day=first,
        last_day=last,
        not_found=not_found["days"],
        open_quarantine=waiting["lines"],
        failures=failures,
        **mart,
        **outside,
    )
