"""``mart.f_sales``: a row per sold or refunded line, whole days at a time. Filled by the op `load_daily_sales`."""

import dagster as dg

from sales_assets.defs.checking import SqlCheck
from sales_assets.defs.staging.report_files import staging_key
from sales_assets.partitions import DAYS
from sales_assets.pipeline.load_report import RECONCILIATION
from sales_assets.schemas.report_files import USER_ORDERS_LOG

F_SALES = dg.AssetKey(["mart", "f_sales"])

_ROWS = "f_sales_rows"  # one pass over the table for several checks


def f_sales_spec() -> dg.AssetSpec:
    """Declare the mart, one partition per day. A function: Dagster loads module-level specs as assets."""
    return dg.AssetSpec(
        F_SALES,
        deps=[staging_key(USER_ORDERS_LOG)],
        description="Sales and refunds, a row per line. Refunded rows are negative, so every SUM is net.\n\n"
        "A day is replaced whole, per source and in one transaction, with the dimension rows that it needs; it is "
        "compared with staging before the commit. Rows of an older writer (source legacy) stay until the report "
        "API covers their day.\n\n`sales-assets why DAY` and the view `mart.f_sales_lines` trace a number to "
        "its file and line.",
        partitions_def=DAYS,
    )


def f_sales_checks() -> list[SqlCheck]:
    """Declare the checks of ``mart.f_sales``."""
    return [
        SqlCheck("statuses", F_SALES, "Every row is shipped or refunded.", query=_ROWS),
        SqlCheck(
            "signs",
            F_SALES,
            "Refunded rows are never above zero, shipped rows never below (except legacy rows).",
            query=_ROWS,
        ),
        SqlCheck("legacy_rows_shipped", F_SALES, "Legacy rows, which had no status, are shipped.", query=_ROWS),
        SqlCheck(RECONCILIATION, F_SALES, "Rows, amounts, quantities and keys equal staging's, per day and status."),
        SqlCheck("no_orphan_keys", F_SALES, "Every row has its day, city, customer and item."),
    ]
