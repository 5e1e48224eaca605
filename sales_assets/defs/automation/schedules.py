"""Schedules. The requested days follow from the report API's window."""

import dagster as dg

from sales_assets.dagster_internals import range_tags
from sales_assets.defs.automation.decorators import schedule
from sales_assets.defs.automation.jobs import load_report_and_days
from sales_assets.partitions import DAYS

# On day D the report covers D-30 .. D-8 and the increments the seven days after it.
_WINDOW_DAYS = 30


@schedule(job=load_report_and_days, cron_schedule="30 4 * * *", execution_timezone="UTC")
def fresh_report(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Request a fresh report every morning, and load all days that the report API still offers."""
    days = DAYS.get_partition_keys(current_time=context.scheduled_execution_time)[-_WINDOW_DAYS:]
    return dg.RunRequest(
        run_key=days[-1],
        tags=range_tags(days[0], days[-1]),
    )
