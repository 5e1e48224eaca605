"""``mart.f_activity``: customer activity per day and action."""

import dagster as dg

from sales_assets.defs.checking import SqlCheck
from sales_assets.defs.mart.derived import DerivedMart
from sales_assets.schemas.report_files import USER_ACTIVITY_LOG

F_ACTIVITY = dg.AssetKey(["mart", "f_activity"])

ACTIVITY = DerivedMart(
    F_ACTIVITY,
    USER_ACTIVITY_LOG,
    description="Customer activity: a row per day, customer and action, with the number of events and their total "
    "quantity.\n\nMost customers of the activity log have never bought anything and are missing in `mart.d_customer`: "
    "use LEFT JOIN. A day without a row is normal.",
    checks=(
        SqlCheck(
            "equal_to_activity_log", F_ACTIVITY, "Events and quantities equal staging's, per day, customer and action."
        ),
    ),
)
