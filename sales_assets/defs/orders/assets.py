"""The orders' events of a day, their lines, and their slice of ``mart.f_sales``.

The slice is a separate asset beside ``mart.f_sales``, which is filled by `load_daily_sales`: its last partition is
yesterday and its runs need the report API, while orders arrive by the minute and rebuild their day each time.
Both write one table, each only the rows of its source, under one writers' lock.

Belongs here: what Dagster is told. Does not belong here: the statements and their order (``loading``).
"""

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from sales_assets.defs.checking import evaluate
from sales_assets.defs.facts.assets import f_sales_spec
from sales_assets.defs.orders.checks import order_checks
from sales_assets.defs.orders.columns import EVENT_COLUMNS, LINE_COLUMNS
from sales_assets.defs.orders.keys import F_SALES_PARTNER_ORDERS, PARTNER_ORDER_EVENT, PARTNER_ORDER_LINE
from sales_assets.defs.orders.loading import load_days
from sales_assets.defs.raw.assets import OWNERS
from sales_assets.partitions import ORDER_DAYS, WHOLE_RANGE, days_of, key_of
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.schemas.calendar import date_id

_KINDS = {"postgres", "table"}
_SPECS = (
    dg.AssetSpec(
        PARTNER_ORDER_EVENT,
        description="What happened to partner orders, an event once: accepted, done or cancelled.\n\nThe consumer of "
        "the service writes it, at any time; a run counts what the day holds by now and marks it as taken.",
        group_name="orders",
        kinds=_KINDS,
        owners=OWNERS,
        metadata={"dagster/table_name": "staging.partner_order_event", "dagster/column_schema": EVENT_COLUMNS},
        partitions_def=ORDER_DAYS,
    ),
    dg.AssetSpec(
        PARTNER_ORDER_LINE,
        deps=[PARTNER_ORDER_EVENT],
        description="The lines that a day's events make: an accepted order's (SALE_ON=done: one handed out) are "
        "shipped on the order's date, a cancelled one's refunded on the date of the cancel, in SALES_TIMEZONE. Items, "
        "customers and cities are looked up by (KODPOST, their_id), phone and (KODPOST, their_pharmacy_id); what has "
        "no mapping waits in `staging.partner_order_quarantine`. A phone is the same in all its spellings; one of two "
        "customers leads to none of them.",
        group_name="orders",
        kinds=_KINDS,
        owners=OWNERS,
        metadata={
            "dagster/table_name": "staging.partner_order_line",
            "dagster/column_schema": LINE_COLUMNS,
            "dagster/partition_expr": "date_id",
        },
        partitions_def=ORDER_DAYS,
    ),
    dg.AssetSpec(
        F_SALES_PARTNER_ORDERS,
        deps=[PARTNER_ORDER_LINE],
        description="The rows of `mart.f_sales` whose source is partner_orders. A day of them is replaced whole; rows "
        "of other sources are never touched. From a row back to its order and event: `mart.f_sales_lines`.",
        group_name="orders",
        kinds=_KINDS,
        owners=OWNERS,
        metadata={
            "dagster/table_name": "mart.f_sales",
            "dagster/column_schema": f_sales_spec().metadata["dagster/column_schema"],
            "dagster/partition_expr": "date_id",
        },
        partitions_def=ORDER_DAYS,
    ),
)


@dg.multi_asset(
    name="partner_orders",
    specs=_SPECS,
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
        loaded = load_days(transaction, days)
    _describe(context, PARTNER_ORDER_EVENT, days, loaded.events)
    _describe(context, PARTNER_ORDER_LINE, days, loaded.lines)
    _describe(context, F_SALES_PARTNER_ORDERS, days, loaded.sales)
    for spec in _SPECS:
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
