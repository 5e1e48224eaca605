"""Version 1 of the HTTP interface: the same three operations, at the root, in the words of older callers.

Belongs here: shapes, examples and status codes of version 1. Does not belong here: what the operations do
(``service``).
"""

from typing import Annotated, Any, Literal

from fastapi import Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from structlog.contextvars import bind_contextvars

from sales_assets.services.http.application import BODY_RESPONSES, BothSlashes
from sales_assets.services.partner_orders.domain.orders import (
    PRE_ORDER,
    RESERVATION,
    Accepted,
    Client,
    Item,
    Order,
    Refused,
)
from sales_assets.services.partner_orders.errors import (
    CancelFailed,
    CancelRejected,
    OtherBody,
    ServiceError,
    StatusUnavailable,
)
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
from sales_assets.services.partner_orders.service import OrderService

_ORDER_EXAMPLE: dict[str, Any] = {
    "OrderId": 10,
    "Date": "2024-06-20T03:14:44.615Z",
    "Client": {"FIO": "Test", "Phone": "79997772211", "EMail": "example@example.com"},
    "TheirPharmacyId": "1086",
    "Reserve": True,
    "Items": [{"TheirId": "58", "Price": 10, "Count": 10}],
    "Extra": {},
}


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


class ClientBody(BaseModel):
    fio: Annotated[Text, Field(alias="FIO")]
    phone: Annotated[Text, Field(alias="Phone")]
    email: Annotated[Text, Field(alias="EMail")]


class ItemBody(BaseModel):
    their_id: Annotated[Text, Field(alias="TheirId")]
    price: Annotated[Price, Field(alias="Price")]
    count: Annotated[Count, Field(alias="Count")]


class OrderBody(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [_ORDER_EXAMPLE]})

    order_id: Annotated[OrderId, Field(alias="OrderId")]
    date: Annotated[Moment, Field(alias="Date")]
    client: Annotated[ClientBody, Field(alias="Client")]
    their_pharmacy_id: Annotated[Text, Field(alias="TheirPharmacyId")]
    reserve: Annotated[Reserve, Field(alias="Reserve")]
    items: Annotated[Items[ItemBody], Field(alias="Items")]
    extra: Annotated[Extra, BeforeValidator(lambda value: {} if value is None else value), Field(alias="Extra")]

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


class StatusBody(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"OrderId": 10, "TheirOrderId": "777"}]})

    order_id: Annotated[OrderId, Field(alias="OrderId")]
    their_order_id: Annotated[Text | None, Field(alias="TheirOrderId")]
    their_status_id: Annotated[StatusId | None, Field(alias="TheirStatusId")] = None


class CancelBody(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"order_ID": 10, "their_order_ID": "777"}]})

    order_id: Annotated[OrderId, Field(alias="order_ID")]
    their_order_id: Annotated[Text, Field(alias="their_order_ID")]
    their_pharmacy_id: Annotated[Text | None, Field(alias="TheirPharmacyId")] = None
    client_phone: Text | None = None


class CreatedItem(BaseModel):
    TheirId: str
    Price: str
    Count: int


class Created(BaseModel):
    Result: Literal["success"]
    TheirOrderId: str
    Items: list[CreatedItem]


class NotCreated(BaseModel):
    Result: Literal["order_rejected", "transient_error"]
    Message: str


class StatusFound(BaseModel):
    Result: Literal["success"]
    StatusId: int
    TheirStatusId: int
    TheirItems: list[dict[str, Any]] | None


class StatusError(BaseModel):
    Result: Literal["error"]
    Message: str


class Cancelled(BaseModel):
    Result: Literal["success"]
    Message: str


class NotCancelled(BaseModel):
    Result: Literal["order_cancel_rejected", "transient_error"]
    Message: str


_CREATE_RESPONSES: dict[int | str, dict[str, Any]] = {
    **BODY_RESPONSES,
    200: {"model": Created | NotCreated},
    409: {"model": NotCreated, "description": "The OrderId belongs to an order with another body."},
    503: {"model": NotCreated, "description": "Our own fault: the database is away, or no partner is configured."},
}
_STATUS_RESPONSES: dict[int | str, dict[str, Any]] = {
    **BODY_RESPONSES,
    200: {"model": StatusFound | StatusError},
    503: {"model": StatusError, "description": "Our own fault."},
}
_CANCEL_RESPONSES: dict[int | str, dict[str, Any]] = {
    **BODY_RESPONSES,
    200: {"model": Cancelled | NotCancelled},
    503: {"model": NotCancelled, "description": "Our own fault."},
}


def router(service: OrderService) -> BothSlashes:
    """The routes of version 1 over the operations."""
    routes = BothSlashes(tags=["orders, version 1"])

    @routes.post("/SendOrder", responses=_CREATE_RESPONSES, response_class=JSONResponse)
    async def send_order(body: OrderBody) -> Response:
        """Place an order at the partner."""
        bind_contextvars(order_id=body.order_id)
        try:
            outcome = await service.create(body.order())
        except OtherBody as error:
            return JSONResponse({"Result": "order_rejected", "Message": str(error)}, status_code=409)
        except ServiceError as error:
            return JSONResponse({"Result": "transient_error", "Message": str(error)}, status_code=503)
        return JSONResponse(_told(outcome))

    @routes.post("/GetOrderStatus", responses=_STATUS_RESPONSES, response_class=JSONResponse)
    async def get_order_status(body: StatusBody) -> Response:
        """Where an order stands, as the partner says now."""
        bind_contextvars(order_id=body.order_id)
        try:
            status = await service.status(body.order_id, body.their_order_id)
        except StatusUnavailable as error:
            return JSONResponse({"Result": "error", "Message": str(error)})
        except ServiceError as error:
            return JSONResponse({"Result": "error", "Message": str(error)}, status_code=503)
        items = status.their_items
        return JSONResponse(
            {
                "Result": "success",
                "StatusId": status.status_id,
                "TheirStatusId": status.their_status_id,
                "TheirItems": None
                if items is None
                else [{"TheirItemId": item.their_item_id, "BoughtCount": item.bought_count} for item in items],
            }
        )

    @routes.post("/cancel_order", responses=_CANCEL_RESPONSES, response_class=JSONResponse)
    async def cancel_order(body: CancelBody) -> Response:
        """Cancel an order at the partner. A second time changes nothing."""
        bind_contextvars(order_id=body.order_id)
        try:
            await service.cancel(body.order_id, body.their_order_id)
        except CancelRejected as error:
            return JSONResponse({"Result": "order_cancel_rejected", "Message": str(error)})
        except CancelFailed as error:
            return JSONResponse({"Result": "transient_error", "Message": str(error)})
        except ServiceError as error:
            return JSONResponse({"Result": "transient_error", "Message": str(error)}, status_code=503)
        return JSONResponse({"Result": "success", "Message": ""})

    return routes


def _told(outcome: Accepted | Refused) -> dict[str, Any]:
    if isinstance(outcome, Accepted):
        items = [{"TheirId": item.their_id, "Price": str(item.price), "Count": item.count} for item in outcome.items]
        return {"Result": "success", "TheirOrderId": outcome.their_order_id, "Items": items}
    return {"Result": "order_rejected" if outcome.in_words else "transient_error", "Message": outcome.message}
