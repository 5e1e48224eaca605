"""What exists and how it is made: the assets of each stage, their checks, and what sets them off.

A folder is a database schema, the prefix of its assets' keys, and their group: ``sources`` (no schema: what others
write and assets read), ``raw`` (files as fetched), ``staging``
(a line once, typed, chosen), ``mart`` (dimensions, sales, and what is made of them), ``mailings`` (their audience).
``load_daily_sales`` and ``load_partner_orders`` take days through several of them; ``automation`` sets all of it off.
Statements are in ``sql/``, the loading engine in `sales_assets.pipeline`.
"""
