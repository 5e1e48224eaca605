"""The partner orders service: place, track and cancel orders at the partner's API.

Both versions of the HTTP interface, the partner's client, the stored orders, the reconciler, and the way of their
events to staging (outbox, relay, consumer). `sales_assets.defs.load_partner_orders` loads them into ``mart.f_sales``;
the two share only ``staging.partner_order_event``.
"""
