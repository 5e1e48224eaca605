"""Op that loads days from the report API into the mart: raw increment files, staging, the mart.

One op for three stages, because a failing day must neither block the other days of a range nor be shown as
materialized. Dagster skips everything downstream of a failed op, so separate ops could only fail all days or hide the
failing one. The work is done by the loading engine (`sales_assets.pipeline`).
"""

import datetime as dt
from collections.abc import Iterator, Sequence
from logging import Logger

import dagster as dg

from sales_assets.defs.checking import SqlCheck, evaluate
from sales_assets.defs.load_events import report_load, table_of
from sales_assets.defs.mart.f_activity import ACTIVITY
from sales_assets.defs.mart.f_research import RESEARCH
from sales_assets.defs.mart.f_sales import f_sales_checks, f_sales_spec
from sales_assets.defs.raw.report_files import increment_specs
from sales_assets.defs.staging.report_files import staging_checks, staging_specs
from sales_assets.partitions import DAYS, LOAD_POLICY, days_of
from sales_assets.pipeline.load import NoReportError, Pipeline, load_days
from sales_assets.pipeline.load_report import LoadReport
from sales_assets.pipeline.memory import share_one_pool
from sales_assets.pipeline.progress import Progress
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.resources.raw_files import RawFiles
from sales_assets.resources.report_api import ReportApi
from sales_assets.settings import first_day, settings

# The marts that are filled together with their staging table (docs/guides/add-a-mart.md).
DERIVED_MARTS = (ACTIVITY, RESEARCH)


def all_checks() -> dict[dg.AssetCheckKey, SqlCheck]:
    """Declare the checks of the staging tables and of the marts."""
    derived = (check for mart in DERIVED_MARTS for check in mart.checks)
    return {check.key: check for check in (*staging_checks(), *f_sales_checks(), *derived)}


def stored_specs() -> list[dg.AssetSpec]:
    """Declare the assets of a day that are loaded from stored raw files, without the report API."""
    fetched = {spec.key for spec in increment_specs()}
    return [spec for spec in all_specs() if spec.key not in fetched]


def all_specs() -> list[dg.AssetSpec]:
    """Declare the assets of a day, upstream first."""
    return [*increment_specs(), *staging_specs(), f_sales_spec(), *(mart.spec() for mart in DERIVED_MARTS)]


@dg.multi_asset(
    name="load_daily_sales",
    specs=all_specs(),
    check_specs=[check.spec() for check in all_checks().values()],
    partitions_def=DAYS,
    backfill_policy=LOAD_POLICY,
    can_subset=True,
)
def load_daily_sales(
    context: dg.AssetExecutionContext,
    warehouse: dg.ResourceParam[Warehouse],
    raw_files: dg.ResourceParam[RawFiles],
    report_api: dg.ResourceParam[ReportApi],
    progress: dg.ResourceParam[Progress],
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Fetch the increments of the days, stage the selected files, replace the days of the mart, run the checks."""
    selected = [spec.key for spec in all_specs() if spec.key in context.selected_asset_keys]
    days = days_of(context.partition_keys) if selected else []
    checks = [check for key, check in all_checks().items() if key in context.selected_asset_check_keys]
    clients = (warehouse, raw_files, report_api)
    try:
        report, results = load_and_check(*clients, context.log, progress, context.run.run_id, days, selected, checks)
    except NoReportError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    yield from report_load(context, report, results)


def load_and_check(
    warehouse: Warehouse,
    raw_files: RawFiles,
    report_api: ReportApi,
    log: Logger,
    progress: Progress,
    run_id: str,
    days: Sequence[dt.date],
    selected: Sequence[dg.AssetKey],
    checks: Sequence[SqlCheck],
) -> tuple[LoadReport, list[dg.AssetCheckResult]]:
    """Load the days into the selected assets, then evaluate the checks. Without assets only the checks are run."""
    share_one_pool()
    report = LoadReport([], [])
    with warehouse.keeping_connections() as connected:
        if selected:
            scratch = settings().sales_home / "tmp"
            derived = [mart.table for mart in DERIVED_MARTS]
            pipeline = Pipeline(connected, raw_files, report_api, scratch, first_day(), log, progress, derived)
            report = load_days(pipeline, days, [table_of(key) for key in selected], run_id)
        return report, evaluate(connected, checks, days, report.verified)
