"""Column schemas of all assets, for the UI. A test compares them with the tables.

Columns of report files and of their staging tables are described in `sales_assets.schemas.report_files`.
"""

from collections.abc import Sequence

import dagster as dg

from sales_assets.schemas.lake import LAKE_TABLES
from sales_assets.schemas.report_files import REPORT_FILES, USER_ORDERS_LOG, Column, ReportFile

_NOT_NULL = dg.TableColumnConstraints(nullable=False)


def _schema(*columns: tuple[str, str, str], key: str = "") -> dg.TableSchema:
    """Describe a table by its columns (name, type, meaning) and the columns of its primary key."""
    constraints = dg.TableConstraints(other=[f"PRIMARY KEY ({key})"] if key else [])
    return dg.TableSchema([dg.TableColumn(*column) for column in columns], constraints)


def primary_key(schema: dg.TableSchema) -> tuple[str, ...]:
    """Return the columns of a table's primary key; empty if it has no key."""
    declared = schema.constraints.other[0] if schema.constraints and schema.constraints.other else ""
    return tuple(declared.removeprefix("PRIMARY KEY (").removesuffix(")").split(", ")) if declared else ()


def _with_null_rules(schema: dg.TableSchema, nullable: Sequence[str]) -> dg.TableSchema:
    """Declare all columns except `nullable` as NOT NULL, and a single primary key column as unique."""
    key = primary_key(schema)
    columns = [
        dg.TableColumn(
            column.name,
            column.type,
            column.description,
            constraints=dg.TableColumnConstraints(nullable=column.name in nullable, unique=(column.name,) == key),
        )
        for column in schema.columns
    ]
    return dg.TableSchema(columns, schema.constraints)


def _delivered(file: ReportFile) -> dg.TableSchema:
    """Describe the columns of a raw file, all of them text."""
    return _schema(*((column.header or column.name, "text", column.description) for column in file.delivered))


def _staged(file: ReportFile) -> dg.TableSchema:
    """Describe the columns of a staging table: typed, with the origin of each row."""
    day = [] if file.is_dated else [_DAY]
    sale = [_SALE_ID] if file is USER_ORDERS_LOG else []
    return dg.TableSchema(columns=[*(_typed(column) for column in file.staged), *day, _FETCH, *sale])


def _typed(column: Column) -> dg.TableColumn:
    return dg.TableColumn(
        column.name,
        column.kind.sql_type,
        column.description,
        constraints=_NOT_NULL,
    )


# The price list has no dates: its rows get the day for which their file was selected.
_DAY = dg.TableColumn("date_id", "integer", "Day that the price list is valid for, YYYYMMDD", constraints=_NOT_NULL)
_FETCH = dg.TableColumn("fetch_id", "bigint", "Number of the raw file that the line comes from (raw.fetch)")
_SALE_ID = dg.TableColumn("sale_id", "bigint", "Id of the row of mart.f_sales made from the line")
_NAME_AS_OF = ("name_as_of", "timestamp", "Date and time of the line that the name was taken from")

# {"schema.name" of a table or file: its columns}
COLUMNS = {
    **{f"raw.{name}": _delivered(file) for name, file in REPORT_FILES.items()},
    **{f"raw.{name}_inc": _delivered(file) for name, file in REPORT_FILES.items()},
    **{f"staging.{name}": _staged(file) for name, file in REPORT_FILES.items()},
    **{
        f"lake.{name}": _schema(*((column.name, column.kind, column.description) for column in columns))
        for name, columns in LAKE_TABLES.items()
    },
    "orders.outbox": _schema(
        ("event_no", "bigint", "Number of the event"),
        ("message_id", "text", "Identity of the event: project, order and kind"),
        ("order_id", "bigint", "Our id of the order"),
        ("kind", "text", "accepted, done or cancelled"),
        ("project_id", "integer", "Our project's id (PARTNERAPI_SOURCE_PROJECT_ID)"),
        ("kodpost", "integer", "Supplier code of the partner's chain (PARTNERAPI_KODPOST)"),
        ("dated_at", "timestamp with time zone", "Time that determines the day of the event"),
        ("created_at", "timestamp with time zone", "When the service wrote it"),
        ("published_at", "timestamp with time zone", "When the broker confirmed it; empty: not published yet"),
        key="event_no",
    ),
    "staging.partner_order_event": _schema(
        ("message_id", "text", "Identity of the event: project, order and kind"),
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
            "Time that determines the day: the date of the order, or the time of the cancel",
        ),
        ("lines", "jsonb", "The order's lines: line_no, their_id, price, count"),
        ("received_at", "timestamp with time zone", "When the consumer staged it"),
        (
            "loaded_at",
            "timestamp with time zone",
            "When a run loaded it into the mart; empty: not loaded, so the sensor requests its day",
        ),
        key="message_id",
    ),
    "staging.partner_order_line": _schema(
        ("uniq_id", "text", "Identity of the line: project, order, line number and status"),
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
        key="uniq_id",
    ),
    "mart.d_calendar": _schema(
        ("date_id", "integer", "The day as YYYYMMDD"),
        ("date_actual", "date", "The day"),
        ("year_num", "integer", "Year"),
        ("quarter_num", "integer", "Quarter, 1 to 4"),
        ("month_num", "integer", "Month, 1 to 12"),
        ("month_name", "text", "Month in English"),
        ("day_num", "integer", "Day of the month"),
        ("day_of_week", "integer", "ISO day of the week: Monday is 1"),
        ("iso_year", "integer", "Year that the ISO week belongs to"),
        ("iso_week", "integer", "ISO week, 1 to 53"),
        key="date_id",
    ),
    "mart.d_city": _schema(
        ("city_id", "integer", "City"),
        ("city_name", "text", "Latest name of the city"),
        _NAME_AS_OF,
        key="city_id",
    ),
    "mart.d_customer": _schema(
        ("customer_id", "integer", "Customer"),
        ("first_name", "text", "Latest first name"),
        ("last_name", "text", "Latest last name"),
        _NAME_AS_OF,
        key="customer_id",
    ),
    "mart.d_item": _schema(
        ("item_id", "integer", "Item"),
        ("item_name", "text", "Latest name of the item"),
        _NAME_AS_OF,
        key="item_id",
    ),
    "mart.f_sales": _schema(
        ("id", "integer", "Id of the sale; a line keeps it when its day is loaded again"),
        ("date_id", "integer", "Calendar day of the event, YYYYMMDD"),
        ("item_id", "integer", "Item sold (mart.d_item)"),
        ("customer_id", "integer", "Customer (mart.d_customer)"),
        ("city_id", "integer", "City of the sale (mart.d_city)"),
        ("quantity", "numeric(10,2)", "Pieces; negative for refunded lines"),
        ("amount", "numeric(10,2)", "Total of the line; negative for refunded lines"),
        ("status", "text", "shipped or refunded"),
        ("source", "text", "Writer of the row: report_api, partner_orders or legacy"),
        key="id",
    ),
    "mart.f_activity": _schema(
        ("date_id", "integer", "Calendar day of the events, YYYYMMDD"),
        ("customer_id", "integer", "Customer; in mart.d_customer only if the customer has bought something"),
        ("action_id", "integer", "Action"),
        ("events", "bigint", "Lines of the activity log"),
        ("quantity", "numeric(20,2)", "Total quantity of the events; 0 is legal"),
        key="date_id, customer_id, action_id",
    ),
    "mart.f_research": _schema(
        ("date_id", "integer", "Calendar day of the sales, YYYYMMDD"),
        ("category_id", "integer", "Category"),
        ("geo_id", "integer", "Region"),
        ("sales_qty", "numeric(10,2)", "Pieces sold"),
        ("sales_amt", "numeric(10,2)", "Amount sold"),
        key="date_id, category_id, geo_id",
    ),
    "mart.f_customer_retention": _schema(
        ("period_name", "text", "weekly"),
        ("period_id", "integer", "ISO year * 100 + ISO week: 2024-12-30 is in 202501"),
        ("item_id", "integer", "Item (mart.d_item)"),
        ("new_customers_count", "bigint", "Customers whose only shipped line of the week is of the item"),
        ("returning_customers_count", "bigint", "Customers of the item with several shipped lines in the week"),
        ("refunded_customer_count", "bigint", "Customers with a refunded line of the item in the week"),
        ("new_customers_revenue", "numeric(20,2)", "Shipped lines of the new customers, gross"),
        ("returning_customers_revenue", "numeric(20,2)", "Shipped lines of the returning customers, gross"),
        ("customers_refunded", "bigint", "Refunded lines"),
        ("refunded_amount", "numeric(20,2)", "Total of the refunded lines, negative"),
        key="period_name, period_id, item_id",
    ),
    "mart.f_mailing_deliveries": _schema(
        ("message_id", "bigint", "Message; the sender gets the same id"),
        ("date_id", "integer", "Day in SALES_TIMEZONE on which the recipients were fixed, YYYYMMDD"),
        ("mailing_id", "bigint", "Mailing"),
        ("client_id", "bigint", "Client of the mailings"),
        ("customer_id", "integer", "Customer (mart.d_customer) that the client was linked to; empty: none"),
        ("tag_filter", "text", "The mailing's tag filter; empty: all tags"),
        ("operator_code_filter", "text", "The mailing's operator code filter; empty: all operators"),
        ("status", "text", "Pending, SENT, FAILED or TIMEOUT"),
        ("attempts", "smallint", "Attempts to send it"),
        ("reason", "text", "Why the message, or its last attempt, failed"),
        ("created_at", "timestamp with time zone", "When the recipients were fixed"),
        ("finished_at", "timestamp with time zone", "When the message got its final status; empty: Pending"),
        ("seconds_to_deliver", "numeric(12,3)", "Seconds from created_at to finished_at, of SENT messages"),
        key="message_id",
    ),
    "mart.f_mailing_statistics": _schema(
        ("date_id", "integer", "Day in SALES_TIMEZONE on which the recipients were fixed, YYYYMMDD"),
        ("mailing_id", "bigint", "Mailing"),
        ("messages", "bigint", "Messages of the day, of all statuses"),
        ("pending", "bigint", "Still to be sent"),
        ("sent", "bigint", "Accepted by the sender"),
        ("failed", "bigint", "Failed permanently"),
        ("timed_out", "bigint", "Not sent before the mailing's end"),
        ("attempts", "bigint", "Attempts to send them"),
        ("linked_customers", "bigint", "Customers of the mart among the recipients"),
        ("median_seconds", "numeric(12,3)", "Median of the seconds to deliver"),
        ("slowest_seconds", "numeric(12,3)", "Longest of the seconds to deliver"),
        (
            "last_finished_at",
            "timestamp with time zone",
            "When the latest message was finished",
        ),
        key="date_id, mailing_id",
    ),
    "mailings.client": _schema(
        ("client_id", "bigint", "Client of the mailings"),
        ("phone", "character varying(11)", "7 and ten digits; two clients may share a phone"),
        ("operator_code", "text", "Operator code of the phone, for the filter of a mailing"),
        ("tag", "text", "Tag set by users; the tags derived from the marts are in mailings.client_tag"),
        ("timezone", "character varying(64)", "The client's time zone; an unknown name counts as UTC"),
        ("created_at", "timestamp with time zone", "When the client was added"),
        ("updated_at", "timestamp with time zone", "When the client was last changed"),
        key="client_id",
    ),
    "mailings.message": _schema(
        ("message_id", "bigint", "Message; the sender gets the same id"),
        ("mailing_id", "bigint", "Mailing"),
        ("client_id", "bigint", "Client of the mailings"),
        ("status", "text", "Pending, SENT, FAILED or TIMEOUT"),
        ("attempts", "smallint", "Attempts whose outcome is known"),
        (
            "next_attempt_at",
            "timestamp with time zone",
            "Time of the next attempt, or the end of a worker's claim",
        ),
        ("claim", "text", "Worker that is sending the message"),
        ("reason", "text", "Why the message, or its last attempt, failed"),
        ("finished_at", "timestamp with time zone", "When it got its final status; empty: Pending"),
        ("created_at", "timestamp with time zone", "When the recipients were fixed"),
        key="message_id",
    ),
    "mailings.client_customer": _schema(
        ("client_id", "bigint", "Client of the mailings"),
        ("customer_id", "integer", "Customer of the mart (mart.d_customer) that the client is"),
        (
            "linked_by",
            "text",
            "phone: found by the phone of partner orders; api: set through the API",
        ),
        ("linked_at", "timestamp with time zone", "When the link was made"),
        key="client_id",
    ),
    "mailings.client_tag": _schema(
        ("client_id", "bigint", "Client of the mailings"),
        ("tag", "text", "new, returning or refunded"),
        ("since", "timestamp with time zone", "When the tag was added; unchanged while the client keeps the tag"),
        key="client_id, tag",
    ),
}

# Columns of the tables of the mart that may be NULL; a test compares them with the tables.
_NULLABLE: dict[str, Sequence[str]] = {
    "mart.d_calendar": (
        *("date_actual", "year_num", "quarter_num", "month_num", "month_name"),
        *("day_num", "day_of_week", "iso_year", "iso_week"),
    ),
    "mart.d_city": ("city_name", "name_as_of"),
    "mart.d_customer": ("first_name", "last_name", "name_as_of"),
    "mart.d_item": ("item_name", "name_as_of"),
    "mart.f_sales": ("quantity", "amount"),  # of a legacy row
    "mart.f_mailing_deliveries": (
        *("customer_id", "tag_filter", "operator_code_filter", "reason", "finished_at", "seconds_to_deliver"),
    ),
    "mart.f_mailing_statistics": ("median_seconds", "slowest_seconds", "last_finished_at"),
}
COLUMNS |= {
    table: _with_null_rules(schema, _NULLABLE.get(table, ()))
    for table, schema in COLUMNS.items()
    if table.startswith("mart.")
}
