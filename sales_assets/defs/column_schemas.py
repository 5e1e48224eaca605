"""Column schemas as the UI shows them, from the one description of the files.

Does not belong here: the descriptions themselves (`sales_assets.schemas.report_files`).
"""

import dagster as dg

from sales_assets.schemas.report_files import Column, ReportFile

_NOT_NULL = dg.TableColumnConstraints(nullable=False)


def delivered_columns(file: ReportFile) -> dg.TableSchema:
    """The columns of a raw file, as text: nothing is interpreted yet."""
    return dg.TableSchema(
        columns=[dg.TableColumn(column.header or column.name, "text", column.description) for column in file.delivered]
    )


def staged_columns(file: ReportFile, *more: dg.TableColumn) -> dg.TableSchema:
    """The columns of a staging table: typed, with where each line came from."""
    day = [] if file.is_dated else [_DAY]
    return dg.TableSchema(columns=[*(_typed(column) for column in file.staged), *day, _FETCH, *more])


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
SALE_ID = dg.TableColumn("sale_id", "bigint", "Id of the row of mart.f_sales made from the line")
