"""The asset keys of the partner orders."""

import dagster as dg

PARTNER_ORDER_EVENT = dg.AssetKey(["staging", "partner_order_event"])
PARTNER_ORDER_LINE = dg.AssetKey(["staging", "partner_order_line"])
F_SALES_PARTNER_ORDERS = dg.AssetKey(["mart", "f_sales_partner_orders"])
