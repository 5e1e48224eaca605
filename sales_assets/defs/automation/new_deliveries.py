"""Sensor that loads the stale days of ``mart.f_mailing_deliveries`` after messages have changed."""

import datetime as dt
from functools import partial
from typing import Any

import dagster as dg

from sales_assets.defs.automation.decorators import sensor
from sales_assets.defs.automation.jobs import load_mailing_deliveries
from sales_assets.defs.automation.run_requests import is_under_way, request_each, request_once
from sales_assets.partitions import ORDER_DAYS
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.settings import settings

_RUNS_PER_TICK = 5
# A run does not resolve stuck messages; their day is loaded again at most hourly, so that its check shows them.
_HANGING_PAUSE = dt.timedelta(hours=1)


@sensor(job=load_mailing_deliveries, minimum_interval_seconds=60)
def new_deliveries(
    context: dg.SensorEvaluationContext, warehouse: dg.ResourceParam[Warehouse]
) -> dg.SensorResult | dg.SkipReason:
    """Request days whose messages differ from the mart, and hourly the days with stuck messages.

    There is no cursor: messages and mart are compared by counts of the days that may have changed. Days outside the
    calendar wait until they are in it.
    """
    if is_under_way(context.instance, load_mailing_deliveries.name):
        return dg.SkipReason("A run is in progress; later changes are requested after it.")
    changed = warehouse.rows("mart/f_mailing_deliveries", "changed_days", timezone=settings().sales_timezone)
    partitions = set(ORDER_DAYS.get_partition_keys())
    due = [row for row in changed if row["day"] in partitions]
    requests = request_each(context, ((row["day"], partial(_request, context.instance, row)) for row in due))
    if not requests:
        return dg.SkipReason(f"{len(due)} days have changed; none of them is due for a run or retry yet.")
    return dg.SensorResult(requests[:_RUNS_PER_TICK])


def _request(instance: dg.DagsterInstance, row: dict[str, Any]) -> dg.RunRequest | None:
    change_key = f"{row['day']}.{row['digest']}"
    return request_once(instance, load_mailing_deliveries.name, change_key, day=row["day"], repeat_after=_HANGING_PAUSE)
