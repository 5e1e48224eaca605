"""Asset jobs. Each runs in one process, because its chain of steps is short."""

import dagster as dg

from sales_assets.defs.load_daily_sales import all_checks, load_daily_sales, stored_specs
from sales_assets.defs.load_partner_orders import partner_orders
from sales_assets.defs.mailings.audience import audience
from sales_assets.defs.mart.dimensions import dimensions
from sales_assets.defs.mart.f_customer_retention import customer_retention
from sales_assets.defs.mart.f_mailing_deliveries import mailing_deliveries
from sales_assets.defs.raw.report_files import report_files

# Without the checks of pandas frames, which are run on demand only.
_LOADING = dg.AssetSelection.assets(load_daily_sales).without_checks() | dg.AssetSelection.checks(*all_checks())

load_days = dg.define_asset_job(
    "load_days",
    selection=_LOADING,
    description="Fetch the increments of a day or a range of days and load them into the mart, in one run.",
    executor_def=dg.in_process_executor,
)

load_resolved_days = dg.define_asset_job(
    "load_resolved_days",
    selection=dg.AssetSelection.assets(*(spec.key for spec in stored_specs())).without_checks()
    | dg.AssetSelection.checks(*all_checks()),
    description="Load a day or a range of days again from the stored files, after rejected rows were resolved.",
    executor_def=dg.in_process_executor,
)

load_report = dg.define_asset_job(
    "load_report",
    selection=dg.AssetSelection.assets(report_files),
    description="Request a fresh report and store its files. Load the days of its period afterwards.",
    executor_def=dg.in_process_executor,
)

load_report_and_days = dg.define_asset_job(
    "load_report_and_days",
    selection=dg.AssetSelection.assets(report_files) | _LOADING,
    description="Request a fresh report, then load a range of days from the report and the increments.",
    executor_def=dg.in_process_executor,
)

rebuild_dimensions = dg.define_asset_job(
    "rebuild_dimensions",
    selection=dg.AssetSelection.assets(dimensions),
    description="Rebuild the dimensions of cities, customers and items from all of staging.",
    executor_def=dg.in_process_executor,
)

load_partner_orders = dg.define_asset_job(
    "load_partner_orders",
    selection=dg.AssetSelection.assets(partner_orders),
    description="Load a day or a range of days of partner orders from the staged events into the mart.",
    executor_def=dg.in_process_executor,
)

make_customer_retention = dg.define_asset_job(
    "make_customer_retention",
    selection=dg.AssetSelection.assets(customer_retention),
    description="Compute a week or a range of weeks of mart.f_customer_retention from the sales.",
    executor_def=dg.in_process_executor,
)

fill_audience = dg.define_asset_job(
    "fill_audience",
    selection=dg.AssetSelection.assets(audience),
    description="Link the clients of the mailings to customers, and derive their tags from the sales.",
    executor_def=dg.in_process_executor,
)

load_mailing_deliveries = dg.define_asset_job(
    "load_mailing_deliveries",
    selection=dg.AssetSelection.assets(mailing_deliveries),
    description="Load the deliveries of a day or a range of days into the mart, with their statistics.",
    executor_def=dg.in_process_executor,
)
