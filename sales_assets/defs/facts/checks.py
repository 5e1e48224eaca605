"""Checks on the mart: the rules its readers rely on."""

from sales_assets.defs.checking import SqlCheck
from sales_assets.defs.facts.assets import F_SALES
from sales_assets.pipeline.load_report import RECONCILIATION

_ROWS = "f_sales_rows"


def f_sales_checks() -> list[SqlCheck]:
    return [
        SqlCheck("statuses", F_SALES, "Every row is shipped or refunded.", query=_ROWS),
        SqlCheck(
            "signs", F_SALES, "Refunded rows are not above zero, shipped rows not below (legacy aside).", query=_ROWS
        ),
        SqlCheck("legacy_rows_shipped", F_SALES, "Rows from before the statuses are shipped.", query=_ROWS),
        SqlCheck(RECONCILIATION, F_SALES, "Rows, amounts, quantities and keys equal staging's, per day and status."),
        SqlCheck("no_orphan_keys", F_SALES, "Every row finds its day, city, customer and item."),
    ]
