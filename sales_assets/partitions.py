"""The one calendar and the one backfill policy, shared by every partitioned asset.

Does not belong here: dates of anything else. Loading it reads SALES_FIRST_DAY and nothing more.
"""

import datetime as dt
from collections.abc import Iterable

import dagster as dg

from sales_assets.settings import first_day

# Plain calendar dates; the last partition is yesterday, the last day whose increment can exist.
DAYS = dg.DailyPartitionsDefinition(start_date=first_day().isoformat(), timezone="UTC")

# Orders come by the minute: the day that is not over yet is a partition too, and is made anew with every event.
ORDER_DAYS = dg.DailyPartitionsDefinition(start_date=first_day().isoformat(), timezone="UTC", end_offset=1)

# ISO weeks, each named by its Monday, from the week of the first day to the one that is not over yet.
FIRST_MONDAY = first_day() - dt.timedelta(days=first_day().weekday())
WEEKS = dg.WeeklyPartitionsDefinition(start_date=FIRST_MONDAY.isoformat(), day_offset=1, timezone="UTC", end_offset=1)

# A range is one run: a year of days is not 365 process starts. A job takes the smallest policy of its assets.
WHOLE_RANGE = dg.BackfillPolicy.single_run()


def days_of(partition_keys: Iterable[str]) -> list[dt.date]:
    """The calendar days of partition keys, in order."""
    return sorted(dt.date.fromisoformat(key) for key in partition_keys)


def key_of(day: dt.date) -> str:
    """The partition key of a calendar day."""
    return day.isoformat()
