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
    name: Text
    phone: Text
    email: Text


class ItemBody(BaseModel):
    their_id: Text
    price: Price
    count: Count
    part: Part | None = None


class OrderBody(BaseModel):
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
    model_config = ConfigDict(json_schema_extra={"examples": [{"order_id": 1, "their_order_id": "1"}]})

    order_id: OrderId
    their_order_id: Text


class CreatedItem(BaseModel):
    their_id: str
    price: str
    count: int
    part: int | str | None


class Created(BaseModel):
    result: Literal["success"]
    their_order_id: str
    items: list[CreatedItem]


class QuantityErrorItem(BaseModel):
    their_id: str
    ordered: int
    available: int | None


class PriceErrorItem(BaseModel):
    their_id: str
    ordered: str
    available: str


class QuantityErrors(BaseModel):
    items: list[QuantityErrorItem]


class PriceErrors(BaseModel):
    items: list[PriceErrorItem]


class CreateErrorData(BaseModel):
    partner_error: Literal[True] | None
    service_error: Literal[True] | None
    quantity_errors: QuantityErrors | None
    price_errors: PriceErrors | None


class CreateError(BaseModel):
    result: Literal["error"]
    data: CreateErrorData


class BoughtItemBody(BaseModel):
    their_item_id: str
    bought_count: int


class StatusFound(BaseModel):
    result: Literal["success"]
    status_id: Annotated[
        int, Field(description="created 0, accepted and delivery 1, done 2, cancelled 3, in_shop 4, unknown -1")
    ]
    their_status_id: int
    their_items: list[BoughtItemBody] | None


class StatusError(BaseModel):
    result: Literal["error"]
    message: str


class Cancelled(BaseModel):
    result: Literal["success"]


class NotCancelled(BaseModel):
    result: Literal["order_cancel_rejected", "transient_error"]
    message: str
