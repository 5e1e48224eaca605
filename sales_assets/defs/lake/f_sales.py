"""``lake.f_sales``: an Iceberg copy of ``mart.f_sales`` for other engines, whole days at a time."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import dagster as dg

from sales_assets.dagster_internals import last_event_id, log_materializations, set_asset_metadata
from sales_assets.defs.checking import SqlCheck, result_of
from sales_assets.defs.lake.configured import if_configured, lake_of
from sales_assets.defs.lake.dimensions import lake_key, refreshed_with
from sales_assets.defs.mart.f_sales import F_SALES
from sales_assets.defs.mart.f_sales_partner_orders import F_SALES_PARTNER_ORDERS
from sales_assets.defs.summaries import plottable
from sales_assets.partitions import ORDER_DAYS, WHOLE_RANGE, days_of, existing_days, format_days, key_of
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.schemas.calendar import date_id

LAKE_F_SALES = lake_key("f_sales")

EQUAL_TO_MART = SqlCheck(
    "equal_to_mart",
    LAKE_F_SALES,
    "Rows, quantities, amounts and keys in the data files equal the mart's, per day, status and source.",
)


@dg.multi_asset(
    name="lake_sales",
    specs=[
        dg.AssetSpec(
            LAKE_F_SALES,
            deps=[
                dg.AssetDep(F_SALES, partition_mapping=existing_days()),
                dg.AssetDep(F_SALES_PARTNER_ORDERS, partition_mapping=existing_days()),
            ],
            description="Iceberg copy of `mart.f_sales`, all sources, partitioned by `day`, with the key of each line. "
            "`sales-assets lake url` prints how DuckDB, Spark, Trino and ClickHouse read it.\n\n"
            "A day is replaced whole. Days of one commit are from one moment of the mart, and are read back and "
            "compared with it before the commit.",
            partitions_def=ORDER_DAYS,
        )
    ],
    check_specs=[EQUAL_TO_MART.spec()],
    partitions_def=ORDER_DAYS,
    backfill_policy=WHOLE_RANGE,
)
def lake_sales(
    context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Replace days by those of the mart, and compare the committed rows with it."""
    # Read before the mart: the copy may lack days that are materialized after this event.
    event_id = last_event_id(context.instance)
    days = days_of(context.partition_keys)
    summaries: dict[int, dict[str, Any]] = {
        date_id(day): {"rows": 0, "net_amount": Decimal(), "net_quantity": Decimal()} for day in days
    }
    wrong: list[Any] = []
    for replaced in lake_of(warehouse).replace_days(days, f"{context.run.run_id[:8]} lake"):
        context.log.info(f"committed {format_days(replaced.days)}")
        wrong += replaced.differences
        for (day, _, _), sums in replaced.sums.items():
            summary = summaries[day]
            summary["rows"] += sums["rows"]
            summary["net_amount"] += sums["amount"] or 0
            summary["net_quantity"] += sums["quantity"] or 0
    log_materializations(context, refreshed_with(event_id))
    set_asset_metadata(context, {(LAKE_F_SALES, key_of(day)): plottable(summaries[date_id(day)]) for day in days})
    yield dg.MaterializeResult(asset_key=LAKE_F_SALES, data_version=dg.DataVersion(str(event_id)))
    yield result_of(EQUAL_TO_MART, wrong, {"days checked": format_days(days), "method": "queried"})


refresh_lake = dg.define_asset_job(
    "refresh_lake",
    selection=dg.AssetSelection.assets(lake_sales),
    description="Copy a day or a range of days of mart.f_sales to the lake.",
    executor_def=dg.in_process_executor,
)


@dg.definitions
def definitions() -> dg.Definitions:
    """Declare the copy of the sales."""
    return if_configured(assets=[lake_sales], jobs=[refresh_lake])
