"""Checks on staging: what the airlock promises, asked again for the record."""

import dagster as dg

from sales_assets.defs.checking import SqlCheck
from sales_assets.defs.staging.assets import staging_key
from sales_assets.schemas.report_files import USER_ORDERS_LOG

_ORDERS = staging_key(USER_ORDERS_LOG)
_WARN = dg.AssetCheckSeverity.WARN
_UNIQ_IDS = "uniq_ids"


def staging_checks() -> list[SqlCheck]:
    return [
        SqlCheck("asked_days_done", _ORDERS, "Every day that was asked for was delivered and read, or NOT FOUND."),
        SqlCheck("no_key_twice", _ORDERS, "(date, uniq_id, status) stands once.", query=_UNIQ_IDS),
        SqlCheck("quarantine_empty", _ORDERS, "No bad line waits in quarantine.", _WARN),
        SqlCheck(
            "uniq_id_on_one_date",
            _ORDERS,
            "No uniq_id stands on two dates, of those asked and those around (up to a month, half a million lines).",
            _WARN,
            query=_UNIQ_IDS,
        ),
        SqlCheck("day_not_halved", _ORDERS, "No day lost more than half its rows to a newer fetch.", _WARN),
        SqlCheck(
            "amount_is_quantity_times_price",
            _ORDERS,
            "A line's total is quantity x price, by the price list of its day.",
            _WARN,
        ),
    ]
