"""Checks of the two small staging tables as pandas frames, by dagster-pandas types.

The rules of a row are in `sales_assets.schemas`; the two large tables are never read as frames.
"""

import functools
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import dagster as dg
import pyarrow as pa

from sales_assets.defs.staging.report_files import staging_key
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.schemas.report_files import CUSTOM_RESEARCH, PRICE_LOG, ReportFile

if TYPE_CHECKING:
    import pandas as pd

FRAMED = (CUSTOM_RESEARCH, PRICE_LOG)


@functools.cache
def frame_type(file: ReportFile) -> dg.DagsterType:
    """Build the dagster-pandas type of a file's deduplicated rows."""
    with warnings.catch_warnings():
        # dagster-pandas has been marked as beta for years; every load would warn four times.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return _frame_type(file)


def _frame_type(file: ReportFile) -> dg.DagsterType:
    # Imported here: pandas takes half of the time to load a code location, which rarely needs it.
    from dagster_pandas import PandasColumn, create_dagster_pandas_dataframe_type
    from dagster_pandas.constraints import (
        ColumnDTypeInSetConstraint,
        DataFrameConstraint,
        DataFrameConstraintViolationException,
        NonNullableColumnConstraint,
    )

    class OncePerDayConstraint(DataFrameConstraint):
        """Constraint: an item_name occurs once per date_id."""

        def __init__(self) -> None:
            super().__init__(*["An item_name occurs once per date_id."] * 2)

        def validate(self, dataframe: "pd.DataFrame") -> None:
            if dataframe.duplicated(["date_id", "item_name"]).any():
                raise DataFrameConstraintViolationException(self.name, self.error_description)

    def money(name: str) -> PandasColumn:
        # Decimals are objects to pandas; a float column would have lost the cents already.
        return PandasColumn(name, constraints=[ColumnDTypeInSetConstraint({"object"}), NonNullableColumnConstraint()])

    def number(name: str) -> PandasColumn:
        return PandasColumn(
            name, constraints=[ColumnDTypeInSetConstraint({"int32", "int64"}), NonNullableColumnConstraint()]
        )

    columns = {
        CUSTOM_RESEARCH: [
            number("date_id"),
            number("category_id"),
            number("geo_id"),
            money("sales_qty"),
            money("sales_amt"),
        ],
        PRICE_LOG: [
            number("date_id"),
            PandasColumn.string_column("item_name", non_nullable=True),
            money("price"),
        ],
    }
    made: dg.DagsterType = create_dagster_pandas_dataframe_type(
        name="".join(part.title() for part in file.name.split("_")),
        description=f"{file.description}: rows of staging",
        columns=columns[file],
        dataframe_constraints=[OncePerDayConstraint()] if file is PRICE_LOG else [],
    )
    return made


def _staged_schema(file: ReportFile) -> pa.Schema:
    return file.schema if file.is_dated else file.schema.append(pa.field("date_id", pa.int32(), nullable=False))


def typed_frame(file: ReportFile, table: pa.Table) -> "pd.DataFrame":
    """Return rows of days as a frame of the file's type, money as `Decimal`. Raises `dagster.Failure` if invalid."""
    frame: pd.DataFrame = table.to_pandas()
    # `check_dagster_type` would create a Dagster instance each time; these types need only the frame.
    check = frame_type(file).type_check(cast("dg.TypeCheckContext", None), frame)
    if not check.success:
        raise dg.Failure(f"{file.name}: {check.description}")
    return frame


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec(
            "frame_type",
            asset=staging_key(file),
            description="The table, as a pandas frame, has its dagster-pandas type.",
        )
        for file in FRAMED
    ],
    can_subset=True,
)
def frame_types(
    context: dg.AssetCheckExecutionContext, warehouse: dg.ResourceParam[Warehouse]
) -> Iterator[dg.AssetCheckResult]:
    """Check the two small tables as frames. Not part of a load: importing pandas takes longer than loading a day."""
    for file in FRAMED:
        key = dg.AssetCheckKey(staging_key(file), "frame_type")
        if key not in context.selected_asset_check_keys:
            continue
        problem = ""
        try:
            rows = warehouse.rows(f"staging/{file.name}", "all")
            typed_frame(file, pa.Table.from_pylist(rows, _staged_schema(file)))
        except dg.Failure as failure:
            problem = failure.description or ""
        yield dg.AssetCheckResult(
            asset_key=key.asset_key, check_name=key.name, passed=not problem, description=problem or None
        )
