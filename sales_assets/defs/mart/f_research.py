"""``mart.f_research``: sales by day, category and region, as the research file reports them."""

import dagster as dg

from sales_assets.defs.checking import SqlCheck
from sales_assets.defs.mart.derived import DerivedMart
from sales_assets.schemas.report_files import CUSTOM_RESEARCH

F_RESEARCH = dg.AssetKey(["mart", "f_research"])

RESEARCH = DerivedMart(
    F_RESEARCH,
    CUSTOM_RESEARCH,
    description="Sales by day, category and region, as the research file reports them.\n\nThe file is an "
    "independent source: its totals differ from `mart.f_sales`, and its categories and regions have no dimension.",
    checks=(
        SqlCheck("equal_to_research", F_RESEARCH, "Pieces and amounts equal staging's, per day, category and region."),
        SqlCheck(
            "amounts_with_pieces",
            F_RESEARCH,
            "No amount was sold without pieces, and no pieces without an amount.",
            dg.AssetCheckSeverity.WARN,
        ),
    ),
)
