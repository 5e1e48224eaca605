"""Field types that both versions of the interface share: how malformed input is refused."""

import datetime as dt
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from sales_assets.contracts.partner_orders import INT32, INT64, utc


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


Text = Annotated[str, AfterValidator(_storable)]
OrderId = Annotated[int, BeforeValidator(_no_boolean), Field(ge=-INT64 - 1, le=INT64)]
Count = Annotated[int, BeforeValidator(_no_boolean), Field(ge=1, le=INT32)]
Price = Annotated[Decimal, BeforeValidator(_no_boolean), Field(gt=0, max_digits=10, decimal_places=2)]
OrderType = Annotated[Literal[1, 2], BeforeValidator(_no_boolean), Field(description="1 = pre-order, 2 = reservation")]
Moment = Annotated[dt.datetime, AfterValidator(utc)]
