"""What the partner orders leave behind: from staged events to rows of ``mart.f_sales``.

Belongs here: the assets, their checks, the job and the sensor. Does not belong here: the service that places orders
(`sales_assets.services.partner_orders`), which Dagster never imports; the two meet in ``staging.partner_order_event``.
"""
