"""``staging.user_orders_log`` and the tables of the other three files. Filled by the op `load_daily_sales`."""

import dagster as dg

from sales_assets.defs.checking import SqlCheck
from sales_assets.defs.raw.report_files import increment_key, report_key
from sales_assets.partitions import DAYS
from sales_assets.schemas.report_files import REPORT_FILES, USER_ORDERS_LOG, ReportFile

_RULES = {
    "user_orders_log": "A line once per (date, uniq_id, status): verbatim repeats are dropped, copies that "
    "contradict each other go to quarantine, all of them. Quantities and amounts are positive here, for refunds "
    "too; the mart puts on the sign.",
    "custom_research": "A line once per (date, category, region).",
    "user_activity_log": "A line once per (date, uniq_id). A quantity of 0 is legal, and so is a day without a line.",
    "price_log": "The price list in force on each day. The file carries no date: a report's list stands for every "
    "day of its period.",
}


def staging_key(file: ReportFile) -> dg.AssetKey:
    """Return the asset key of a file's staging table."""
    return dg.AssetKey(["staging", file.name])


def staging_specs() -> list[dg.AssetSpec]:
    """Declare the staging tables, one partition per day. A function: a spec in a module would be a second asset."""
    return [
        dg.AssetSpec(
            staging_key(file),
            deps=[report_key(file), increment_key(file)],
            description=f"{file.description}, typed.\n\n{_RULES[file.name]}\n\nEach day comes wholly from one kept "
            "fetch: one with statuses before one without, then an increment before a report, then the latest delivery. "
            "Bad lines go to `staging.quarantine` with file, line number, text and reason.",
            partitions_def=DAYS,
        )
        for file in REPORT_FILES.values()
    ]


def staging_checks() -> list[SqlCheck]:
    """Declare the checks of what staging promises."""
    orders = staging_key(USER_ORDERS_LOG)
    warn = dg.AssetCheckSeverity.WARN
    return [
        SqlCheck("asked_days_done", orders, "Every day that was asked for was delivered and read, or NOT FOUND."),
        SqlCheck("no_key_twice", orders, "(date, uniq_id, status) stands once.", query="uniq_ids"),
        SqlCheck("quarantine_empty", orders, "No bad line waits in quarantine.", warn),
        SqlCheck(
            "uniq_id_on_one_date",
            orders,
            "No uniq_id stands on two dates, of those asked and those around (up to a month, half a million lines).",
            warn,
            query="uniq_ids",
        ),
        SqlCheck("day_not_halved", orders, "No day lost more than half its rows to a newer fetch.", warn),
        SqlCheck(
            "amount_is_quantity_times_price",
            orders,
            "A line's total is quantity x price, by the price list of its day.",
            warn,
        ),
    ]
