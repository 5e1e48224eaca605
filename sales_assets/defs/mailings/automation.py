"""What sets the mailings' assets off: their jobs, and the sensors on sales, links and messages.

Belongs here: telling what is new. Does not belong here: making it (``audience``, ``deliveries``), or sending, which is
the service's own affair.
"""

import datetime as dt
from functools import partial
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from sales_assets.defs.automation.asking import is_under_way, number_of, request_each, request_once
from sales_assets.defs.mailings.audience import LINKS_TAG, audience
from sales_assets.defs.mailings.deliveries import mailing_deliveries
from sales_assets.defs.mailings.keys import CLIENT_TAG
from sales_assets.defs.marts.automation import newest_sales
from sales_assets.partitions import ORDER_DAYS
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.settings import settings

_RUNS_PER_TICK = 5
_NO_LINKS = "0.0"
# Messages that hang are news that no run settles; a day of them is loaded again, so that its check shows them.
_HANGING_PAUSE = dt.timedelta(hours=1)

fill_audience = dg.define_asset_job(
    "fill_audience",
    selection=dg.AssetSelection.assets(audience),
    description="Link the clients of the mailings to customers, and give them the tags that their sales make.",
    executor_def=dg.in_process_executor,
)

load_mailing_deliveries = dg.define_asset_job(
    "load_mailing_deliveries",
    selection=dg.AssetSelection.assets(mailing_deliveries),
    description="Take what became of the messages of a day or a range of days to the mart, with the statistics.",
    executor_def=dg.in_process_executor,
)


@dg.sensor(job=fill_audience, minimum_interval_seconds=60)
def changed_audience(
    context: dg.SensorEvaluationContext, warehouse: dg.ResourceParam[Warehouse]
) -> dg.SensorResult | dg.SkipReason:
    """Fill the audience when a day of sales was loaded, or a client, a phone or a link is another.

    There is no cursor: the tags carry the number of the last event before their sales were read, and a fingerprint of
    their links. After a failed run the same is requested again with growing pauses.
    """
    if is_under_way(context.instance, fill_audience.name):
        return dg.SkipReason("A run is under way; what is new by then is asked for after it.")
    told = max(newest_sales(context.instance).values(), default=0)
    links = str(warehouse.rows("mailings/client_customer", "fingerprint")[0]["links"])
    event = context.instance.get_latest_materialization_event(CLIENT_TAG)
    tags = (event and event.asset_materialization and event.asset_materialization.tags) or {}
    seen = number_of(tags.get(DATA_VERSION_TAG))
    if told <= seen and links == tags.get(LINKS_TAG, _NO_LINKS):
        return dg.SkipReason("Sales and links are those that the tags were made of.")
    request = request_once(context.instance, fill_audience.name, f"{told}.{links}.{seen}")
    if request is None:
        return dg.SkipReason("A run for this news has just ended; it is asked for again after a pause.")
    return dg.SensorResult([request])


@dg.sensor(job=load_mailing_deliveries, minimum_interval_seconds=60)
def new_deliveries(
    context: dg.SensorEvaluationContext, warehouse: dg.ResourceParam[Warehouse]
) -> dg.SensorResult | dg.SkipReason:
    """Ask for days whose messages are not what the mart says of them, and once for those where messages hang.

    There is no cursor: messages and mart are compared, by counts of the days that can have changed. Days outside the
    calendar wait until they are in it.
    """
    if is_under_way(context.instance, load_mailing_deliveries.name):
        return dg.SkipReason("A run is under way; what is new by then is asked for after it.")
    news = warehouse.rows("mart/f_mailing_deliveries", "days_with_news", timezone=settings().sales_timezone)
    partitions = set(ORDER_DAYS.get_partition_keys())
    due = [row for row in news if row["day"] in partitions]
    requests = request_each(context, ((row["day"], partial(_request, context.instance, row)) for row in due))
    if not requests:
        return dg.SkipReason(f"{len(due)} days have news, and none is to be asked for now.")
    return dg.SensorResult(requests[:_RUNS_PER_TICK])


def _request(instance: dg.DagsterInstance, row: dict[str, Any]) -> dg.RunRequest | None:
    news = f"{row['day']}.{row['digest']}"
    return request_once(instance, load_mailing_deliveries.name, news, day=row["day"], repeat_after=_HANGING_PAUSE)
