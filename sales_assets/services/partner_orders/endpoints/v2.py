"""Version 2 of the HTTP interface: business outcomes are HTTP 200, 422 is for malformed input only.

Belongs here: shapes, examples and status codes of version 2. Does not belong here: what the operations do
(``service``).
"""

from typing import Annotated, Any, Literal

from fastapi import Body, Path, Query, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from structlog.contextvars import bind_contextvars

from sales_assets.services.http.application import BODY_RESPONSES, BothSlashes
from sales_assets.services.partner_orders.domain.orders import (
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
    Part,
    Price,
    Text,
)
from sales_assets.services.partner_orders.service import OrderService

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
_CREATED_EXAMPLE = {
    "result": "success",
    "their_order_id": "777",
    "items": [
        {"their_id": "58", "price": "10", "count": 10, "part": None},
        {"their_id": "21737", "price": "10", "count": 12, "part": None},
    ],
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


def _examples(**values: Any) -> dict[str, Any]:
    return {"content": {"application/json": {"examples": {name: {"value": value} for name, value in values.items()}}}}


def _create_error(
    *,
    partner_error: bool = False,
    service_error: bool = False,
    quantity_errors: list[dict[str, Any]] | None = None,
    price_errors: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    return {
        "result": "error",
        "data": {
            "partner_error": True if partner_error else None,
            "service_error": True if service_error else None,
            "quantity_errors": {"items": quantity_errors} if quantity_errors else None,
            "price_errors": {"items": price_errors} if price_errors else None,
        },
    }


_CREATE_RESPONSES: dict[int | str, dict[str, Any]] = {
    **BODY_RESPONSES,
    200: {
        "model": Created | CreateError,
        **_examples(
            success=_CREATED_EXAMPLE,
            partner_error=_create_error(partner_error=True),
            quantity=_create_error(quantity_errors=[{"their_id": "21737", "ordered": 12, "available": 0}]),
            price=_create_error(price_errors=[{"their_id": "21737", "ordered": "10", "available": "641.52"}]),
        ),
    },
    409: {
        "model": CreateError,
        "description": "The order_id belongs to an order with another body, which stays as it is.",
        **_examples(other_body=_create_error(service_error=True)),
    },
    503: {
        "model": CreateError,
        "description": "Our own fault: the database is away, or no partner is configured.",
        **_examples(service_error=_create_error(service_error=True)),
    },
}
_STATUS_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": StatusFound | StatusError,
        **_examples(
            success={"result": "success", "status_id": 3, "their_status_id": 2, "their_items": None},
            error={"result": "error", "message": "order not found"},
        ),
    },
    503: {"model": StatusError, "description": "Our own fault."},
}
_CANCEL_RESPONSES: dict[int | str, dict[str, Any]] = {
    **BODY_RESPONSES,
    200: {
        "model": Cancelled | NotCancelled,
        **_examples(
            success={"result": "success"},
            rejected={"result": "order_cancel_rejected", "message": "['cancellation not allowed']"},
            transient={"result": "transient_error", "message": "HTTP response error"},
        ),
    },
    503: {"model": NotCancelled, "description": "Our own fault."},
}


def router(service: OrderService) -> BothSlashes:
    """The routes of version 2 over the operations."""
    routes = BothSlashes(prefix="/v2/orders", tags=["orders, version 2"])

    @routes.post("/", responses=_CREATE_RESPONSES, response_class=JSONResponse)
    async def create_order(body: OrderBody) -> Response:
        """Place an order at the partner. The same order_id with the same body gives the stored answer."""
        bind_contextvars(order_id=body.order_id)
        try:
            outcome = await service.create(body.order())
        except OtherBody:
            return JSONResponse(_create_error(service_error=True), status_code=409)
        except ServiceError:
            return JSONResponse(_create_error(service_error=True), status_code=503)
        return JSONResponse(_told(outcome))

    @routes.get("/{order_id}", responses=_STATUS_RESPONSES, response_class=JSONResponse)
    async def order_status(
        order_id: Annotated[OrderId, Path(description="Our id of the order")],
        their_order_id: Annotated[Text | None, Query(description="The partner's id; else the stored one")] = None,
    ) -> Response:
        """Where an order stands, as the partner says now."""
        return await _status(service, order_id, their_order_id)

    @routes.get("/", responses=_STATUS_RESPONSES, response_class=JSONResponse)
    async def order_status_by_query(
        order_id: Annotated[OrderId, Query(description="Our id of the order")],
        their_order_id: Annotated[Text | None, Query(description="The partner's id; else the stored one")] = None,
    ) -> Response:
        """The same, with both ids as parameters."""
        return await _status(service, order_id, their_order_id)

    @routes.delete("/", responses=_CANCEL_RESPONSES, response_class=JSONResponse)
    async def cancel_order(
        body: Annotated[CancelBody | None, Body()] = None,
        order_id: Annotated[OrderId | None, Query(description="Where there is no body")] = None,
        their_order_id: Annotated[Text | None, Query(description="Where there is no body")] = None,
    ) -> Response:
        """Cancel an order at the partner. A second time changes nothing."""
        if body is not None:
            order_id, their_order_id = body.order_id, body.their_order_id
        if order_id is None or their_order_id is None:
            raise RequestValidationError(
                [{"type": "missing", "loc": ("body",), "msg": "Field required", "input": None}]
            )
        bind_contextvars(order_id=order_id)
        try:
            await service.cancel(order_id, their_order_id)
        except CancelRejected as error:
            return JSONResponse({"result": "order_cancel_rejected", "message": str(error)})
        except CancelFailed as error:
            return JSONResponse({"result": "transient_error", "message": str(error)})
        except ServiceError as error:
            return JSONResponse({"result": "transient_error", "message": str(error)}, status_code=503)
        return JSONResponse({"result": "success"})

    return routes


def _told(outcome: Accepted | Refused) -> dict[str, Any]:
    if isinstance(outcome, Accepted):
        items = [
            {"their_id": item.their_id, "price": str(item.price), "count": item.count, "part": item.part}
            for item in outcome.items
        ]
        return {"result": "success", "their_order_id": outcome.their_order_id, "items": items}
    return _create_error(
        partner_error=outcome.partner_error,
        quantity_errors=[error._asdict() for error in outcome.quantity_errors],
        price_errors=[error._asdict() for error in outcome.price_errors],
    )


async def _status(service: OrderService, order_id: int, their_order_id: str | None) -> Response:
    bind_contextvars(order_id=order_id)
    try:
        status = await service.status(order_id, their_order_id)
    except StatusUnavailable as error:
        return JSONResponse({"result": "error", "message": str(error)})
    except ServiceError as error:
        return JSONResponse({"result": "error", "message": str(error)}, status_code=503)
    items = status.their_items
    return JSONResponse(
        {
            "result": "success",
            "status_id": status.status_id,
            "their_status_id": status.their_status_id,
            "their_items": None
            if items is None
            else [{"their_item_id": item.their_item_id, "bought_count": item.bought_count} for item in items],
        }
    )
