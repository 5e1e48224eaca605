"""Partitions and backfill policy shared by every partitioned asset. Importing it reads `DefinitionSettings` only."""

import datetime as dt
import itertools
import warnings
from collections.abc import Iterable

import dagster as dg

from sales_assets.settings import days_per_run, first_day

# Calendar dates without time zone. The last partition is yesterday, the last day that can have an increment.
DAYS = dg.DailyPartitionsDefinition(start_date=first_day().isoformat(), timezone="UTC")

# Orders arrive continuously: today is a partition too, and is loaded again with every event.
ORDER_DAYS = dg.DailyPartitionsDefinition(start_date=first_day().isoformat(), timezone="UTC", end_offset=1)

# ISO weeks, each named by its Monday, from the week of the first day to the current one.
FIRST_MONDAY = first_day() - dt.timedelta(days=first_day().weekday())
WEEKS = dg.WeeklyPartitionsDefinition(start_date=FIRST_MONDAY.isoformat(), day_offset=1, timezone="UTC", end_offset=1)

# A range is one run, because a run per day would start 365 processes for a year. A job uses the policy of its assets
# that allows the fewest partitions per run.
WHOLE_RANGE = dg.BackfillPolicy.single_run()

# With SALES_DAYS_PER_RUN a backfill becomes several runs, for several workers. A run that is requested for a range,
# such as the run of `sales-assets load`, is not split.
LOAD_POLICY = WHOLE_RANGE if days_per_run() is None else dg.BackfillPolicy.multi_run(days_per_run() or 1)


_SHOWN_SPANS = 10


def existing_days() -> dg.TimeWindowPartitionMapping:
    """Map a week or day to its days, omitting days before the first partition or in the future."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # only this option allows a week with days in the future
        return dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True)


def days_of(partition_keys: Iterable[str]) -> list[dt.date]:
    """Convert partition keys to days, in order."""
    return sorted(dt.date.fromisoformat(key) for key in partition_keys)


def key_of(day: dt.date) -> str:
    """Convert a day to its partition key."""
    return day.isoformat()


def ranges(days: Iterable[dt.date]) -> list[tuple[dt.date, dt.date]]:
    """Group days into contiguous spans (first day, last day)."""
    groups = itertools.groupby(enumerate(sorted(set(days))), key=lambda pair: pair[1].toordinal() - pair[0])
    spans = [[day for _, day in group] for _, group in groups]
    return [(span[0], span[-1]) for span in spans]


def days_in(spans: Iterable[tuple[dt.date, dt.date]]) -> list[dt.date]:
    """Return the days of spans (first day, last day), the inverse of `ranges`."""
    return [first + dt.timedelta(days=number) for first, last in spans for number in range((last - first).days + 1)]


def format_days(days: Iterable[dt.date]) -> str:
    """Format days for a message: "2024-09-01 to 2024-09-30, 2024-10-02"; at most ten spans are listed."""
    spans = ranges(days)
    shown = [str(first) if first == last else f"{first} to {last}" for first, last in spans[:_SHOWN_SPANS]]
    return ", ".join(shown) + (f" and {len(spans) - _SHOWN_SPANS} further spans" if len(spans) > _SHOWN_SPANS else "")
