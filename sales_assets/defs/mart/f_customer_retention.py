"""``mart.f_customer_retention``: new, returning and refunded customers per week and item, computed by ``sql/mart``."""

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from sales_assets.dagster_internals import last_event_id
from sales_assets.defs.checking import SqlCheck, evaluate
from sales_assets.defs.mart.f_sales import F_SALES
from sales_assets.defs.mart.f_sales_partner_orders import F_SALES_PARTNER_ORDERS
from sales_assets.defs.summaries import plottable
from sales_assets.partitions import WEEKS, WHOLE_RANGE, days_of, existing_days, key_of
from sales_assets.pipeline.sums import NotReconciledError
from sales_assets.postgres.warehouse import Transaction, Warehouse
from sales_assets.schemas.calendar import date_id, week_id

F_CUSTOMER_RETENTION = dg.AssetKey(["mart", "f_customer_retention"])

_SUNDAY = dt.timedelta(days=6)


def retention_checks() -> list[SqlCheck]:
    """Declare the checks of ``mart.f_customer_retention``."""
    return [
        SqlCheck(
            "revenue_of_the_week",
            F_CUSTOMER_RETENTION,
            "The revenue of new and returning customers is the amount shipped in the week; refunds equal the sales'.",
        ),
        SqlCheck("sales_in_weeks", F_CUSTOMER_RETENTION, "Every sale of the weeks is in its week, with its item."),
        SqlCheck(
            "sales_before_first_week",
            F_CUSTOMER_RETENTION,
            "No sale is before the week of SALES_FIRST_DAY: no run computes such a week.",
            dg.AssetCheckSeverity.WARN,
        ),
    ]


@dg.multi_asset(
    name="customer_retention",
    specs=[
        dg.AssetSpec(
            F_CUSTOMER_RETENTION,
            deps=[
                dg.AssetDep(F_SALES, partition_mapping=existing_days()),
                dg.AssetDep(F_SALES_PARTNER_ORDERS, partition_mapping=existing_days()),
            ],
            description="New, returning and refunded customers and their revenue, a row per ISO week and item, of all "
            "sources.\n\n"
            "**new**: the customer has exactly one shipped line in the week. **returning**: more than one, of any "
            "items. **refunded**: a refunded line in the week, in any case. New and returning are exclusive per "
            "customer and week, so `new_customers_count` may be summed over items, and "
            "`new_customers_revenue + returning_customers_revenue` is the gross amount of the week to the cent; "
            "adding `refunded_amount` gives the net amount.\n\n"
            "New means new within the week: a week depends on its own sales only, and loading an older day changes no "
            "later one. First-time buyers of the whole history have the tag `new` (`mailings/client_tag`).\n\n"
            "`period_id` sorts over years: ISO year * 100 + ISO week. A week is replaced whole, in one transaction.",
            partitions_def=WEEKS,
        )
    ],
    check_specs=[check.spec() for check in retention_checks()],
    partitions_def=WEEKS,
    backfill_policy=WHOLE_RANGE,
)
def customer_retention(
    context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Replace weeks, and reconcile them with the sales before the commit."""
    # Read before the sales, which may lack days that are materialized after this event.
    event_id = last_event_id(context.instance)
    mondays = days_of(context.partition_keys)
    with warehouse.transaction(f"{context.run.run_id[:8]} customer retention") as transaction:
        summary = _replace_weeks(transaction, mondays)
        # Evaluated in the same snapshot, because a day may be loaded at any time.
        checks = evaluate(transaction, retention_checks(), [mondays[0], mondays[-1] + _SUNDAY])
    by_week = {row["period_id"]: row for row in summary}
    for monday in mondays:
        row = by_week.get(week_id(monday), {"period_id": week_id(monday), "items": 0})
        context.add_asset_metadata(plottable(row), asset_key=F_CUSTOMER_RETENTION, partition_key=key_of(monday))
    yield dg.MaterializeResult(asset_key=F_CUSTOMER_RETENTION, data_version=dg.DataVersion(str(event_id)))
    yield from checks


def _replace_weeks(transaction: Transaction, mondays: Sequence[dt.date]) -> list[dict[str, Any]]:
    """Replace weeks and compare them with the sales. Raises `NotReconciledError`."""
    period_ids = [week_id(monday) for monday in mondays]
    span = {"first_date_id": date_id(mondays[0]), "last_date_id": date_id(mondays[-1] + _SUNDAY)}
    transaction.run("mart/f_customer_retention", "use_one_snapshot")
    transaction.run("mart/f_customer_retention", "exclude_other_writers")
    transaction.run("mart/f_customer_retention", "clear_weeks", period_ids=period_ids)
    transaction.run("mart/f_customer_retention", "fill_weeks", mondays=list(mondays), **span)
    wrong = transaction.rows("checks/revenue_of_the_week", "offending", **span)
    if wrong:
        raise NotReconciledError("; ".join(str(row["example"]) for row in wrong))
    return transaction.rows("mart/f_customer_retention", "summary", period_ids=period_ids)
