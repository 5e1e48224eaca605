"""``lake.d_calendar``, ``d_city``, ``d_customer``, ``d_item``: copies of the dimensions, replaced after a change.

A run of `lake_sales` refreshes them before it commits days, and reports them (`refreshed_with`).
"""

from collections.abc import Iterator

import dagster as dg

from sales_assets.dagster_internals import DATA_VERSION_TAG, last_event_id
from sales_assets.defs.lake.configured import if_configured, lake_of
from sales_assets.defs.mart.dimensions import dimension_key
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.schemas.lake import DIMENSIONS


def lake_key(table: str) -> dg.AssetKey:
    """Return the asset key of a table of the lake."""
    return dg.AssetKey(["lake", table])


def refreshed_with(event_id: int | None) -> list[dg.AssetMaterialization]:
    """Return one materialization of each dimension for a run that copied days.

    event_id: number of the last event before the run read the mart.
    """
    return [
        dg.AssetMaterialization(
            lake_key(table), tags={DATA_VERSION_TAG: str(event_id)}, metadata={"refreshed with": "days of f_sales"}
        )
        for table in DIMENSIONS
    ]


@dg.multi_asset(
    name="lake_dimensions",
    specs=[
        dg.AssetSpec(
            lake_key(table),
            deps=[dimension_key(table)],
            description=f"Iceberg copy of `mart.{table}`. It is replaced when a row has changed, by a separate run or "
            "by a run that copies days of sales, before its commit.",
        )
        for table in DIMENSIONS
    ],
)
def lake_dimensions(
    context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]
) -> Iterator[dg.MaterializeResult[None]]:
    """Replace the dimensions that have changed."""
    event_id = last_event_id(context.instance)
    replaced = lake_of(warehouse).refresh_dimensions(f"{context.run.run_id[:8]} lake dimensions")
    for table in DIMENSIONS:
        yield dg.MaterializeResult(
            asset_key=lake_key(table),
            metadata={"replaced": table in replaced},
            data_version=dg.DataVersion(str(event_id)),
        )


refresh_lake_dimensions = dg.define_asset_job(
    "refresh_lake_dimensions",
    selection=dg.AssetSelection.assets(lake_dimensions),
    description="Replace the dimensions of the lake that have changed.",
    executor_def=dg.in_process_executor,
)


@dg.definitions
def definitions() -> dg.Definitions:
    """Declare the dimensions of the lake."""
    return if_configured(assets=[lake_dimensions], jobs=[refresh_lake_dimensions])
