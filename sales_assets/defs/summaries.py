"""Summaries of days and weeks as the metadata of their materializations."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import dagster as dg

from sales_assets.partitions import key_of
from sales_assets.schemas.calendar import day_of


def plottable(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata from a row of a `summary` statement, with readable names and numbers that Dagster plots.

    Dagster plots integers and floats, but treats numeric as text. Columns without a value are omitted.
    """
    return {
        name.replace("_", " "): float(value) if isinstance(value, Decimal) else value
        for name, value in row.items()
        if value is not None
    }


def add_summaries(context: dg.AssetExecutionContext, key: dg.AssetKey, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add each row of a `summary` statement to the partition of its `date_id`."""
    for row in rows:
        numbers = {name: value for name, value in row.items() if name != "date_id"}
        context.add_asset_metadata(plottable(numbers), asset_key=key, partition_key=key_of(day_of(row["date_id"])))
