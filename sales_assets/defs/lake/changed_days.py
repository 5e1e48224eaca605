"""Sensor that refreshes stale days and dimensions of the lake."""

from functools import partial

import dagster as dg

from sales_assets.dagster_internals import DATA_VERSION_TAG, data_versions, range_tags
from sales_assets.defs.automation.changed_weeks import newest_sales
from sales_assets.defs.automation.decorators import sensor
from sales_assets.defs.automation.run_requests import is_under_way, number_of, request_each, request_once
from sales_assets.defs.lake.configured import if_configured
from sales_assets.defs.lake.dimensions import lake_key, refresh_lake_dimensions
from sales_assets.defs.lake.f_sales import LAKE_F_SALES, refresh_lake
from sales_assets.defs.mart.dimensions import dimension_key
from sales_assets.partitions import ORDER_DAYS, days_of, key_of, ranges
from sales_assets.schemas.lake import DIMENSIONS

_RUNS_PER_TICK = 3
# Partner orders change a day every minute, but each commit adds up to three snapshots, and rewrites the list of a
# week's snapshots.
_SECONDS = 600


@sensor(
    jobs=[refresh_lake, refresh_lake_dimensions],
    minimum_interval_seconds=_SECONDS,
    # On by default, because setting LAKE_URL requests the lake.
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def changed_lake_days(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Request a run per span of days that were loaded after their last copy; if there are none, for changed dimensions.

    There is no cursor: the data version of a copied day is the number of the last event before the mart was read. It is
    compared with the number of the day's latest materialization, so that a day loaded during its copy is requested
    again. A failed run is repeated with growing pauses.
    """
    for job in (refresh_lake, refresh_lake_dimensions):
        if is_under_way(context.instance, job.name):
            return dg.SkipReason("A run is in progress; later changes are requested after it.")
    changed = changed_days(context.instance)
    spans = [(key_of(first), key_of(last)) for first, last in ranges(days_of(changed))]
    requests = request_each(
        context,
        ((f"days {first} to {last}", partial(_request, context, first, last, changed)) for first, last in spans),
    )
    if not changed:
        requests = request_each(context, [("dimensions", partial(_request_dimensions, context))])
    if not requests:
        return dg.SkipReason(f"{len(changed)} days have changed; none of them is due for a run or retry yet.")
    return dg.SensorResult(requests[:_RUNS_PER_TICK])


def changed_days(instance: dg.DagsterInstance) -> dict[str, int]:
    """Return {day: number of the newest event of its sales} for days last copied before that event, or never."""
    seen = {day: number_of(version) for day, version in data_versions(instance, LAKE_F_SALES).items()}
    partitions = set(ORDER_DAYS.get_partition_keys())  # external events may have any partition key
    return {
        day: number for day, number in newest_sales(instance).items() if day in partitions and number > seen.get(day, 0)
    }


def _request(
    context: dg.SensorEvaluationContext, first: str, last: str, changed: dict[str, int]
) -> dg.RunRequest | None:
    newest = max(number for day, number in changed.items() if first <= day <= last)
    change_key = f"{first}.{last}.{newest}"
    return request_once(context.instance, refresh_lake.name, change_key, tags=range_tags(first, last))


def _request_dimensions(context: dg.SensorEvaluationContext) -> dg.RunRequest | None:
    newest, seen = 0, None
    for table in DIMENSIONS:
        loaded = context.instance.fetch_materializations(dimension_key(table), limit=1).records
        newest = max([newest, *(record.storage_id for record in loaded)])
        copied = context.instance.get_latest_materialization_event(lake_key(table))
        tags = (copied and copied.asset_materialization and copied.asset_materialization.tags) or {}
        number = number_of(tags.get(DATA_VERSION_TAG))
        seen = number if seen is None else min(seen, number)
    if newest <= (seen or 0):
        return None
    return request_once(context.instance, refresh_lake_dimensions.name, str(newest))


@dg.definitions
def definitions() -> dg.Definitions:
    """Declare the sensor."""
    return if_configured(sensors=[changed_lake_days])
