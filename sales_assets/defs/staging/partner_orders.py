"""``staging.partner_order_event`` and ``partner_order_line``: the partner orders' events of a day, and their lines.

Filled by the op `partner_orders`. The service that places orders (`sales_assets.services.partner_orders`) and Dagster
share only ``staging.partner_order_event`` and never import each other.
"""

import dagster as dg

from sales_assets.defs.checking import SqlCheck
from sales_assets.defs.sources.service_tables import OUTBOX
from sales_assets.partitions import ORDER_DAYS

PARTNER_ORDER_EVENT = dg.AssetKey(["staging", "partner_order_event"])
PARTNER_ORDER_LINE = dg.AssetKey(["staging", "partner_order_line"])


def partner_order_specs() -> list[dg.AssetSpec]:
    """Declare events and lines, one partition per day. A function: Dagster loads module-level specs as assets."""
    return [
        dg.AssetSpec(
            PARTNER_ORDER_EVENT,
            deps=[OUTBOX],
            description="Deduplicated events of partner orders: accepted, done or cancelled.\n\nThe service's consumer "
            "writes them at any time; a run counts the day's events and marks them as loaded.",
            partitions_def=ORDER_DAYS,
        ),
        dg.AssetSpec(
            PARTNER_ORDER_LINE,
            deps=[PARTNER_ORDER_EVENT],
            description="Sales lines from a day's events: those of an accepted order (with SALE_ON=done, a handed out "
            "order) are shipped on the order's date, those of a cancelled one refunded on the date of the cancel, in "
            "SALES_TIMEZONE. Items, customers and cities are looked up by (KODPOST, their_id), phone and (KODPOST, "
            "their_pharmacy_id); lines without a mapping wait in `staging.partner_order_quarantine`. Phones are "
            "compared in a normalized form; a phone of two customers has no mapping.",
            partitions_def=ORDER_DAYS,
        ),
    ]


def partner_order_checks() -> list[SqlCheck]:
    """Declare the checks of the staged events and lines."""
    return [
        SqlCheck("outbox_staged", PARTNER_ORDER_EVENT, "The staged events equal those of the outbox, per day."),
        SqlCheck("partner_orders_mapped", PARTNER_ORDER_LINE, "Every line has its item, customer and city."),
    ]
