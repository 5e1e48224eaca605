"""Op that loads days of partner orders from staged events into ``mart.f_sales``.

The statements and their order are the loading engine's (`sales_assets.pipeline.partner_orders`).
"""

from collections.abc import Iterator

import dagster as dg

from sales_assets.dagster_internals import log_materializations
from sales_assets.defs.checking import SqlCheck, evaluate
from sales_assets.defs.mart.dimensions import loaded_with
from sales_assets.defs.mart.f_sales_partner_orders import (
    F_SALES_PARTNER_ORDERS,
    f_sales_partner_orders_checks,
    f_sales_partner_orders_spec,
)
from sales_assets.defs.staging.partner_orders import (
    PARTNER_ORDER_EVENT,
    PARTNER_ORDER_LINE,
    partner_order_checks,
    partner_order_specs,
)
from sales_assets.defs.summaries import add_summaries
from sales_assets.partitions import ORDER_DAYS, WHOLE_RANGE, days_of
from sales_assets.pipeline.partner_orders import load_order_days
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.settings import settings


def order_checks() -> list[SqlCheck]:
    """Declare the checks of the orders' staging tables and of their rows of ``mart.f_sales``."""
    return [*partner_order_checks(), *f_sales_partner_orders_checks()]


def _specs() -> list[dg.AssetSpec]:
    """Declare the assets of a day, upstream first."""
    return [*partner_order_specs(), f_sales_partner_orders_spec()]


@dg.multi_asset(
    name="partner_orders",
    specs=_specs(),
    check_specs=[check.spec() for check in order_checks()],
    partitions_def=ORDER_DAYS,
    backfill_policy=WHOLE_RANGE,
)
def partner_orders(
    context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Build the days' lines from the staged events, and replace their rows of the mart."""
    days = days_of(context.partition_keys)
    rules = settings().sales_timezone, settings().sale_on
    loaded = load_order_days(warehouse, days, context.run.run_id, timezone=rules[0], sale_on=rules[1])
    if loaded.lock_wait_seconds:
        context.log.info(f"waited {loaded.lock_wait_seconds:.1f} s for other loads of these days")
    log_materializations(context, loaded_with(days))
    add_summaries(context, PARTNER_ORDER_EVENT, loaded.events)
    add_summaries(context, PARTNER_ORDER_LINE, loaded.lines)
    add_summaries(context, F_SALES_PARTNER_ORDERS, loaded.sales)
    for spec in _specs():
        yield dg.MaterializeResult(asset_key=spec.key)
    yield from evaluate(warehouse, order_checks(), days)
