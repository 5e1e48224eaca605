"""The columns of the mailings' tables, as the UI shows them."""

import dagster as dg


def _schema(*columns: tuple[str, str, str]) -> dg.TableSchema:
    return dg.TableSchema(columns=[dg.TableColumn(name, kind, meaning) for name, kind, meaning in columns])


LINK_COLUMNS = _schema(
    ("client_id", "bigint", "Client of the mailings"),
    ("customer_id", "integer", "Customer of the mart (mart.d_customer) that the client is"),
    ("linked_by", "text", "phone: found by the phone of partner orders; api: told by hand, and never changed here"),
    ("linked_at", "timestamp with time zone", "Since when it is this customer"),
)
TAG_COLUMNS = _schema(
    ("client_id", "bigint", "Client of the mailings"),
    ("tag", "text", "new, returning or refunded"),
    ("since", "timestamp with time zone", "When the tag was given; a tag that stays keeps it"),
)
DELIVERY_COLUMNS = _schema(
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
)
STATISTICS_COLUMNS = _schema(
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
)
