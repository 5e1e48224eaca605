"""Sensor that refreshes the mailings' audience after sales, clients or links have changed."""

import dagster as dg

from sales_assets.dagster_internals import DATA_VERSION_TAG
from sales_assets.defs.automation.changed_weeks import newest_sales
from sales_assets.defs.automation.decorators import sensor
from sales_assets.defs.automation.jobs import fill_audience
from sales_assets.defs.automation.run_requests import is_under_way, number_of, request_once
from sales_assets.defs.mailings.audience import CLIENT_TAG, LINKS_TAG
from sales_assets.postgres.warehouse import Warehouse

_NO_LINKS = "0.0"


@sensor(job=fill_audience, minimum_interval_seconds=60)
def changed_audience(
    context: dg.SensorEvaluationContext, warehouse: dg.ResourceParam[Warehouse]
) -> dg.SensorResult | dg.SkipReason:
    """Fill the audience after a day of sales was loaded, or a client, a phone or a link has changed.

    There is no cursor: the materialization of the tags records the number of the last event before the sales were read,
    and a fingerprint of the links. A failed run is repeated with growing pauses.
    """
    if is_under_way(context.instance, fill_audience.name):
        return dg.SkipReason("A run is in progress; later changes are requested after it.")
    newest = max(newest_sales(context.instance).values(), default=0)
    links = str(warehouse.rows("mailings/client_customer", "fingerprint")[0]["links"])
    event = context.instance.get_latest_materialization_event(CLIENT_TAG)
    tags = (event and event.asset_materialization and event.asset_materialization.tags) or {}
    seen = number_of(tags.get(DATA_VERSION_TAG))
    if newest <= seen and links == tags.get(LINKS_TAG, _NO_LINKS):
        return dg.SkipReason("Sales and links have not changed since the tags were derived.")
    request = request_once(context.instance, fill_audience.name, f"{newest}.{links}.{seen}")
    if request is None:
        return dg.SkipReason("A run for this change has just ended; it is repeated after a pause.")
    return dg.SensorResult([request])
