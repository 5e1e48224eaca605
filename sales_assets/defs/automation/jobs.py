"""The jobs: days, a fresh report with its days, the dimensions. All run in one process: their chains are short."""

import dagster as dg

from sales_assets.defs.dims.assets import dimensions
from sales_assets.defs.load_daily_sales import load_daily_sales
from sales_assets.defs.raw.assets import report_files

load_days = dg.define_asset_job(
    "load_days",
    selection=dg.AssetSelection.assets(load_daily_sales),
    description="Fetch the increments of a day or a range of days and take them to the mart. One run for a range.",
    executor_def=dg.in_process_executor,
)

load_report = dg.define_asset_job(
    "load_report",
    selection=dg.AssetSelection.assets(report_files),
    description="Have a fresh report made and keep its files. Load the days of its period afterwards.",
    executor_def=dg.in_process_executor,
)

load_report_and_days = dg.define_asset_job(
    "load_report_and_days",
    selection=dg.AssetSelection.assets(report_files, load_daily_sales),
    description="A fresh report first, then a range of days: the report's lines and the increments.",
    executor_def=dg.in_process_executor,
)

rebuild_dimensions = dg.define_asset_job(
    "rebuild_dimensions",
    selection=dg.AssetSelection.assets(dimensions),
    description="Go over everything staged once more for the names of cities, customers and items.",
    executor_def=dg.in_process_executor,
)
