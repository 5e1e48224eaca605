"""Field types that both versions of the interface share: how malformed input is refused."""

import datetime as dt
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from sales_assets.contracts.partner_orders import INT32, INT64, utc


def _no_boolean(value: object) -> object:
    # JSON's true is 1 to pydantic, and an order for true pieces is a mistake.
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


def _storable(value: str) -> str:
    # PostgreSQL's text has no NUL.
    if "\x00" in value:
        raise ValueError("must not contain NUL")
    return value


Text = Annotated[str, AfterValidator(_storable)]
OrderId = Annotated[int, BeforeValidator(_no_boolean), Field(ge=-INT64 - 1, le=INT64)]
Count = Annotated[int, BeforeValidator(_no_boolean), Field(ge=1, le=INT32)]
Price = Annotated[Decimal, BeforeValidator(_no_boolean), Field(gt=0, max_digits=10, decimal_places=2)]
Moment = Annotated[dt.datetime, AfterValidator(utc)]
