"""The report API's four files: names, spellings, columns.

The only description of their columns: the parser, the DDL check and the assets' column schemas use it. Files are read
by `pipeline.csv_reader`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, unique
from typing import Final

import pyarrow as pa


@unique
class Kind(Enum):
    """Kind of a column's values, which determines its SQL and Arrow types."""

    LINE_NO = "line number"
    DAY = "calendar date as YYYYMMDD"
    INTEGER = "integer"
    AMOUNT = "amount or quantity, not negative"
    TEXT = "text"
    DATE_TIME = "date and time as delivered"
    STATUS = "shipped or refunded"

    @property
    def sql_type(self) -> str:
        return _TYPES[self][0]

    @property
    def arrow_type(self) -> pa.DataType:
        return _TYPES[self][1]


_TYPES: Final = {
    Kind.LINE_NO: ("bigint", pa.int64()),
    Kind.DAY: ("integer", pa.int32()),
    Kind.INTEGER: ("integer", pa.int32()),
    Kind.AMOUNT: ("numeric(10,2)", pa.decimal128(10, 2)),
    Kind.TEXT: ("text", pa.string()),
    Kind.DATE_TIME: ("text", pa.string()),
    Kind.STATUS: ("text", pa.string()),
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a parsed file.

    name: name in batches and in SQL.
    header: name in the file's header; None for a column that the reader adds.
    optional: whether a header may lack it. A missing status is read as shipped, any other missing column as null.
    blank: whether its cells may be empty.
    is_name: whether it names the city, customer or item; names are staged once, in staging.name, not with each row.
    """

    name: str
    kind: Kind
    description: str
    header: str | None
    optional: bool = False
    blank: bool = False
    is_name: bool = False


@dataclass(frozen=True, slots=True)
class ReportFile:
    """Schema of one of the four files.

    columns: columns of a parsed batch, in order.
    key: columns that identify a row.
    personal: columns with names of the customer.
    """

    name: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    personal: tuple[str, ...] = ()
    has_header: bool = True
    # Known columns that are ignored: `id` counts from 1 in every file.
    ignored: tuple[str, ...] = ()

    @property
    def is_dated(self) -> bool:
        """Whether rows have a day; rows of a price list have none."""
        return any(column.kind is Kind.DAY for column in self.columns)

    @property
    def delivered(self) -> tuple[Column, ...]:
        """The columns of the file itself."""
        return tuple(column for column in self.columns if column.header is not None)

    @property
    def staged(self) -> tuple[Column, ...]:
        """The columns of the staging table."""
        return tuple(column for column in self.columns if not column.is_name)

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of a batch of valid rows. Only optional columns other than status can be null."""
        return pa.schema(
            [
                pa.field(
                    column.name,
                    column.kind.arrow_type,
                    nullable=column.optional and column.kind is not Kind.STATUS,
                )
                for column in self.columns
            ]
        )

    @property
    def expected_header(self) -> str:
        """The header as the API documents it, optional columns in brackets."""
        names = [f"[{c.header}]" if c.optional else str(c.header) for c in self.delivered]
        return ",".join([*self.ignored, *names])


def _column(
    name: str,
    kind: Kind,
    description: str,
    *,
    header: str | None = None,
    optional: bool = False,
    blank: bool = False,
    is_name: bool = False,
) -> Column:
    return Column(name, kind, description, header or name, optional, blank, is_name)


_LINE_NO = Column("line_no", Kind.LINE_NO, "Line of the raw file, counted from 1; the header is line 1", None)
_DAY = Column("date_id", Kind.DAY, "Calendar date as YYYYMMDD, as delivered and never converted", None)
_DATE_TIME = _column("date_time", Kind.DATE_TIME, "Date and time as delivered")

USER_ORDERS_LOG: Final = ReportFile(
    "user_orders_log",
    "Order lines: sales and refunds",
    (
        _LINE_NO,
        _DAY,
        _column("uniq_id", Kind.TEXT, "Identity of the event; null in very old files", optional=True),
        _DATE_TIME,
        _column("city_id", Kind.INTEGER, "City of the sale"),
        _column("city_name", Kind.TEXT, "Name of the city", blank=True, is_name=True),
        _column("customer_id", Kind.INTEGER, "Customer"),
        _column("first_name", Kind.TEXT, "Customer's first name", blank=True, is_name=True),
        _column("last_name", Kind.TEXT, "Customer's last name", blank=True, is_name=True),
        _column("item_id", Kind.INTEGER, "Item sold"),
        _column("item_name", Kind.TEXT, "Name of the item", blank=True, is_name=True),
        _column("quantity", Kind.AMOUNT, "Pieces; not negative, for refunds too"),
        _column("payment_amount", Kind.AMOUNT, "The line's total; not negative, for refunds too"),
        _column("status", Kind.STATUS, "shipped or refunded; shipped if not given", optional=True, blank=True),
    ),
    key=("date_id", "uniq_id", "status"),
    personal=("first_name", "last_name"),
    ignored=("id",),
)

CUSTOM_RESEARCH: Final = ReportFile(
    "custom_research",
    "Sales per date, category and region",
    (
        _LINE_NO,
        _DAY,
        # In the file, date_id is a timestamp; everywhere else it is the YYYYMMDD number.
        _column("date_time", Kind.DATE_TIME, "Date and time as delivered", header="date_id"),
        _column("category_id", Kind.INTEGER, "Category"),
        _column("geo_id", Kind.INTEGER, "Region"),
        _column("sales_qty", Kind.AMOUNT, "Pieces sold"),
        _column("sales_amt", Kind.AMOUNT, "Amount sold"),
    ),
    key=("date_id", "category_id", "geo_id"),
)

USER_ACTIVITY_LOG: Final = ReportFile(
    "user_activity_log",
    "Actions of customers in the shop",
    (
        _LINE_NO,
        _DAY,
        _column("uniq_id", Kind.TEXT, "Identity of the event"),
        _DATE_TIME,
        _column("action_id", Kind.INTEGER, "Kind of action"),
        _column("customer_id", Kind.INTEGER, "Customer"),
        _column("quantity", Kind.AMOUNT, "Number of actions; 0 is legal"),
    ),
    key=("date_id", "uniq_id"),
    ignored=("id",),
)

PRICE_LOG: Final = ReportFile(
    "price_log",
    "Price list: one line per item, no date",
    (
        _LINE_NO,
        _column("item_name", Kind.TEXT, "Name of the item"),
        _column("price", Kind.AMOUNT, "Price of one piece"),
    ),
    key=("item_name",),
    has_header=False,
)

REPORT_FILES: Final = {file.name: file for file in (USER_ORDERS_LOG, CUSTOM_RESEARCH, USER_ACTIVITY_LOG, PRICE_LOG)}

_PRICE: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?")


def file_with_header(names: Sequence[str]) -> ReportFile | None:
    """Find the file whose header has these columns, in any order and with further columns; None if there is none.

    Two cells, of which the second is a price, are a row of the price list, which has no header.
    """
    found = {name.strip().lower() for name in names}
    for file in REPORT_FILES.values():
        if {column.header for column in file.delivered if not column.optional} <= found:
            return file
    is_price = len(names) == 2 and _PRICE.fullmatch(names[1].strip())
    return PRICE_LOG if is_price else None


# Names in the API's responses that differ from those in its documentation.
_OTHER_SPELLINGS: Final = {"user_order_log": "user_orders_log", "customer_research": "custom_research"}

_INCREMENT: Final = "_inc"


def canonical_name(key: str) -> tuple[str, bool] | None:
    """Resolve a key of `s3_path` (or a file's name without `.csv`) to a file.

    Returns (name in REPORT_FILES, whether it is the file of an increment), or None for an unknown key.
    """
    stem = key.removesuffix(_INCREMENT)
    name = _OTHER_SPELLINGS.get(stem, stem)
    return (name, stem != key) if name in REPORT_FILES else None
