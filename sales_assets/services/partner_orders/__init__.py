"""The partner orders service: place, track and cancel orders at the partner's API.

Belongs here: both versions of the HTTP interface, the calls to the partner, the stored orders, and what carries their
events to staging (outbox, relay, consumer, reconciler). Does not belong here: what a day of events makes of
``mart.f_sales`` (`sales_assets.defs.load_partner_orders`); the two meet in ``staging.partner_order_event``.
"""
