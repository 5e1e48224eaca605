"""Columns of the lake's tables: names, types and descriptions. The statements that fill them are in ``sql/lake``."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["integer", "bigint", "text", "date", "timestamp", "numeric(10,2)"]

# Every file of lake.f_sales holds rows of one day.
PARTITION_COLUMN = "day"


@dataclass(frozen=True)
class LakeColumn:
    """A column with its type as in DDL. Required columns have a value in every row."""

    name: str
    kind: Kind
    description: str
    required: bool = False


_NAME_AS_OF = LakeColumn("name_as_of", "timestamp", "Date and time of the line that the name was taken from")

F_SALES = (
    LakeColumn("date_id", "integer", "Calendar day of the event, YYYYMMDD (lake.d_calendar)", required=True),
    LakeColumn(PARTITION_COLUMN, "date", "Calendar day of the event; the table is partitioned by it", required=True),
    LakeColumn(
        "sale_id", "bigint", "Id of the row of mart.f_sales; a line keeps it when its day is loaded again", True
    ),
    LakeColumn("uniq_id", "text", "Key of the line in its source; empty for legacy rows"),
    LakeColumn("item_id", "integer", "Item sold (lake.d_item)", required=True),
    LakeColumn("customer_id", "integer", "Customer (lake.d_customer)", required=True),
    LakeColumn("city_id", "integer", "City of the sale (lake.d_city)", required=True),
    LakeColumn("quantity", "numeric(10,2)", "Pieces; negative for refunded lines"),
    LakeColumn("amount", "numeric(10,2)", "Total of the line; negative for refunded lines"),
    LakeColumn("status", "text", "shipped or refunded", required=True),
    LakeColumn("source", "text", "Writer of the row: report_api, partner_orders or legacy", required=True),
)

DIMENSIONS = {
    "d_calendar": (
        LakeColumn("date_id", "integer", "The day as YYYYMMDD", required=True),
        LakeColumn("date_actual", "date", "The day"),
        LakeColumn("year_num", "integer", "Year"),
        LakeColumn("quarter_num", "integer", "Quarter, 1 to 4"),
        LakeColumn("month_num", "integer", "Month, 1 to 12"),
        LakeColumn("month_name", "text", "Month in English"),
        LakeColumn("day_num", "integer", "Day of the month"),
        LakeColumn("day_of_week", "integer", "ISO day of the week: Monday is 1"),
        LakeColumn("iso_year", "integer", "Year that the ISO week belongs to"),
        LakeColumn("iso_week", "integer", "ISO week, 1 to 53"),
    ),
    "d_city": (
        LakeColumn("city_id", "integer", "City", required=True),
        LakeColumn("city_name", "text", "Latest name of the city"),
        _NAME_AS_OF,
    ),
    "d_customer": (
        LakeColumn("customer_id", "integer", "Customer", required=True),
        LakeColumn("first_name", "text", "Latest first name"),
        LakeColumn("last_name", "text", "Latest last name"),
        _NAME_AS_OF,
    ),
    "d_item": (
        LakeColumn("item_id", "integer", "Item", required=True),
        LakeColumn("item_name", "text", "Latest name of the item"),
        _NAME_AS_OF,
    ),
}

# {table: columns}, in the namespace `lake` of the catalog
LAKE_TABLES = {"f_sales": F_SALES, **DIMENSIONS}
