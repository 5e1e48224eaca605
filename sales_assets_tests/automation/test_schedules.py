"""The schedule: which days every morning's report and load ask for."""

import datetime as dt

import dagster as dg
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from sales_assets.defs.automation.schedules import fresh_report


def test_every_morning_asks_for_all_days_that_the_report_api_knows() -> None:
    context = dg.build_schedule_context(scheduled_execution_time=dt.datetime(2024, 10, 8, 4, 30, tzinfo=dt.UTC))
    request = fresh_report(context)
    assert isinstance(request, dg.RunRequest)
    assert request.run_key == "2024-10-07"
    # On day D the report begins at D-30, and the last increment is that of D-1.
    assert request.tags[ASSET_PARTITION_RANGE_START_TAG] == "2024-09-08"
    assert request.tags[ASSET_PARTITION_RANGE_END_TAG] == "2024-10-07"
