"""Deliveries of messages: ``mart.f_mailing_deliveries`` and, per day and mailing, ``mart.f_mailing_statistics``."""

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from sales_assets.defs.checking import SqlCheck, evaluate
from sales_assets.defs.mailings.audience import CLIENT_CUSTOMER
from sales_assets.defs.sources.service_tables import MESSAGE
from sales_assets.defs.summaries import add_summaries
from sales_assets.partitions import ORDER_DAYS, WHOLE_RANGE, days_of
from sales_assets.pipeline.sums import NotReconciledError
from sales_assets.postgres.warehouse import Transaction, Warehouse
from sales_assets.schemas.calendar import date_id
from sales_assets.settings import settings

F_MAILING_DELIVERIES = dg.AssetKey(["mart", "f_mailing_deliveries"])
F_MAILING_STATISTICS = dg.AssetKey(["mart", "f_mailing_statistics"])


_SPECS = (
    dg.AssetSpec(
        F_MAILING_DELIVERIES,
        deps=[MESSAGE, CLIENT_CUSTOMER],
        description="A row per message of a mailing, by the day on which the mailing started and its recipients were "
        "fixed, in SALES_TIMEZONE. Holds no phone and no text, only the ids of the client and of the customer linked "
        "at the day's last load.\n\n"
        "A day is replaced whole, in one transaction, and is loaded again until none of its messages is Pending. "
        "Messages of deleted mailings stay.",
        partitions_def=ORDER_DAYS,
    ),
    dg.AssetSpec(
        F_MAILING_STATISTICS,
        deps=[F_MAILING_DELIVERIES],
        description="Delivery statistics of a day, a row per mailing: messages by status, attempts, send durations. "
        "Computed from the deliveries, in their transaction.",
        partitions_def=ORDER_DAYS,
    ),
)


def delivery_checks() -> list[SqlCheck]:
    """Declare the checks of the deliveries and of their statistics."""
    return [
        SqlCheck("equal_to_messages", F_MAILING_DELIVERIES, "The rows equal the service's messages of the days."),
        SqlCheck("pending_ends", F_MAILING_DELIVERIES, "No message is Pending ten minutes after its mailing's end."),
        SqlCheck("counts_of_messages", F_MAILING_DELIVERIES, "The counts in the API equal the messages, per status."),
        SqlCheck(
            "few_failed",
            F_MAILING_DELIVERIES,
            "At most a tenth of a day's finished messages failed.",
            dg.AssetCheckSeverity.WARN,
        ),
        SqlCheck("equal_to_deliveries", F_MAILING_STATISTICS, "The statistics equal the sums of the deliveries."),
    ]


@dg.multi_asset(
    name="mailing_deliveries",
    specs=_SPECS,
    check_specs=[check.spec() for check in delivery_checks()],
    partitions_def=ORDER_DAYS,
    backfill_policy=WHOLE_RANGE,
)
def mailing_deliveries(
    context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Replace the days' deliveries and statistics from the service's current messages."""
    days = days_of(context.partition_keys)
    with warehouse.transaction(f"{context.run.run_id[:8]} mailing deliveries") as transaction:
        deliveries, statistics = _replace_days(transaction, days)
        # Evaluated in the same snapshot, because the service continues to send.
        checks = evaluate(transaction, delivery_checks(), days)
    add_summaries(context, F_MAILING_DELIVERIES, deliveries)
    add_summaries(context, F_MAILING_STATISTICS, statistics)
    for spec in _SPECS:
        yield dg.MaterializeResult(asset_key=spec.key)
    yield from checks


def _replace_days(
    transaction: Transaction, days: Sequence[dt.date]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Replace days and compare them with the messages. Raises `NotReconciledError`."""
    date_ids = [date_id(day) for day in days]
    zone = settings().sales_timezone
    transaction.run("mart/f_mailing_deliveries", "use_one_snapshot")
    transaction.run("mart/f_mailing_deliveries", "exclude_other_writers")
    transaction.run("mart/f_mailing_deliveries", "take_days", days=list(days), timezone=zone)
    transaction.run("mart/f_mailing_deliveries", "clear_gone", date_ids=date_ids)
    transaction.run("mart/f_mailing_deliveries", "fill_days")
    transaction.run("mart/f_mailing_statistics", "clear_days", date_ids=date_ids)
    transaction.run("mart/f_mailing_statistics", "fill_days", date_ids=date_ids)
    span = {"timezone": zone, "first_date_id": min(date_ids), "last_date_id": max(date_ids)}
    wrong = transaction.rows("checks/equal_to_messages", "offending", **span)
    if wrong:
        raise NotReconciledError("; ".join(f"{row['date_id']}: {row['example']}" for row in wrong))
    return (
        transaction.rows("mart/f_mailing_deliveries", "summary"),
        transaction.rows("mart/f_mailing_statistics", "summary", date_ids=date_ids),
    )
