"""The schedules. Their cadence is the calendar's; which days they ask for follows from the report API's window."""

import dagster as dg
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
)

from sales_assets.defs.automation.jobs import load_report_and_days
from sales_assets.partitions import DAYS

# On day D the report covers D-30 .. D-8 and the increments the seven days after it.
_WINDOW_DAYS = 30


@dg.schedule(job=load_report_and_days, cron_schedule="30 4 * * *", execution_timezone="UTC")
def fresh_report(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Every morning: one fresh report, and with it all days that the report API still knows."""
    days = DAYS.get_partition_keys(current_time=context.scheduled_execution_time)[-_WINDOW_DAYS:]
    return dg.RunRequest(
        run_key=days[-1],
        tags={ASSET_PARTITION_RANGE_START_TAG: days[0], ASSET_PARTITION_RANGE_END_TAG: days[-1]},
    )
