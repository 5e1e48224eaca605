"""The columns of the orders' staging tables, as the UI shows them."""

import dagster as dg


def _schema(*columns: tuple[str, str, str]) -> dg.TableSchema:
    return dg.TableSchema(columns=[dg.TableColumn(name, kind, meaning) for name, kind, meaning in columns])


EVENT_COLUMNS = _schema(
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
LINE_COLUMNS = _schema(
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
