"""Sensor that loads days with new events of partner orders."""

from functools import partial
from typing import Any

import dagster as dg

from sales_assets.defs.automation.decorators import sensor
from sales_assets.defs.automation.jobs import load_partner_orders
from sales_assets.defs.automation.run_requests import request_each, request_once
from sales_assets.partitions import ORDER_DAYS
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.settings import settings

_RUNS_PER_TICK = 5


@sensor(job=load_partner_orders, minimum_interval_seconds=30)
def new_order_events(
    context: dg.SensorEvaluationContext, warehouse: dg.ResourceParam[Warehouse]
) -> dg.SensorResult | dg.SkipReason:
    """Request the days of events that no run has loaded.

    There is no cursor: each event records whether it was loaded, so that late commits and failed runs are not missed. A
    failed run is repeated with growing pauses. Days outside the calendar wait until they are in it.
    """
    changed = warehouse.rows("staging/partner_order_event", "new_days", timezone=settings().sales_timezone)
    partitions = set(ORDER_DAYS.get_partition_keys())
    due = [row for row in changed if row["day"] in partitions]
    requests = request_each(context, ((row["day"], partial(_request, context.instance, row)) for row in due))
    if not requests:
        waiting = f"; {len(changed) - len(due)} days are not in the calendar" if len(changed) > len(due) else ""
        return dg.SkipReason(f"{len(due)} days have changed; none of them is due for a run or retry yet{waiting}.")
    return dg.SensorResult(requests[:_RUNS_PER_TICK])


def _request(instance: dg.DagsterInstance, row: dict[str, Any]) -> dg.RunRequest | None:
    change_key = f"{row['day']}.{row['digest'][:12]}"
    return request_once(instance, load_partner_orders.name, change_key, day=row["day"])
