"""``staging.partner_order_event`` and ``partner_order_line``: the partner orders' events of a day, and their lines.

Filled by the op `partner_orders`. The service that places orders (`sales_assets.services.partner_orders`) and Dagster
meet in ``staging.partner_order_event`` and never import each other.
"""

import dagster as dg

from sales_assets.defs.checking import SqlCheck
from sales_assets.defs.raw.report_files import OWNERS
from sales_assets.partitions import ORDER_DAYS

PARTNER_ORDER_EVENT = dg.AssetKey(["staging", "partner_order_event"])
PARTNER_ORDER_LINE = dg.AssetKey(["staging", "partner_order_line"])


def _schema(*columns: tuple[str, str, str]) -> dg.TableSchema:
    return dg.TableSchema(columns=[dg.TableColumn(name, kind, meaning) for name, kind, meaning in columns])


_EVENT_COLUMNS = _schema(
    ("message_id", "text", "The event's one name: project, order and kind"),
    ("kind", "text", "accepted, done or cancelled"),
    ("project_id", "integer", "Our project's id (PARTNERAPI_SOURCE_PROJECT_ID)"),
    ("kodpost", "integer", "Supplier code of the partner's chain (PARTNERAPI_KODPOST)"),
    ("order_id", "bigint", "Our id of the order"),
    ("their_order_id", "text", "The partner's id of the order"),
    ("their_pharmacy_id", "text", "The partner's id of the pharmacy; the city is looked up by it"),
    ("phone", "text", "The client's phone; the customer is looked up by it"),
    (
        "dated_at",
        "timestamp with time zone",
        "The moment that decides the day: the order's date, or when it was told",
    ),
    ("lines", "jsonb", "The order's lines: line_no, their_id, price, count"),
    ("received_at", "timestamp with time zone", "When the consumer staged it"),
    (
        "loaded_at",
        "timestamp with time zone",
        "When a run took it to the mart; empty: the sensor asks for its day",
    ),
)
_LINE_COLUMNS = _schema(
    ("uniq_id", "text", "Made from project, order, line and status"),
    ("date_id", "integer", "Calendar day of the sale or refund in SALES_TIMEZONE, YYYYMMDD"),
    ("status", "text", "shipped or refunded"),
    ("message_id", "text", "The event that made the line"),
    ("project_id", "integer", "Our project's id"),
    ("order_id", "bigint", "Our id of the order"),
    ("line_no", "integer", "Number of the line in the order, from 1"),
    ("item_id", "integer", "Item (mart.d_item)"),
    ("customer_id", "integer", "Customer (mart.d_customer)"),
    ("city_id", "integer", "City of the pharmacy (mart.d_city)"),
    ("quantity", "numeric(10,2)", "Pieces; positive, for refunds too"),
    ("amount", "numeric(10,2)", "Price times pieces; positive, for refunds too"),
    ("sale_id", "bigint", "Id of the row of mart.f_sales made from the line"),
)


def partner_order_specs() -> list[dg.AssetSpec]:
    """The events and the lines, one partition per day. A function: a spec of its own would be an asset of its own."""
    return [
        dg.AssetSpec(
            PARTNER_ORDER_EVENT,
            description="What happened to partner orders, an event once: accepted, done or cancelled.\n\nThe consumer "
            "of the service writes it, at any time; a run counts what the day holds by now and marks it as taken.",
            group_name="staging",
            kinds={"postgres", "table"},
            owners=OWNERS,
            metadata={"dagster/table_name": "staging.partner_order_event", "dagster/column_schema": _EVENT_COLUMNS},
            partitions_def=ORDER_DAYS,
        ),
        dg.AssetSpec(
            PARTNER_ORDER_LINE,
            deps=[PARTNER_ORDER_EVENT],
            description="The lines that a day's events make: an accepted order's (SALE_ON=done: one handed out) are "
            "shipped on the order's date, a cancelled one's refunded on the date of the cancel, in SALES_TIMEZONE. "
            "Items, customers and cities are looked up by (KODPOST, their_id), phone and (KODPOST, "
            "their_pharmacy_id); what has no mapping waits in `staging.partner_order_quarantine`. A phone is the same "
            "in all its spellings; one of two customers leads to none of them.",
            group_name="staging",
            kinds={"postgres", "table"},
            owners=OWNERS,
            metadata={
                "dagster/table_name": "staging.partner_order_line",
                "dagster/column_schema": _LINE_COLUMNS,
                "dagster/partition_expr": "date_id",
            },
            partitions_def=ORDER_DAYS,
        ),
    ]


def partner_order_checks() -> list[SqlCheck]:
    return [
        SqlCheck("outbox_staged", PARTNER_ORDER_EVENT, "Every event of the outbox is staged, and no other, per day."),
        SqlCheck("partner_orders_mapped", PARTNER_ORDER_LINE, "Every line found its item, customer and city."),
    ]
