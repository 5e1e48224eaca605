"""Endpoints of version 2: business outcomes are HTTP 200, 422 is for malformed input only."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Body, Path, Query, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from structlog.contextvars import bind_contextvars

from sales_assets.services.http.application import BODY_RESPONSES, BothSlashes
from sales_assets.services.partner_orders.domain.orders import Accepted, Refused
from sales_assets.services.partner_orders.errors import OrderError
from sales_assets.services.partner_orders.schemas.fields import OrderId, Text
from sales_assets.services.partner_orders.schemas.v2 import (
    CancelBody,
    Cancelled,
    Created,
    CreateError,
    NotCancelled,
    OrderBody,
    StatusError,
    StatusFound,
)
from sales_assets.services.partner_orders.service import OrderService

_CREATED_EXAMPLE = {
    "result": "success",
    "their_order_id": "777",
    "items": [
        {"their_id": "58", "price": "10", "count": 10, "part": None},
        {"their_id": "21737", "price": "10", "count": 12, "part": None},
    ],
}


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
        "description": "The order_id belongs to an order with another body, which is not changed.",
        **_examples(other_body=_create_error(service_error=True)),
    },
    503: {
        "model": CreateError,
        "description": "The database is unavailable, or no partner is configured.",
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
    503: {"model": StatusError, "description": "The database is unavailable, or no partner is configured."},
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
    503: {"model": NotCancelled, "description": "The database is unavailable, or no partner is configured."},
}


def router(service: OrderService) -> BothSlashes:
    """Return the routes of version 2."""
    routes = BothSlashes(prefix="/v2/orders", tags=["orders, version 2"])

    @routes.post("/", responses=_CREATE_RESPONSES, response_class=JSONResponse)
    async def create_order(body: OrderBody) -> Response:
        """Place an order at the partner. The same order_id with the same body gives the stored answer."""
        bind_contextvars(order_id=body.order_id)
        try:
            return JSONResponse(_created(await service.create(body.order())))
        except OrderError as error:
            return JSONResponse(_create_error(service_error=True), error.status_code)

    @routes.get("/{order_id}", responses=_STATUS_RESPONSES, response_class=JSONResponse)
    async def order_status(
        order_id: Annotated[OrderId, Path(description="Our id of the order")],
        their_order_id: Annotated[Text | None, Query(description="The partner's id; default: the stored one")] = None,
    ) -> Response:
        """Return the status of an order at the partner."""
        return await _status(service, order_id, their_order_id)

    @routes.get("/", responses=_STATUS_RESPONSES, response_class=JSONResponse)
    async def order_status_by_query(
        order_id: Annotated[OrderId, Query(description="Our id of the order")],
        their_order_id: Annotated[Text | None, Query(description="The partner's id; default: the stored one")] = None,
    ) -> Response:
        """Return the status of an order at the partner, with both ids as query parameters."""
        return await _status(service, order_id, their_order_id)

    @routes.delete("/", responses=_CANCEL_RESPONSES, response_class=JSONResponse)
    async def cancel_order(
        body: Annotated[CancelBody | None, Body()] = None,
        order_id: Annotated[OrderId | None, Query(description="Used without a body")] = None,
        their_order_id: Annotated[Text | None, Query(description="Used without a body")] = None,
    ) -> Response:
        """Cancel an order at the partner. Repeating it has no effect."""
        if body is not None:
            order_id, their_order_id = body.order_id, body.their_order_id
        if order_id is None or their_order_id is None:
            raise RequestValidationError(
                [{"type": "missing", "loc": ("body",), "msg": "Field required", "input": None}]
            )
        bind_contextvars(order_id=order_id)
        try:
            await service.cancel(order_id, their_order_id)
        except OrderError as error:
            return _failed(error, error.result)
        return JSONResponse({"result": "success"})

    return routes


def _created(outcome: Accepted | Refused) -> dict[str, Any]:
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
    except OrderError as error:
        return _failed(error, "error")
    items = status.their_items
    return JSONResponse(
        {
            "result": "success",
            "status_id": status.status_id,
            "their_status_id": status.their_status_id,
            "their_items": None if items is None else [asdict(item) for item in items],
        }
    )


def _failed(error: OrderError, result: str) -> Response:
    return JSONResponse({"result": result, "message": str(error)}, error.status_code)
