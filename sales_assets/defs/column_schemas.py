"""Column schemas of all assets, for the UI. A test compares them with the tables.

The files' and their staging tables' columns are described in `sales_assets.schemas.report_files`.
"""

import dagster as dg

from sales_assets.schemas.lake import LAKE_TABLES
from sales_assets.schemas.report_files import REPORT_FILES, USER_ORDERS_LOG, Column, ReportFile

_NOT_NULL = dg.TableColumnConstraints(nullable=False)
_KEY = dg.TableColumnConstraints(nullable=False, unique=True)


def _schema(*columns: tuple[str, str, str]) -> dg.TableSchema:
    return dg.TableSchema(columns=[dg.TableColumn(name, kind, meaning) for name, kind, meaning in columns])


def _dimension(key: tuple[str, str, str], *columns: tuple[str, str, str]) -> dg.TableSchema:
    return dg.TableSchema(columns=[dg.TableColumn(*key, constraints=_KEY), *_schema(*columns).columns])


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


# The price list carries no date: a day is told by the choice of its fetch.
_DAY = dg.TableColumn("date_id", "integer", "Day on which the line is in force, YYYYMMDD", constraints=_NOT_NULL)
_FETCH = dg.TableColumn("fetch_id", "bigint", "Number of the kept fetch that the line was taken from")
_SALE_ID = dg.TableColumn("sale_id", "bigint", "Id of the row of mart.f_sales made from the line")
_NAME_AS_OF = ("name_as_of", "timestamp", "Event time of the line that the name was taken from")

# {schema and name of the table, or of the file}
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
        ("message_id", "text", "The event's one name: project, order and kind"),
        ("order_id", "bigint", "Our id of the order"),
        ("kind", "text", "accepted, done or cancelled"),
        ("project_id", "integer", "Our project's id (PARTNERAPI_SOURCE_PROJECT_ID)"),
        ("kodpost", "integer", "Supplier code of the partner's chain (PARTNERAPI_KODPOST)"),
        ("dated_at", "timestamp with time zone", "The moment that decides the day of the event"),
        ("created_at", "timestamp with time zone", "When the service wrote it"),
        ("published_at", "timestamp with time zone", "When the broker confirmed it; empty: the relay has it to send"),
    ),
    "staging.partner_order_event": _schema(
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
    ),
    "staging.partner_order_line": _schema(
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
    ),
    "mart.d_calendar": _dimension(
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
    ),
    "mart.d_city": _dimension(
        ("city_id", "integer", "City"),
        ("city_name", "text", "Latest name of the city"),
        _NAME_AS_OF,
    ),
    "mart.d_customer": _dimension(
        ("customer_id", "integer", "Customer"),
        ("first_name", "text", "Latest first name"),
        ("last_name", "text", "Latest last name"),
        _NAME_AS_OF,
    ),
    "mart.d_item": _dimension(
        ("item_id", "integer", "Item"),
        ("item_name", "text", "Latest name of the item"),
        _NAME_AS_OF,
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
        ("source", "text", "Who wrote the row: report_api, partner_orders or legacy"),
    ),
    "mart.f_activity": _schema(
        ("date_id", "integer", "Calendar day of the events, YYYYMMDD"),
        ("customer_id", "integer", "Customer; in mart.d_customer only if the customer has bought something"),
        ("action_id", "integer", "Action"),
        ("events", "bigint", "Lines of the activity log"),
        ("quantity", "numeric(20,2)", "Total quantity of the events; 0 is legal"),
    ),
    "mart.f_research": _schema(
        ("date_id", "integer", "Calendar day of the sales, YYYYMMDD"),
        ("category_id", "integer", "Category"),
        ("geo_id", "integer", "Region"),
        ("sales_qty", "numeric(10,2)", "Pieces sold"),
        ("sales_amt", "numeric(10,2)", "Amount sold"),
    ),
    "mart.f_customer_retention": _schema(
        ("period_name", "text", "weekly"),
        ("period_id", "integer", "ISO year * 100 + ISO week: 2024-12-30 is in 202501"),
        ("item_id", "integer", "Item (mart.d_item)"),
        ("new_customers_count", "bigint", "Customers whose only shipped line of the week is of the item"),
        ("returning_customers_count", "bigint", "Customers of the item with several shipped lines in the week"),
        ("refunded_customer_count", "bigint", "Customers with a refunded line of the item in the week"),
        ("new_customers_revenue", "numeric(20,2)", "Shipped lines of the new customers, gross"),
        ("returning_customers_revenue", "numeric(20,2)", "Shipped lines of the returning ones, gross"),
        ("customers_refunded", "bigint", "Refunded lines"),
        ("refunded_amount", "numeric(20,2)", "Total of the refunded lines, negative"),
    ),
    "mart.f_mailing_deliveries": _schema(
        ("message_id", "bigint", "Message; the sender knows it by the same id"),
        ("date_id", "integer", "Day in SALES_TIMEZONE on which the recipients were fixed, YYYYMMDD"),
        ("mailing_id", "bigint", "Mailing"),
        ("client_id", "bigint", "Client of the mailings"),
        ("customer_id", "integer", "Customer (mart.d_customer) that the client was linked to; empty: none"),
        ("tag_filter", "text", "The mailing's tag filter; empty: it went to every tag"),
        ("operator_code_filter", "text", "The mailing's operator code filter; empty: every operator"),
        ("status", "text", "Pending, SENT, FAILED or TIMEOUT"),
        ("attempts", "smallint", "Sends that were begun"),
        ("reason", "text", "Why the message, or its last attempt, failed"),
        ("created_at", "timestamp with time zone", "When the recipients were fixed"),
        ("finished_at", "timestamp with time zone", "When the message got its last status; empty: Pending"),
        ("seconds_to_deliver", "numeric(12,3)", "Between the two, of SENT messages"),
    ),
    "mart.f_mailing_statistics": _schema(
        ("date_id", "integer", "Day in SALES_TIMEZONE on which the recipients were fixed, YYYYMMDD"),
        ("mailing_id", "bigint", "Mailing"),
        ("messages", "bigint", "Messages of the day, in whatever status"),
        ("pending", "bigint", "Still to be sent"),
        ("sent", "bigint", "Taken by the sender"),
        ("failed", "bigint", "Given up"),
        ("timed_out", "bigint", "Not sent before the mailing's end"),
        ("attempts", "bigint", "Sends that were begun"),
        ("linked_customers", "bigint", "Customers of the mart among the recipients"),
        ("median_seconds", "numeric(12,3)", "Median of the seconds to deliver"),
        ("slowest_seconds", "numeric(12,3)", "Longest of the seconds to deliver"),
        ("last_finished_at", "timestamp with time zone", "When the last message so far got its last status"),
    ),
    "mailings.client": _schema(
        ("client_id", "bigint", "Client of the mailings"),
        ("phone", "character varying(11)", "7 and ten digits; two clients may have one phone"),
        ("operator_code", "text", "Operator code of the phone, for the filter of a mailing"),
        ("tag", "text", "The client's own tag; those of the marts are in mailings.client_tag"),
        ("timezone", "character varying(64)", "The client's time zone; a name that is unknown counts as UTC"),
        ("created_at", "timestamp with time zone", "When the client was added"),
        ("updated_at", "timestamp with time zone", "When the client was last changed"),
    ),
    "mailings.message": _schema(
        ("message_id", "bigint", "Message; the sender knows it by the same id"),
        ("mailing_id", "bigint", "Mailing"),
        ("client_id", "bigint", "Client of the mailings"),
        ("status", "text", "Pending, SENT, FAILED or TIMEOUT"),
        ("attempts", "smallint", "Sends whose outcome was seen"),
        ("next_attempt_at", "timestamp with time zone", "When it is sent next; of a claimed one, when its lease ends"),
        ("claim", "text", "The worker that sends it"),
        ("reason", "text", "Why the message, or its last attempt, failed"),
        ("finished_at", "timestamp with time zone", "When it got its last status; empty: Pending"),
        ("created_at", "timestamp with time zone", "When the recipients were fixed"),
    ),
    "mailings.client_customer": _schema(
        ("client_id", "bigint", "Client of the mailings"),
        ("customer_id", "integer", "Customer of the mart (mart.d_customer) that the client is"),
        ("linked_by", "text", "phone: found by the phone of partner orders; api: told by hand, and never changed here"),
        ("linked_at", "timestamp with time zone", "Since when it is this customer"),
    ),
    "mailings.client_tag": _schema(
        ("client_id", "bigint", "Client of the mailings"),
        ("tag", "text", "new, returning or refunded"),
        ("since", "timestamp with time zone", "When the tag was given; a tag that stays keeps it"),
    ),
}
