"""Simulator of the partner's API: its four calls, and calls under ``/_`` that inject faults.

Orders are kept in memory. Like the real API it is not idempotent: two creates with the same external_id give two
orders.
"""

import asyncio
import json
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import parse_qs

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from sales_assets.services.http.numbers import parse_integer
from sales_assets.simulators.faults import HTML, CutResponse, FaultySimulator, changed

_OPERATIONS = {"/find-orders": "find", "/create": "create", "/orders-data": "status", "/cancel": "cancel"}
_FIRST_ID = 777


@dataclass(frozen=True)
class Faults:
    """Faults of all calls. Rates are shares of the responses, 0 to 1; the default has no faults.

    Attributes:
        seed: Selects the responses with faults, given the order of the requests.
        slow: Seconds before every response.
        server_error: Rate of 500 responses.
        too_many: Rate of 429 responses.
        html: Rate of responses that are an HTML page with status 200.
        lost: Rate of creates and cancels that are carried out, but whose response is cut off.
    """

    seed: int = 0
    slow: float = 0.0
    server_error: float = 0.0
    too_many: float = 0.0
    html: float = 0.0
    lost: float = 0.0


@dataclass(frozen=True)
class Answer:
    """A prepared response to one call.

    body: text, or a value that is sent as JSON; None is the regular response.
    done: whether the operation is carried out nevertheless.
    delay: seconds before the response. With a delay alone, the regular response is sent late.
    cut: whether the connection ends in the middle of the response.
    """

    status: int = 200
    body: Any = None
    done: bool = False
    delay: float = 0.0
    cut: bool = False


@dataclass(frozen=True)
class Stock:
    """The partner's stock of an item; a price of None is sent as NONE. Items without an entry have unlimited stock."""

    quantity: int | None = None
    known: bool = True
    price: str | None = None
    preorder_price: str | None = None


@dataclass
class _Order:
    external_id: str
    items: list[tuple[str, int]]
    status: str = "created"
    details: dict[str, Any] = field(default_factory=dict)


class PartnerApi(FaultySimulator[Faults]):
    """ASGI application of the simulated partner API.

    Attributes:
        faults: Faults to inject; may be replaced while it runs.
        seen: Number of calls of each operation (find, create, status, cancel), failed ones included.
        forms: Forms of the latest creates, as received.
        stock: Stock by item id.
    """

    def __init__(self, faults: Faults | None = None) -> None:
        self.seen: Counter[str] = Counter()
        self.forms: deque[dict[str, list[str]]] = deque(maxlen=1000)
        self.stock: dict[str, Stock] = {}
        self._orders: dict[int, _Order] = {}
        self._by_external_id: defaultdict[str, list[int]] = defaultdict(list)
        self._answers: defaultdict[str, deque[Answer]] = defaultdict(deque)
        self._done: dict[str, Callable[[Mapping[str, list[str]]], dict[str, Any]]] = {
            "find": self._find,
            "create": self._create,
            "status": self._status,
            "cancel": self._cancel,
        }
        super().__init__(
            faults or Faults(),
            [
                Route("/_answers/{operation}", self._set_answers, methods=["PUT"]),
                Route("/_stock/{their_id}", self._set_stock, methods=["PUT"]),
                Route("/_orders/{number:int}", self._set_order, methods=["PUT"]),
                Route("/_seen", self._get_seen),
            ],
        )

    def orders_of(self, order_id: int) -> list[int]:
        """List the partner's orders with our order_id, oldest first."""
        return list(self._by_external_id.get(str(order_id), ()))

    def answer(self, operation: str, *answers: Answer) -> None:
        """Queue prepared responses for the next calls of an operation."""
        self._answers[operation].extend(answers)

    def forget_answers(self, operation: str) -> None:
        """Drop the prepared responses of an operation."""
        self._answers[operation].clear()

    def status_of(self, number: int) -> str:
        """Return the actual status of an order."""
        return self._orders[number].status

    def set_status(self, number: int, status: str, **details: Any) -> None:
        """Set the status of an order; `details` are returned with it (status_id, items)."""
        self._orders[number].status = status
        self._orders[number].details = details

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        operation = _OPERATIONS.get(scope["path"]) if scope["type"] == "http" else None
        if operation is None:
            await self._control(scope, receive, send)
            return
        request = Request(scope, receive)
        raw = await request.body() if scope["method"] == "POST" else scope["query_string"]
        form = parse_qs(raw.decode(), keep_blank_values=True)
        self.seen[operation] += 1
        if operation == "create":
            self.forms.append(form)
        response = await self._respond(operation, form)
        await response(scope, receive, send)

    async def _respond(self, operation: str, form: Mapping[str, list[str]]) -> Response:
        if self.faults.slow:
            await asyncio.sleep(self.faults.slow)
        queue = self._answers[operation]
        scripted = queue.popleft() if queue else self._fault(operation)
        if scripted is None:
            return Response(json.dumps(self._done[operation](form)), media_type="application/json")
        is_true = scripted == Answer(delay=scripted.delay)
        body = self._done[operation](form) if scripted.done or is_true else ""
        if scripted.delay:
            await asyncio.sleep(scripted.delay)
        body = body if scripted.body is None else scripted.body
        if scripted.cut:
            return CutResponse(json.dumps(body))
        if isinstance(body, str):
            return HTMLResponse(body, status_code=scripted.status)
        # ASCII, as PHP writes it: a lone surrogate can be written too.
        return Response(json.dumps(body), status_code=scripted.status, media_type="application/json")

    def _fault(self, operation: str) -> Answer | None:
        faults = self.faults
        if self._hit(faults.server_error):
            return Answer(500, "Internal Server Error")
        if self._hit(faults.too_many):
            return Answer(429, "Too Many Requests")
        if self._hit(faults.html):
            return Answer(200, HTML)
        if operation in ("create", "cancel") and self._hit(faults.lost):
            return Answer(done=True, cut=True)
        return None

    # --- the four calls -----------------------------------------------------------------------------------------

    def _find(self, form: Mapping[str, list[str]]) -> dict[str, Any]:
        return {"data": {"ids": self._by_external_id.get(_first(form, "external_id"), [])}}

    def _create(self, form: Mapping[str, list[str]]) -> dict[str, Any]:
        items = list(zip(form.get("ids[]", []), map(int, form.get("quantity[]", [])), strict=False))
        prices = form.get("prices[]", [])
        errors = {
            their_id: error
            for (their_id, count), price in zip(items, prices, strict=False)
            if (error := self._item_error(their_id, count, price)) is not None
        }
        if errors:
            return {"status": "error", "errors": errors}
        number = _FIRST_ID + len(self._orders)
        external_id = _first(form, "external_id")
        self._orders[number] = _Order(external_id, items)
        self._by_external_id[external_id].append(number)
        return {"status": "ok", "order_id": number}

    def _item_error(self, their_id: str, count: int, price: str) -> str | None:
        stock = self.stock.get(their_id)
        if stock is None:
            return None
        if not stock.known:
            return "Item not found"
        if stock.quantity is not None and count > stock.quantity:
            return "Wrong quantity"
        if stock.price is not None and stock.price != price:
            return f"Wrong price: current price is {stock.price} or {stock.preorder_price or 'NONE'}"
        return None

    def _status(self, form: Mapping[str, list[str]]) -> dict[str, Any]:
        number = _first(form, "order_ids")
        order = self._named(number)
        return {"status": "ok", "data": {number: {"status": order.status, **order.details}} if order else []}

    def _cancel(self, form: Mapping[str, list[str]]) -> dict[str, Any]:
        number = _first(form, "order_id")
        order = self._named(number)
        if order is None or order.status in ("done", "cancelled"):
            return {"status": "error", "errors": ["cancellation not allowed"]}
        order.status = "cancelled"
        return {"status": "ok", "data": []}

    def _named(self, number: str) -> _Order | None:
        try:
            return self._orders.get(parse_integer(number))
        except ValueError:
            return None

    # --- fault injection ----------------------------------------------------------------------------------------

    async def _set_answers(self, request: Request) -> Response:
        operation = request.path_params["operation"]
        if operation not in self._done:
            raise HTTPException(404, f"operations are {', '.join(self._done)}")
        answers = [changed(Answer(), one) for one in await request.json()]
        self._answers[operation] = deque(answers)
        return JSONResponse({operation: len(answers)})

    async def _set_stock(self, request: Request) -> Response:
        self.stock[request.path_params["their_id"]] = stock = changed(Stock(), await request.json())
        return JSONResponse(asdict(stock))

    async def _set_order(self, request: Request) -> Response:
        number, changes = request.path_params["number"], await request.json()
        if number not in self._orders:
            raise HTTPException(404, "no such order")
        self.set_status(number, **changes)
        return JSONResponse(changes)

    def _get_seen(self, _request: Request) -> Response:
        return JSONResponse(dict(self.seen))


def _first(form: Mapping[str, list[str]], name: str) -> str:
    return form.get(name, [""])[0]
