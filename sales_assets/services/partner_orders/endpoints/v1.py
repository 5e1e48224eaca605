"""Endpoints of version 1, at the root."""

from typing import Any

from fastapi import Response
from fastapi.responses import JSONResponse
from structlog.contextvars import bind_contextvars

from sales_assets.services.http.application import BODY_RESPONSES, BothSlashes
from sales_assets.services.partner_orders.domain.orders import Accepted, Refused
from sales_assets.services.partner_orders.errors import OrderError
from sales_assets.services.partner_orders.schemas.v1 import (
    CancelBody,
    Cancelled,
    Created,
    NotCancelled,
    NotCreated,
    OrderBody,
    StatusBody,
    StatusError,
    StatusFound,
)
from sales_assets.services.partner_orders.service import OrderService

Responses = dict[int | str, dict[str, Any]]

_CREATE_RESPONSES: Responses = {
    **BODY_RESPONSES,
    200: {"model": Created | NotCreated},
    409: {"model": NotCreated, "description": "The OrderId belongs to an order with another body."},
    503: {"model": NotCreated, "description": "The database is unavailable, or no partner is configured."},
}
_STATUS_RESPONSES: Responses = {
    **BODY_RESPONSES,
    200: {"model": StatusFound | StatusError},
    503: {"model": StatusError, "description": "The database is unavailable, or no partner is configured."},
}
_CANCEL_RESPONSES: Responses = {
    **BODY_RESPONSES,
    200: {"model": Cancelled | NotCancelled},
    503: {"model": NotCancelled, "description": "The database is unavailable, or no partner is configured."},
}


def router(service: OrderService) -> BothSlashes:
    """Return the routes of version 1."""
    routes = BothSlashes(tags=["orders, version 1"])

    @routes.post("/SendOrder", responses=_CREATE_RESPONSES, response_class=JSONResponse)
    async def send_order(body: OrderBody) -> Response:
        """Place an order at the partner."""
        bind_contextvars(order_id=body.order_id)
        try:
            return JSONResponse(_created(await service.create(body.order())))
        except OrderError as error:
            return _failed(error, error.result)

    @routes.post("/GetOrderStatus", responses=_STATUS_RESPONSES, response_class=JSONResponse)
    async def get_order_status(body: StatusBody) -> Response:
        """Return the status of an order at the partner."""
        bind_contextvars(order_id=body.order_id)
        try:
            status = await service.status(body.order_id, body.their_order_id)
        except OrderError as error:
            return _failed(error, "error")
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
        """Cancel an order at the partner. Repeating it has no effect."""
        bind_contextvars(order_id=body.order_id)
        try:
            await service.cancel(body.order_id, body.their_order_id)
        except OrderError as error:
            return _failed(error, error.result)
        return JSONResponse({"Result": "success", "Message": ""})

    return routes


def _created(outcome: Accepted | Refused) -> dict[str, Any]:
    if isinstance(outcome, Accepted):
        items = [{"TheirId": item.their_id, "Price": str(item.price), "Count": item.count} for item in outcome.items]
        return {"Result": "success", "TheirOrderId": outcome.their_order_id, "Items": items}
    return {"Result": "order_rejected" if outcome.in_words else "transient_error", "Message": outcome.message}


def _failed(error: OrderError, result: str) -> Response:
    return JSONResponse({"Result": result, "Message": str(error)}, error.status_code)
