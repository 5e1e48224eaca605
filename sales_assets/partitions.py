"""The one calendar and the one backfill policy, shared by every partitioned asset.

Does not belong here: dates of anything else. Loading it reads SALES_FIRST_DAY and nothing more.
"""

import datetime as dt
import itertools
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


_SHOWN_SPANS = 10


def days_of(partition_keys: Iterable[str]) -> list[dt.date]:
    """Convert partition keys to calendar days, in order."""
    return sorted(dt.date.fromisoformat(key) for key in partition_keys)


def key_of(day: dt.date) -> str:
    """Return the partition key of a calendar day."""
    return day.isoformat()


def ranges(days: Iterable[dt.date]) -> list[tuple[dt.date, dt.date]]:
    """Contiguous spans, each with its first and last day."""
    groups = itertools.groupby(enumerate(sorted(set(days))), key=lambda pair: pair[1].toordinal() - pair[0])
    spans = [[day for _, day in group] for _, group in groups]
    return [(span[0], span[-1]) for span in spans]


def spelled_out(days: Iterable[dt.date]) -> str:
    """Days for a message: "2024-09-01 to 2024-09-30, 2024-10-02"; of many spans the first few."""
    spans = ranges(days)
    told = [str(first) if first == last else f"{first} to {last}" for first, last in spans[:_SHOWN_SPANS]]
    return ", ".join(told) + (f" and {len(spans) - _SHOWN_SPANS} further spans" if len(spans) > _SHOWN_SPANS else "")
