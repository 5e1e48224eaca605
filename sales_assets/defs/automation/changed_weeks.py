"""Sensor that recomputes the stale weeks of ``mart.f_customer_retention``."""

import datetime as dt
from collections.abc import Mapping, Sequence
from functools import partial

import dagster as dg

from sales_assets.dagster_internals import data_versions, last_materialization_ids, range_tags
from sales_assets.defs.automation.decorators import sensor
from sales_assets.defs.automation.jobs import make_customer_retention
from sales_assets.defs.automation.run_requests import is_under_way, log_failure, number_of, request_each, request_once
from sales_assets.defs.mart.f_customer_retention import F_CUSTOMER_RETENTION
from sales_assets.defs.mart.f_sales import F_SALES
from sales_assets.defs.mart.f_sales_partner_orders import F_SALES_PARTNER_ORDERS
from sales_assets.partitions import WEEKS, days_of, key_of
from sales_assets.schemas.calendar import monday_of

_RUNS_PER_TICK = 3


@sensor(job=make_customer_retention, minimum_interval_seconds=60)
def changed_weeks(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Request a run per span of weeks that have days loaded after the week was computed.

    There is no cursor: the data version of a week is the number of the last event before its sales were read. It is
    compared with the numbers of the latest materializations of its days, so that a week is requested again if a day
    was loaded during its computation. A failed run is repeated with growing pauses.
    """
    if is_under_way(context.instance, make_customer_retention.name):
        return dg.SkipReason("A run is in progress; later changes are requested after it.")
    changed = _changed_weeks(context)
    weeks = _neighbours(sorted(changed))
    requests = request_each(
        context,
        ((f"weeks {some[0]} to {some[-1]}", partial(_request, context.instance, some, changed)) for some in weeks),
    )
    if not requests:
        return dg.SkipReason(f"{len(changed)} weeks have changed; none of them is due for a run or retry yet.")
    return dg.SensorResult(requests[:_RUNS_PER_TICK])


def newest_sales(instance: dg.DagsterInstance) -> dict[str, int]:
    """Return {day: number of the latest materialization of its sales, of any source}."""
    newest: dict[str, int] = {}
    for key in (F_SALES, F_SALES_PARTNER_ORDERS):
        latest = last_materialization_ids(instance, key)
        newest |= {day: max(number, newest.get(day, 0)) for day, number in latest.items()}
    return newest


def _request(instance: dg.DagsterInstance, weeks: Sequence[str], changed: Mapping[str, int]) -> dg.RunRequest | None:
    newest = max(changed[week] for week in weeks)
    return request_once(
        instance,
        make_customer_retention.name,
        f"{weeks[0]}.{weeks[-1]}.{newest}",
        tags=range_tags(weeks[0], weeks[-1]),
    )


def _changed_weeks(context: dg.SensorEvaluationContext) -> dict[str, int]:
    """Return {week: number of the newest event of its days} for weeks computed before that event."""
    newest: dict[str, int] = {}
    for day, number in newest_sales(context.instance).items():
        try:
            week = key_of(monday_of(dt.date.fromisoformat(day)))
        except (ValueError, OverflowError) as error:  # external events may have any partition key
            log_failure(context, f"partition {day!r}", error)
            continue
        newest[week] = max(number, newest.get(week, 0))
    made = data_versions(context.instance, F_CUSTOMER_RETENTION)
    seen = {week: number_of(version) for week, version in made.items()}
    weeks = set(WEEKS.get_partition_keys())  # days loaded under another SALES_FIRST_DAY may be missing
    return {week: number for week, number in newest.items() if week in weeks and number > seen.get(week, 0)}


def _neighbours(weeks: list[str]) -> list[list[str]]:
    """Group adjacent weeks."""
    groups: list[list[str]] = []
    for week, monday in zip(weeks, days_of(weeks), strict=True):
        if groups and (monday - days_of(groups[-1][-1:])[0]).days == 7:
            groups[-1].append(week)
        else:
            groups.append([week])
    return groups
