"""``mart/f_sales_partner_orders``: the rows of ``mart.f_sales`` from partner orders. Filled by `partner_orders`.

A separate asset beside ``mart/f_sales``, which is filled by `load_daily_sales`: its last partition is yesterday and its
runs need the report API, while orders arrive by the minute and rebuild their day each time. Both write one table, each
only the rows of its source, under one writers' lock.
"""

import dagster as dg

from sales_assets.defs.checking import SqlCheck
from sales_assets.defs.staging.partner_orders import PARTNER_ORDER_LINE
from sales_assets.partitions import ORDER_DAYS

F_SALES_PARTNER_ORDERS = dg.AssetKey(["mart", "f_sales_partner_orders"])


def f_sales_partner_orders_spec() -> dg.AssetSpec:
    """Declare the rows of one source, one partition per day. A function: a spec in a module would be a second asset."""
    return dg.AssetSpec(
        F_SALES_PARTNER_ORDERS,
        deps=[PARTNER_ORDER_LINE],
        description="The rows of `mart.f_sales` whose source is partner_orders. A day of them is replaced whole; rows "
        "of other sources are never touched. From a row back to its order and event: `mart.f_sales_lines`.",
        metadata={"dagster/table_name": "mart.f_sales"},
        partitions_def=ORDER_DAYS,
    )


def f_sales_partner_orders_checks() -> list[SqlCheck]:
    """Declare the checks of the partner orders' rows of ``mart.f_sales``."""
    return [
        SqlCheck("equal_to_order_lines", F_SALES_PARTNER_ORDERS, "The rows equal the orders' lines, one for one."),
        SqlCheck("refunded_within_shipped", F_SALES_PARTNER_ORDERS, "No more was refunded of an order than shipped."),
    ]
