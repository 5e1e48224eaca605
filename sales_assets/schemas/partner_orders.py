"""Events of partner orders: the messages that the relay publishes and the consumer stages.

HTTP schemas are in `sales_assets.services.partner_orders`; ``sql/staging/partner_order_line.sql`` derives order lines
from events.
"""

import datetime as dt
from decimal import Decimal
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, MinLen
from pydantic import AwareDatetime, BaseModel, ConfigDict

INT64 = 2**63 - 1
INT32 = 2**31 - 1

Kind = Literal["accepted", "done", "cancelled"]


class OrderLine(BaseModel):
    """A line of an order; `price` is per piece, in the shop's currency."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    line_no: Annotated[int, Ge(1)]
    their_id: str
    price: Annotated[Decimal, Gt(0), Le(Decimal("99999999.99"))]
    count: Annotated[int, Ge(1), Le(INT32)]


class OrderEvent(BaseModel):
    """A state change of an order: the partner accepted it, handed it out (done), or cancelled it.

    message_id: identifies an event, however often it is written or delivered.
    dated_at: determines the day of the event: the order's date for accepted, else when the service detected the change.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    message_id: Annotated[str, MinLen(1)]
    kind: Kind
    project_id: Annotated[int, Ge(-INT32), Le(INT32)]
    kodpost: Annotated[int, Ge(-INT32), Le(INT32)]
    order_id: Annotated[int, Ge(-INT64 - 1), Le(INT64)]
    their_order_id: str
    their_pharmacy_id: str
    phone: str
    dated_at: AwareDatetime
    lines: Annotated[tuple[OrderLine, ...], MinLen(1)]


def message_id(project_id: int, order_id: int, kind: Kind) -> str:
    """Build the identifier of an event, such as ``8-10-accepted``."""
    return f"{project_id}-{order_id}-{kind}"


def utc(moment: dt.datetime) -> dt.datetime:
    """Convert a time to UTC; without a zone it is taken as UTC. Raises ValueError beyond the years 1 to 9999."""
    if moment.tzinfo is None:
        return moment.replace(tzinfo=dt.UTC)
    try:
        return moment.astimezone(dt.UTC)
    except OverflowError:
        raise ValueError("the date is outside the calendar") from None
