"""``staging.user_orders_log`` and the tables of the other three files. Filled by the op `load_daily_sales`."""

import dagster as dg

from sales_assets.defs.checking import SqlCheck
from sales_assets.defs.raw.report_files import increment_key, report_key
from sales_assets.partitions import DAYS
from sales_assets.schemas.report_files import REPORT_FILES, USER_ORDERS_LOG, ReportFile

_RULES = {
    "user_orders_log": "Unique by (date, uniq_id, status): exact duplicates are dropped, all conflicting duplicates "
    "go to quarantine. Quantities and amounts are positive, for refunds too; the mart adds the sign.",
    "custom_research": "Unique by (date, category, region).",
    "user_activity_log": "Unique by (date, uniq_id). A quantity of 0 is valid, and so is a day without rows.",
    "price_log": "The price list in force on each day. The file has no date: a report's list is valid for every day "
    "of its period.",
}


def staging_key(file: ReportFile) -> dg.AssetKey:
    """Return the asset key of a file's staging table."""
    return dg.AssetKey(["staging", file.name])


def staging_specs() -> list[dg.AssetSpec]:
    """Declare the staging tables, one partition per day. A function: Dagster loads module-level specs as assets."""
    return [
        dg.AssetSpec(
            staging_key(file),
            deps=[report_key(file), increment_key(file)],
            description=f"{file.description}, typed.\n\n{_RULES[file.name]}\n\nAll rows of a day come from one "
            "raw file: a file with statuses is preferred to one without, then an increment to a report, then the "
            "latest. Rejected rows go to `staging.quarantine` with file, line number, text and reason.",
            partitions_def=DAYS,
        )
        for file in REPORT_FILES.values()
    ]


def staging_checks() -> list[SqlCheck]:
    """Declare the checks of the staging tables."""
    orders = staging_key(USER_ORDERS_LOG)
    warn = dg.AssetCheckSeverity.WARN
    return [
        SqlCheck("asked_days_done", orders, "Every requested day was delivered, parsed and staged, or NOT FOUND."),
        SqlCheck("no_key_twice", orders, "(date, uniq_id, status) is unique.", query="uniq_ids"),
        SqlCheck("quarantine_empty", orders, "No rejected row waits in quarantine.", warn),
        SqlCheck(
            "uniq_id_on_one_date",
            orders,
            "No uniq_id has two dates, within the requested days and the days around (a month, half a million rows).",
            warn,
            query="uniq_ids",
        ),
        SqlCheck("day_not_halved", orders, "No day lost more than half its rows to a newer raw file.", warn),
        SqlCheck(
            "amount_is_quantity_times_price",
            orders,
            "A row's total is quantity x price, by the price list of its day.",
            warn,
        ),
    ]
