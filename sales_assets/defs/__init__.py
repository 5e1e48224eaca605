"""What exists and how it is made: the assets of each stage, their checks, and what sets them off.

Read top to bottom it is the data's journey: ``raw`` (files as fetched), ``staging`` (a line once, typed, chosen),
``dims`` and ``facts`` (the mart), ``automation`` (jobs, sensors, schedules). ``load_daily_sales`` takes days
through the stages.
Statements are in ``sql/``, the loading engine in `sales_assets.pipeline`.
"""
