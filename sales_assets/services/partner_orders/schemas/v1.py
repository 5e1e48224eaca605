"""Bodies and responses of version 1: the same operations with the field names of older callers."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_pascal

from sales_assets.services.partner_orders.domain.orders import PRE_ORDER, RESERVATION, Client, Item, Order
from sales_assets.services.partner_orders.schemas.fields import (
    Count,
    Extra,
    Items,
    Moment,
    OrderId,
    OrderType,
    Price,
    StatusId,
    Text,
)


def _order_type(reserve: object) -> object:
    if isinstance(reserve, bool):
        return RESERVATION if reserve else PRE_ORDER
    if isinstance(reserve, float):  # 2.0 equals 2
        raise ValueError("must be 1, 2 or a boolean")
    return reserve


Reserve = Annotated[
    OrderType,
    BeforeValidator(_order_type),
    WithJsonSchema(
        {
            "anyOf": [{"type": "boolean"}, {"type": "integer", "enum": [PRE_ORDER, RESERVATION]}],
            "description": "2 or true = reservation, 1 or false = pre-order",
        }
    ),
]


class _Body(BaseModel):
    model_config = ConfigDict(alias_generator=to_pascal)


class ClientBody(_Body):
    """The person who ordered."""

    fio: Text = Field(alias="FIO")
    phone: Text
    email: Text = Field(alias="EMail")


class ItemBody(_Body):
    """A line of an order. `TheirId`: the partner's id of the product."""

    their_id: Text
    price: Price
    count: Count


class OrderBody(_Body):
    """An order to place at the partner."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "OrderId": 10,
                    "Date": "2024-06-20T03:14:44.615Z",
                    "Client": {"FIO": "Test", "Phone": "79997772211", "EMail": "example@example.com"},
                    "TheirPharmacyId": "1086",
                    "Reserve": True,
                    "Items": [{"TheirId": "58", "Price": 10, "Count": 10}],
                    "Extra": {},
                }
            ]
        }
    )

    order_id: OrderId
    date: Moment
    client: ClientBody
    their_pharmacy_id: Text
    reserve: Reserve
    items: Items[ItemBody]
    extra: Annotated[Extra, BeforeValidator(lambda value: {} if value is None else value)]

    def order(self) -> Order:
        return Order(
            self.order_id,
            self.date,
            Client(self.client.fio, self.client.phone, self.client.email),
            self.their_pharmacy_id,
            self.reserve,
            tuple(Item(item.their_id, item.price, item.count) for item in self.items),
            None,
            self.extra,
        )


class StatusBody(_Body):
    """The order to look up. Without `TheirOrderId` the stored one is used."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"OrderId": 10, "TheirOrderId": "777"}]})

    order_id: OrderId
    their_order_id: Text | None
    their_status_id: StatusId | None = None


class CancelBody(_Body):
    """The order to cancel, by our id and the partner's."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"order_ID": 10, "their_order_ID": "777"}]})

    order_id: OrderId = Field(alias="order_ID")
    their_order_id: Text = Field(alias="their_order_ID")
    their_pharmacy_id: Text | None = None
    client_phone: Text | None = Field(None, alias="client_phone")


class CreatedItem(BaseModel):
    """A line of a created order, as requested; the price is a decimal string."""

    TheirId: str
    Price: str
    Count: int


class Created(BaseModel):
    """The partner accepted the order."""

    Result: Literal["success"]
    TheirOrderId: str
    Items: list[CreatedItem]


class NotCreated(BaseModel):
    """The partner rejected the order for a stated reason, or the attempt failed."""

    Result: Literal["order_rejected", "transient_error"]
    Message: str


class StatusFound(BaseModel):
    """The order's status, in our ids and the partner's. `TheirItems`: lines bought, where the partner lists them."""

    Result: Literal["success"]
    StatusId: int
    TheirStatusId: int
    TheirItems: list[dict[str, Any]] | None


class StatusError(BaseModel):
    """The status is unavailable."""

    Result: Literal["error"]
    Message: str


class Cancelled(BaseModel):
    """The order is cancelled, now or before."""

    Result: Literal["success"]
    Message: str


class NotCancelled(BaseModel):
    """The partner rejected the cancellation, or the attempt failed."""

    Result: Literal["order_cancel_rejected", "transient_error"]
    Message: str
