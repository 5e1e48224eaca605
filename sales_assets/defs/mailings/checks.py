"""Checks on the mailings: tags stand on links, and deliveries are the service's messages, which come to an end."""

import dagster as dg

from sales_assets.defs.checking import SqlCheck
from sales_assets.defs.mailings.keys import (
    CLIENT_CUSTOMER,
    CLIENT_TAG,
    F_MAILING_DELIVERIES,
    F_MAILING_STATISTICS,
)

_WARN = dg.AssetCheckSeverity.WARN


def audience_checks() -> list[SqlCheck]:
    return [
        SqlCheck("clients_linked", CLIENT_CUSTOMER, "At least half of the clients are linked to a customer.", _WARN),
        SqlCheck("tags_linked", CLIENT_TAG, "No client has a tag of the marts without a link to a customer."),
    ]


def delivery_checks() -> list[SqlCheck]:
    return [
        SqlCheck("equal_to_messages", F_MAILING_DELIVERIES, "The mart's rows are the service's messages of the days."),
        SqlCheck("pending_ends", F_MAILING_DELIVERIES, "No message of any day is Pending ten minutes after the end."),
        SqlCheck("counts_of_messages", F_MAILING_DELIVERIES, "What the API counts are the messages, per status."),
        SqlCheck("few_failed", F_MAILING_DELIVERIES, "At most a tenth of a day's finished messages failed.", _WARN),
        SqlCheck("equal_to_deliveries", F_MAILING_STATISTICS, "The statistics are the sums of the deliveries."),
    ]
