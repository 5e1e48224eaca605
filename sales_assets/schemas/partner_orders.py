"""What a partner order leaves behind: the events that travel from the service to staging.

Belongs here: the message as the relay writes it and the consumer reads it, and the names of its kinds.
Does not belong here: the HTTP shapes of the service or of the partner (`sales_assets.services.partner_orders`), or
how events become lines of the mart (``sql/staging/partner_order_line.sql``).
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
    """A line of an order; `price` is that of a piece, in the shop's currency."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    line_no: Annotated[int, Ge(1)]
    their_id: str
    price: Annotated[Decimal, Gt(0), Le(Decimal("99999999.99"))]
    count: Annotated[int, Ge(1), Le(INT32)]


class OrderEvent(BaseModel):
    """Something that happened to an order: the partner accepted it, handed it out (done), or cancelled it.

    `message_id` names project, order and kind: an event is one however often it is written or delivered.
    `dated_at` is the moment that decides its day: the order's own date for accepted, else when it was learnt.
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
    """Make the unique name of an event, such as ``8-10-accepted``."""
    return f"{project_id}-{order_id}-{kind}"


def utc(moment: dt.datetime) -> dt.datetime:
    """Convert a moment to UTC; one without a zone is UTC already. Raises ValueError beyond the calendar's ends."""
    if moment.tzinfo is None:
        return moment.replace(tzinfo=dt.UTC)
    try:
        return moment.astimezone(dt.UTC)
    except OverflowError:
        raise ValueError("the date lies outside the calendar") from None
