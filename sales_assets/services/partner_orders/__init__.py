"""The partner orders service: place, track and cancel orders at the partner's API.

Contains both versions of the HTTP interface, the client of the partner's API, the stored orders, the reconciler, and
the delivery of order events to staging (outbox, relay, consumer). `sales_assets.defs.load_partner_orders` loads them
into ``mart.f_sales``; service and assets meet only in tables: the staged events, the outbox that a check compares with
them, and the mappings of ids.
"""
