"""``mart/f_sales_partner_orders``: the rows of ``mart.f_sales`` from partner orders. Filled by `partner_orders`.

It is separate from ``mart/f_sales``, which `load_daily_sales` fills: the last partition of that asset is yesterday and
its runs need the report API, while orders arrive by the minute and rebuild their day each time. Both assets write the
same table, each only the rows of its source.
"""

import dagster as dg

from sales_assets.defs.checking import SqlCheck
from sales_assets.defs.staging.partner_orders import PARTNER_ORDER_LINE
from sales_assets.partitions import ORDER_DAYS

F_SALES_PARTNER_ORDERS = dg.AssetKey(["mart", "f_sales_partner_orders"])


def f_sales_partner_orders_spec() -> dg.AssetSpec:
    """Declare the rows of one source, one partition per day. A function: Dagster loads module-level specs as assets."""
    return dg.AssetSpec(
        F_SALES_PARTNER_ORDERS,
        deps=[PARTNER_ORDER_LINE],
        description="The rows of `mart.f_sales` whose source is partner_orders. A day of them is replaced whole; rows "
        "of other sources are never touched. `mart.f_sales_lines` traces a row to its order and event.",
        metadata={"dagster/table_name": "mart.f_sales"},
        partitions_def=ORDER_DAYS,
    )


def f_sales_partner_orders_checks() -> list[SqlCheck]:
    """Declare the checks of the partner orders' rows of ``mart.f_sales``."""
    return [
        SqlCheck("equal_to_order_lines", F_SALES_PARTNER_ORDERS, "The rows equal the orders' lines, one for one."),
        SqlCheck("refunded_within_shipped", F_SALES_PARTNER_ORDERS, "No order has more refunded than shipped."),
    ]
