"""``reports/sales_overview``: charts of the mart in the UI, and as one HTML file."""

import datetime as dt
import importlib.util
from collections.abc import Iterator
from typing import Any

import dagster as dg

from sales_assets.defs.checking import SqlCheck
from sales_assets.defs.mart.dimensions import dimension_key
from sales_assets.defs.mart.f_sales import F_SALES
from sales_assets.defs.mart.f_sales_partner_orders import F_SALES_PARTNER_ORDERS
from sales_assets.defs.staging.report_files import staging_key
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.reports.charts import draw
from sales_assets.reports.figures import Overview, overview
from sales_assets.reports.page import write_page
from sales_assets.schemas.report_files import USER_ORDERS_LOG
from sales_assets.settings import settings

SALES_OVERVIEW = dg.AssetKey(["reports", "sales_overview"])
EQUAL_TO_MART = SqlCheck(
    "charts_equal_mart", SALES_OVERVIEW, "The sums of every chart equal the mart's to the cent, in the same snapshot."
)

# Partner orders change a day every minute, and each refresh stores 150 kB of charts in Dagster's database.
_SECONDS = 300


def refresh_condition() -> dg.AutomationCondition[Any]:
    """Request one run after days have changed, regardless of their number, once nothing is loading.

    `eager()` is not used: it considers only the latest day and never requests a run while a day is missing. A request
    clears all earlier changes, but not those found in the same evaluation, because the run may not see them in the
    mart. The first evaluation requests a run as well, because it can't detect earlier changes. A failed run is repeated
    every 15 minutes.
    """
    updated = dg.AutomationCondition.any_deps_updated()
    failed = dg.AutomationCondition.execution_failed() & dg.AutomationCondition.cron_tick_passed("*/15 * * * *")
    changed = (updated | dg.AutomationCondition.initial_evaluation() | failed).since(
        dg.AutomationCondition.newly_requested() & ~updated
    )
    is_quiet = ~dg.AutomationCondition.in_progress() & ~dg.AutomationCondition.any_deps_in_progress()
    return (changed & is_quiet).with_label("days have changed, and nothing is loading")


@dg.asset(
    key=SALES_OVERVIEW,
    deps=[
        *(F_SALES, F_SALES_PARTNER_ORDERS, staging_key(USER_ORDERS_LOG)),
        *(dimension_key("d_item"), dimension_key("d_city")),
    ],
    check_specs=[EQUAL_TO_MART.spec()],
    automation_condition=refresh_condition(),
    description="Charts of the last days with sales (`SALES_OVERVIEW_DAYS`): net and refunded amount, refund share per "
    "week, top items and cities, rows and rejected rows. The metadata entry *charts* shows them; the HTML file in "
    "the entry *file* adds tables, for a browser or a mail. The totals are plotted over the refreshes; the figures of "
    "each day are plotted by `mart/f_sales` and `staging/user_orders_log`.\n\n"
    "Switch on the sensor `refresh_reports` to have it refreshed when days change.",
)
def sales_overview(
    context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Draw the charts from one snapshot of the mart, and replace the file if their sums equal the mart's."""
    figures = overview(warehouse, days=settings().sales_overview_days)
    currency = settings().sales_currency
    charts = draw(figures, currency, settings().sales_home / "matplotlib")
    differences = figures.differences()
    file = settings().overview_location
    if differences:
        context.log.error(f"{file} was not replaced, because the charts differ from the mart")
    else:
        write_page(file, figures, charts, currency, dt.datetime.now(dt.UTC))
    images = (f"### {chart.title}\n\n![{chart.description}](data:image/png;base64,{chart.base64})" for chart in charts)
    yield dg.MaterializeResult(
        metadata={
            "charts": dg.MetadataValue.md("\n\n".join(images)),
            "file": dg.MetadataValue.path(str(file)),
            **_totals(figures),
        }
    )
    yield dg.AssetCheckResult(
        asset_key=SALES_OVERVIEW,
        check_name=EQUAL_TO_MART.name,
        passed=not differences,
        description=EQUAL_TO_MART.description,
        metadata={"days": f"{figures.first} to {figures.last}", "differences": "\n".join(differences) or "none"},
    )


def _totals(figures: Overview) -> dict[str, Any]:
    """Return the totals of the period, which Dagster plots over the refreshes."""
    totals = {
        "days": figures.days,
        "net amount": float(figures.totals["net_amount"]),
        "refunded amount": float(figures.totals["refunded_amount"]),
        "rows": figures.totals["rows"],
        "rejected rows": figures.rejected_rows,
        "net amount, exact": str(figures.totals["net_amount"]),
        "first day": str(figures.first),
        "last day": str(figures.last),
    }
    return totals if figures.share is None else {**totals, "refund share, %": round(figures.share * 100, 2)}


refresh_sales_overview = dg.define_asset_job(
    "refresh_sales_overview",
    selection=dg.AssetSelection.assets(sales_overview),
    description="Refresh the charts of the sales.",
    executor_def=dg.in_process_executor,
)


@dg.definitions
def definitions() -> dg.Definitions:
    """Declare the overview if Matplotlib is installed, which is checked without importing it."""
    if importlib.util.find_spec("matplotlib") is None:
        return dg.Definitions()
    refresh_reports = dg.AutomationConditionSensorDefinition(
        "refresh_reports",
        target=dg.AssetSelection.assets(sales_overview),
        minimum_interval_seconds=_SECONDS,
        description="Refresh each report after a change, by its automation condition.",
    )
    return dg.Definitions(assets=[sales_overview], jobs=[refresh_sales_overview], sensors=[refresh_reports])
