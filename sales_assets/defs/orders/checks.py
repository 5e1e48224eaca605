"""Checks on the partner orders: nothing is lost between outbox and mart, and nothing is there twice."""

from sales_assets.defs.checking import SqlCheck
from sales_assets.defs.orders.keys import F_SALES_PARTNER_ORDERS, PARTNER_ORDER_EVENT, PARTNER_ORDER_LINE


def order_checks() -> list[SqlCheck]:
    return [
        SqlCheck("outbox_staged", PARTNER_ORDER_EVENT, "Every event of the outbox is staged, and no other, per day."),
        SqlCheck("partner_orders_mapped", PARTNER_ORDER_LINE, "Every line found its item, customer and city."),
        SqlCheck("equal_to_order_lines", F_SALES_PARTNER_ORDERS, "The mart's rows are the orders' lines, one for one."),
        SqlCheck("refunded_within_shipped", F_SALES_PARTNER_ORDERS, "No more was refunded of an order than shipped."),
    ]
