"""Bodies and responses of version 2."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from sales_assets.services.partner_orders.domain.orders import Client, Item, Order
from sales_assets.services.partner_orders.schemas.fields import (
    Count,
    Extra,
    Items,
    Moment,
    OrderId,
    OrderType,
    Part,
    Price,
    Text,
)

_ORDER_EXAMPLE: dict[str, Any] = {
    "order_id": 10,
    "date": "2024-06-20T03:14:44.615Z",
    "client": {"name": "Test", "phone": "79997772211", "email": "example@example.com"},
    "their_pharmacy_id": "1086",
    "order_type": 2,
    "items": [{"their_id": "58", "price": 10, "count": 10}, {"their_id": "21737", "price": 10, "count": 12}],
    "comment": "",
    "extra": {},
}


class ClientBody(BaseModel):
    """The person who ordered."""

    name: Text
    phone: Text
    email: Text


class ItemBody(BaseModel):
    """A line of an order. `their_id`: the partner's id of the product; `part`: of its batch."""

    their_id: Text
    price: Price
    count: Count
    part: Part | None = None


class OrderBody(BaseModel):
    """An order to place at the partner."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ORDER_EXAMPLE]})

    order_id: OrderId
    date: Moment
    client: ClientBody
    their_pharmacy_id: Text
    order_type: OrderType
    items: Items[ItemBody]
    comment: Text | None
    extra: Extra

    def order(self) -> Order:
        return Order(
            self.order_id,
            self.date,
            Client(self.client.name, self.client.phone, self.client.email),
            self.their_pharmacy_id,
            self.order_type,
            tuple(Item(item.their_id, item.price, item.count, item.part) for item in self.items),
            self.comment,
            self.extra,
        )


class CancelBody(BaseModel):
    """The order to cancel, by our id and the partner's."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"order_id": 1, "their_order_id": "1"}]})

    order_id: OrderId
    their_order_id: Text


class CreatedItem(BaseModel):
    """A line of a created order, as requested; the price is a decimal string."""

    their_id: str
    price: str
    count: int
    part: int | str | None


class Created(BaseModel):
    """The partner accepted the order."""

    result: Literal["success"]
    their_order_id: str
    items: list[CreatedItem]


class QuantityErrorItem(BaseModel):
    """A product with less available than ordered; null: the partner gives no number."""

    their_id: str
    ordered: int
    available: int | None


class PriceErrorItem(BaseModel):
    """A product whose price differs from the ordered one; prices are decimal strings."""

    their_id: str
    ordered: str
    available: str


class QuantityErrors(BaseModel):
    """Lines rejected for their quantity."""

    items: list[QuantityErrorItem]


class PriceErrors(BaseModel):
    """Lines rejected for their price."""

    items: list[PriceErrorItem]


class CreateErrorData(BaseModel):
    """Reasons why an order was not created; those that do not apply are null."""

    partner_error: Literal[True] | None
    service_error: Literal[True] | None
    quantity_errors: QuantityErrors | None
    price_errors: PriceErrors | None


class CreateError(BaseModel):
    """The order was not created."""

    result: Literal["error"]
    data: CreateErrorData


class BoughtItemBody(BaseModel):
    """A line of an order and the quantity that was bought."""

    their_item_id: str
    bought_count: int


class StatusFound(BaseModel):
    """The order's status, in our ids and the partner's. `their_items`: lines bought, where the partner lists them."""

    result: Literal["success"]
    status_id: Annotated[
        int, Field(description="created 0, accepted and delivery 1, done 2, cancelled 3, in_shop 4, unknown -1")
    ]
    their_status_id: int
    their_items: list[BoughtItemBody] | None


class StatusError(BaseModel):
    """The status is unavailable."""

    result: Literal["error"]
    message: str


class Cancelled(BaseModel):
    """The order is cancelled, now or before."""

    result: Literal["success"]


class NotCancelled(BaseModel):
    """The partner rejected the cancellation, or the attempt failed."""

    result: Literal["order_cancel_rejected", "transient_error"]
    message: str
