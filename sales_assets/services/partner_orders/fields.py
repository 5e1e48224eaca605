"""Field types that both versions of the interface share: how malformed input is refused."""

import datetime as dt
import math
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from sales_assets.schemas.partner_orders import INT32, INT64, utc


def _no_boolean(value: object) -> object:
    # JSON's true is 1 to pydantic, and an order for true pieces is a mistake.
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


def _storable(value: str) -> str:
    # PostgreSQL's text has no NUL, and UTF-8 no half of a surrogate pair; JSON can spell both.
    if "\x00" in value:
        raise ValueError("must not contain NUL")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("must not contain half a surrogate pair") from None
    return value


def _without_exponent(value: Decimal) -> Decimal:
    # "1E+2" is a number to JSON and no price to whom it is repeated.
    return Decimal(f"{value:f}")


def _finite(value: dict[str, Any]) -> dict[str, Any]:
    # Python reads NaN, Infinity and 1e400, which no other JSON has. Elsewhere the types refuse them.
    inside: list[Any] = [value]
    while inside:
        match inside.pop():
            case dict() as members:
                inside += members.values()
            case list() as members:
                inside += members
            case float() as number if not math.isfinite(number):
                raise ValueError("must hold finite numbers")
    return value


Text = Annotated[str, AfterValidator(_storable)]
OrderId = Annotated[int, BeforeValidator(_no_boolean), Field(ge=-INT64 - 1, le=INT64)]
Count = Annotated[int, BeforeValidator(_no_boolean), Field(ge=1, le=INT32)]
Price = Annotated[
    Decimal,
    BeforeValidator(_no_boolean),
    Field(gt=0, max_digits=10, decimal_places=2),
    AfterValidator(_without_exponent),
]
OrderType = Annotated[Literal[1, 2], BeforeValidator(_no_boolean), Field(description="1 = pre-order, 2 = reservation")]
Moment = Annotated[dt.datetime, AfterValidator(utc)]
Part = Annotated[int | Text, BeforeValidator(_no_boolean)]
Extra = Annotated[dict[str, Any], AfterValidator(_finite)]
