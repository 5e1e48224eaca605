"""The op that takes days of partner orders from staged events to ``mart.f_sales``.

The statements and their order are the loading engine's (`sales_assets.pipeline.partner_orders`).
"""

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from sales_assets.defs.checking import SqlCheck, evaluate
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
from sales_assets.partitions import ORDER_DAYS, WHOLE_RANGE, days_of, key_of
from sales_assets.pipeline.partner_orders import load_order_days
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.schemas.calendar import date_id
from sales_assets.settings import settings


def order_checks() -> list[SqlCheck]:
    """The checks of the orders' staging tables and of their rows of ``mart.f_sales``."""
    return [*partner_order_checks(), *f_sales_partner_orders_checks()]


def _specs() -> list[dg.AssetSpec]:
    """The assets of a day, upstream first."""
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
    """Make the days' lines of the events that are staged, and replace their slice of the mart."""
    days = days_of(context.partition_keys)
    with warehouse.writing() as writer, writer.transaction(f"{context.run.run_id[:8]} partner orders") as transaction:
        loaded = load_order_days(transaction, days, timezone=settings().sales_timezone, sale_on=settings().sale_on)
    _describe(context, PARTNER_ORDER_EVENT, days, loaded.events)
    _describe(context, PARTNER_ORDER_LINE, days, loaded.lines)
    _describe(context, F_SALES_PARTNER_ORDERS, days, loaded.sales)
    for spec in _specs():
        yield dg.MaterializeResult(asset_key=spec.key)
    yield from evaluate(warehouse, order_checks(), days)


def _describe(
    context: dg.AssetExecutionContext, key: dg.AssetKey, days: Sequence[dt.date], rows: Sequence[dict[str, Any]]
) -> None:
    by_day = {row["date_id"]: row for row in rows}
    for day in days:
        row = by_day.get(date_id(day))
        if row is not None:
            numbers = {name: value for name, value in row.items() if name != "date_id"}
            # Dagster plots numbers only: numeric is a text to it.
            metadata = {
                name.replace("_", " "): value if isinstance(value, int) else float(value)
                for name, value in numbers.items()
            }
            context.add_asset_metadata(metadata, asset_key=key, partition_key=key_of(day))
