"""Field types shared by both versions of the order endpoints: validation and errors of malformed input."""

import datetime as dt
import json
import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError, PydanticKnownError

from sales_assets.schemas.partner_orders import INT32, INT64, utc
from sales_assets.services.http.numbers import Integer, IntegerSpelling, PositiveDecimal, parse_integer

MAX_TEXT = 256
MAX_ITEMS = 1000

T = TypeVar("T")

# pydantic also reads numbers, and texts of digits, as seconds since 1970.
_ISO_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def _storable(value: str) -> str:
    # PostgreSQL's text has no NUL, and UTF-8 has no lone surrogates; JSON can spell both.
    if "\x00" in value:
        raise ValueError("must not contain NUL")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("must not contain half a surrogate pair") from None
    return value


def _finite(value: dict[str, Any]) -> dict[str, Any]:
    # Python reads NaN, Infinity and 1e400, which no other JSON has. Elsewhere the types refuse them.
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        raise ValueError("must hold finite numbers") from None
    return value


def _iso_date(value: object) -> object:
    if isinstance(value, str) and _ISO_DATE.match(value):
        return value
    raise PydanticCustomError("datetime_parsing", "Input should be a date and time in ISO 8601")


def _integer_or_text(value: object) -> object:
    if isinstance(value, str):
        return value
    try:
        return parse_integer(value)
    except ValueError:
        raise PydanticCustomError("int_parsing", "Input should be a JSON integer or a string") from None


def _few_items(value: object) -> object:
    # Before the items are validated: one error instead of one per item.
    if isinstance(value, list) and len(value) > MAX_ITEMS:
        raise PydanticKnownError(
            "too_long", {"field_type": "List", "max_length": MAX_ITEMS, "actual_length": len(value)}
        )
    return value


Text = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(_storable)]
OrderId = Annotated[Integer, Field(ge=-INT64 - 1, le=INT64)]
StatusId = Annotated[Integer, Field(ge=-INT64 - 1, le=INT64)]
Count = Annotated[Integer, Field(ge=1, le=INT32)]
Price = Annotated[PositiveDecimal, Field(gt=0, max_digits=10, decimal_places=2)]
OrderType = Annotated[Literal[1, 2], IntegerSpelling, Field(description="1 = pre-order, 2 = reservation")]
Moment = Annotated[dt.datetime, BeforeValidator(_iso_date), AfterValidator(utc)]
Part = Annotated[Annotated[int, Field(ge=-INT64 - 1, le=INT64)] | Text, BeforeValidator(_integer_or_text)]
Extra = Annotated[dict[str, Any], AfterValidator(_finite)]
Items = Annotated[list[T], BeforeValidator(_few_items), Field(min_length=1, max_length=MAX_ITEMS)]
