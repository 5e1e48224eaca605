"""Maintenance of the lake: a job and its schedule that expire old snapshots and delete unreferenced files.

The files of a replaced day stay in the older snapshots, for running readers and time travel. Files of writers that were
killed before their commit belong to no snapshot.
"""

import datetime as dt

import dagster as dg

from sales_assets.defs.automation.decorators import schedule
from sales_assets.defs.lake.configured import if_configured, lake_of
from sales_assets.postgres.warehouse import Warehouse


@dg.op
def maintain_lake(context: dg.OpExecutionContext, warehouse: dg.ResourceParam[Warehouse]) -> None:
    """Expire snapshots older than 7 days, and delete files older than a day that no snapshot references."""
    for done in lake_of(warehouse).maintain(dt.datetime.now(dt.UTC)):
        context.log.info(
            f"{done.table}: {done.expired_snapshots} snapshots expired, {done.deleted_files} files deleted, "
            f"{done.files} files left"
        )


@dg.job(executor_def=dg.in_process_executor)
def lake_maintenance() -> None:
    """Limit the size of the lake: expire old snapshots and delete unreferenced files."""
    maintain_lake()


@schedule(
    job=lake_maintenance,
    cron_schedule="45 3 * * 0",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def weekly_lake_maintenance() -> dg.RunRequest:
    """Run `lake_maintenance` every week. On by default: without it, the lake grows without limit."""
    return dg.RunRequest()


@dg.definitions
def definitions() -> dg.Definitions:
    """Declare the maintenance."""
    return if_configured(jobs=[lake_maintenance], schedules=[weekly_lake_maintenance])
