"""The report API's four files: names, spellings, columns.

Belongs here: what a file of the report API looks like. The parser, the DDL check and the assets' column
schemas all read it from here, so that a column is described once.
Does not belong here: how a file is read (`pipeline.csv_reader`), where it is stored, which of its lines count.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, unique
from typing import Final

import pyarrow as pa


@unique
class Kind(Enum):
    """What a column holds, and with it its SQL type and its arrow type."""

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
    """One column of a read file.

    name: what the column is called once it is read, in batches and in SQL.
    header: what the file's header calls it; None for a column that the reader adds.
    optional: a header may lack it. A missing status reads as shipped, any other missing column as null.
    blank: its cells may be empty.
    is_name: a name of the city, customer or item; it is not staged with each line, but once in staging.name.
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
    """One of the four files. `columns` are those of a batch of read lines, in order; `key` makes a line unique."""

    name: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    has_header: bool = True
    # Known columns that are read over: the file's `id` runs from 1 to n and restarts in the next file.
    ignored: tuple[str, ...] = ()

    @property
    def is_dated(self) -> bool:
        """Whether a line says which day it is about; a price list does not."""
        return any(column.kind is Kind.DAY for column in self.columns)

    @property
    def delivered(self) -> tuple[Column, ...]:
        """The columns that stand in the file itself."""
        return tuple(column for column in self.columns if column.header is not None)

    @property
    def staged(self) -> tuple[Column, ...]:
        """The columns of the staging table."""
        return tuple(column for column in self.columns if not column.is_name)

    @property
    def schema(self) -> pa.Schema:
        """The arrow schema of a batch of good lines. Only optional columns other than status can be null."""
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
        """The header as the service documents it, optional columns in brackets."""
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
    ignored=("id",),
)

CUSTOM_RESEARCH: Final = ReportFile(
    "custom_research",
    "Sales per date, category and region",
    (
        _LINE_NO,
        _DAY,
        # The file calls its timestamp date_id, which everywhere else is the YYYYMMDD number.
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
    """Find the file whose header a first line is, in any order and with further columns; None if no file's.

    A price list has no header: its first line is one of a name and a price.
    """
    found = {name.strip().lower() for name in names}
    for file in REPORT_FILES.values():
        if {column.header for column in file.delivered if not column.optional} <= found:
            return file
    is_price = len(names) == 2 and _PRICE.fullmatch(names[1].strip())
    return PRICE_LOG if is_price else None


# The documentation says user_orders_log and custom_research; the service was seen to deliver these.
_OTHER_SPELLINGS: Final = {"user_order_log": "user_orders_log", "customer_research": "custom_research"}

_INCREMENT: Final = "_inc"


def canonical_name(key: str) -> tuple[str, bool] | None:
    """Find the file that a key of `s3_path` (or a file's name without `.csv`) stands for.

    Returns (name in REPORT_FILES, whether it is the file of an increment), or None for an unknown key.
    """
    stem = key.removesuffix(_INCREMENT)
    name = _OTHER_SPELLINGS.get(stem, stem)
    return (name, stem != key) if name in REPORT_FILES else None
