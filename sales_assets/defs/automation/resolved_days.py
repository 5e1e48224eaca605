"""Sensor that loads days again after rejected rows were resolved."""

import datetime as dt
from functools import partial
from typing import Any

import dagster as dg

from sales_assets.defs.automation.decorators import sensor
from sales_assets.defs.automation.jobs import load_resolved_days
from sales_assets.defs.automation.run_requests import request_each, request_once
from sales_assets.partitions import DAYS
from sales_assets.postgres.warehouse import Warehouse

_RUNS_PER_TICK = 5
# A successful run marks its day as loaded; one that did not, because it began before the resolution, is repeated.
_PAUSE_AFTER_SUCCESS = dt.timedelta(minutes=2)


@sensor(
    job=load_resolved_days,
    minimum_interval_seconds=30,
    # On by default: it calls no API, and requests runs only for resolved rows, whose user waits for the result.
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def resolved_days(
    context: dg.SensorEvaluationContext, warehouse: dg.ResourceParam[Warehouse]
) -> dg.SensorResult | dg.SkipReason:
    """Load days again that have a rejected row that was corrected, discarded or is to be parsed again.

    There is no cursor: the load marks the days in `staging.resolution_day`, so that a day whose run failed or was lost
    is requested again, with growing pauses. A further resolution of the same day is another request.
    """
    due = warehouse.rows("staging/resolution_day", "due")
    partitions = set(DAYS.get_partition_keys())
    days = [row for row in due if row["day"] in partitions]
    requests = request_each(context, ((row["day"], partial(_request, context.instance, row)) for row in days))
    if not requests:
        return dg.SkipReason(
            f"{len(days)} days have resolved rows to load; none of them is due for a run or retry yet."
        )
    return dg.SensorResult(requests[:_RUNS_PER_TICK])


def _request(instance: dg.DagsterInstance, row: dict[str, Any]) -> dg.RunRequest | None:
    change_key = f"{row['day']}.{row['latest']}"
    return request_once(
        instance, load_resolved_days.name, change_key, day=row["day"], repeat_after=_PAUSE_AFTER_SUCCESS
    )
