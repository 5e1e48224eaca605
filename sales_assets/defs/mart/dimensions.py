"""``mart.d_calendar``, ``d_city``, ``d_customer``, ``d_item``: dimensions, and the op that rebuilds them from staging.

A load writes the dimension rows of its days itself and reports them by `loaded_with`; no row is ever deleted.
"""

import datetime as dt
from collections.abc import Iterator, Sequence

import dagster as dg

from sales_assets.defs.staging.report_files import staging_key
from sales_assets.partitions import format_days
from sales_assets.pipeline.names import NAMED_DIMENSIONS, add_calendar_days, upsert_dimensions
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.schemas.calendar import date_id
from sales_assets.schemas.report_files import USER_ORDERS_LOG

_DESCRIPTIONS = {
    "d_calendar": "A row per calendar day, from the first to the last day that any load requested, without gaps.",
    "d_city": "Cities of sales. The name is the latest by event time; a city is never deleted.",
    "d_customer": "Customers. The names are the latest by event time; a customer is never deleted. The city is an "
    "attribute of the sale, because a customer buys in several.",
    "d_item": "Items. The name is the latest by event time; an item is never deleted.",
}


def dimension_key(table: str) -> dg.AssetKey:
    """Return the asset key of a dimension."""
    return dg.AssetKey(["mart", table])


def loaded_with(days: Sequence[dt.date]) -> list[dg.AssetMaterialization]:
    """Return one materialization of each dimension for a load of days; empty without days.

    They are not outputs of the load: a day of the mart is never published without its dimension rows, so there is
    nothing to select.
    """
    loaded = {"days loaded": format_days(days)}
    return [dg.AssetMaterialization(dimension_key(table), metadata=loaded) for table in _DESCRIPTIONS if days]


@dg.multi_asset(
    name="dimensions",
    specs=[
        dg.AssetSpec(
            dimension_key(table),
            deps=[staging_key(USER_ORDERS_LOG)],
            description=f"{description}\n\nA load writes the rows of its days in its own transaction, so the mart "
            "never has an orphan. Materializing this asset rebuilds it from all of staging.",
        )
        for table, description in _DESCRIPTIONS.items()
    ],
)
def dimensions(
    context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]
) -> Iterator[dg.MaterializeResult[None]]:
    """Update all dimensions from all of staging."""
    purpose = f"{context.run.run_id[:8]} dimensions"
    with warehouse.writing_everything(purpose) as writer, writer.transaction(purpose) as transaction:
        staged = [row["day"] for row in transaction.rows("mart/d_calendar", "staged_days")]
        written = upsert_dimensions(transaction, [date_id(day) for day in staged])
        if staged:
            written["d_calendar"] = add_calendar_days(transaction, staged[0], staged[-1])
    for table in ("d_calendar", *NAMED_DIMENSIONS):
        yield dg.MaterializeResult(asset_key=dimension_key(table), metadata={"rows written": written.get(table, 0)})
