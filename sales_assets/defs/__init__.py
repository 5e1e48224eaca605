"""Dagster definitions: the assets of each stage, their checks and their automation.

A folder is a database schema, the key prefix of its assets, and their group: ``sources`` (external assets without a
schema), ``raw`` (files as fetched), ``staging`` (typed, deduplicated rows of the selected files), ``mart`` (dimensions,
sales and derived tables), ``mailings`` (their audience), and the optional ``lake`` (an Iceberg copy of the sales) and
``reports`` (charts). ``load_daily_sales`` and ``load_partner_orders`` load days through several of them; ``automation``
holds jobs, schedules and sensors. Statements are in ``sql/``, the loading engine in `sales_assets.pipeline`.
"""
