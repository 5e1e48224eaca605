"""Simulator of the service that sends messages: its only call, and calls under ``/_`` that inject faults.

Sent messages are kept in memory. A repeated send is accepted like the first, and counted.
"""

import asyncio
import json
import re
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from sales_assets.simulators.faults import HTML, CutResponse, FaultySimulator, changed

_PATH = re.compile(r"/v1/send/(\d{1,19})", re.ASCII)
_PHONE = range(70_000_000_000, 80_000_000_000)
_OK = {"code": 0, "message": "OK"}
_LATEST = 10_000


@dataclass(frozen=True)
class Faults:
    """Faults of all sends. Rates are shares of the responses, 0 to 1; the default has no faults.

    Attributes:
        seed: Selects the responses with faults, given the order of the requests.
        slow: Seconds before every response.
        server_error: Rate of 500 responses.
        too_many: Rate of 429 responses.
        retry_after: Retry-After header of a 429: seconds or an HTTP date; empty for none.
        html: Rate of responses that are an HTML page with status 200.
        refused: Rate of responses with a code other than 0.
        lost: Rate of messages that are sent, but whose response is cut off.
    """

    seed: int = 0
    slow: float = 0.0
    server_error: float = 0.0
    too_many: float = 0.0
    retry_after: str = "1"
    html: float = 0.0
    refused: float = 0.0
    lost: float = 0.0


@dataclass(frozen=True)
class Answer:
    """A prepared response to one send.

    body: text, or a value that is sent as JSON; None is the regular response, with which the message counts as sent.
    delay: seconds before the response.
    cut: whether the connection ends in the middle of the response.
    """

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut: bool = False


@dataclass(frozen=True)
class Arrival:
    """A valid request: time of arrival (Unix time) and the fields of its body."""

    at: float
    message_id: int
    phone: int
    text: str


class SenderApi(FaultySimulator[Faults]):
    """ASGI application of the simulated sender.

    Attributes:
        faults: Faults to inject; may be replaced while it runs.
        seen: Number of requests by message id, failed ones included.
        sent: Number of sends by message id.
        arrivals: The latest valid requests.
        under_way: Number of open requests, now and at most.
    """

    def __init__(self, faults: Faults | None = None, *, token: str = "") -> None:
        self.seen: Counter[int] = Counter()
        self.sent: Counter[int] = Counter()
        self.arrivals: deque[Arrival] = deque(maxlen=_LATEST)
        self.under_way = self.most_under_way = 0
        self._token = token
        self._answers: deque[Answer] = deque()
        super().__init__(
            faults or Faults(),
            [
                Route("/_answers", self._set_answers, methods=["PUT"]),
                Route("/_seen", self._get_seen),
                Route("/_messages", self._get_messages),
            ],
        )

    def answer(self, *answers: Answer) -> None:
        """Queue prepared responses for the next sends."""
        self._answers.extend(answers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = _PATH.fullmatch(scope["path"]) if scope["type"] == "http" else None
        if path is None:
            await self._control(scope, receive, send)
            return
        request = Request(scope, receive)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            response = await self._respond(int(path[1]), request)
        finally:
            self.under_way -= 1
        await response(scope, receive, send)

    async def _respond(self, message_id: int, request: Request) -> Response:
        if request.method != "POST":
            return JSONResponse({"code": 405, "message": "use POST"}, status_code=405)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or (self._token and token != self._token):
            return JSONResponse({"code": 401, "message": "wrong token"}, status_code=401)
        arrival = _understood(message_id, await request.body())
        if isinstance(arrival, str):
            return JSONResponse({"code": 400, "message": arrival}, status_code=400)
        self.seen[message_id] += 1
        self.arrivals.append(arrival)
        if self.faults.slow:
            await asyncio.sleep(self.faults.slow)
        answer = self._answers.popleft() if self._answers else self._fault()
        if answer.delay:
            await asyncio.sleep(answer.delay)
        if answer.status == 200 and answer.body is None:
            self.sent[message_id] += 1
        body = _OK if answer.body is None else answer.body
        if answer.cut:
            return CutResponse(json.dumps(body))
        headers = dict(answer.headers)
        if isinstance(body, str):
            return Response(body, status_code=answer.status, headers=headers, media_type="text/html")
        return JSONResponse(body, status_code=answer.status, headers=headers)

    def _fault(self) -> Answer:
        faults = self.faults
        if self._hit(faults.server_error):
            return Answer(500, "Internal Server Error")
        if self._hit(faults.too_many):
            return Answer(429, "Too Many Requests", {"Retry-After": faults.retry_after} if faults.retry_after else {})
        if self._hit(faults.html):
            return Answer(200, HTML)
        if self._hit(faults.refused):
            return Answer(200, {"code": 1, "message": "refused"})
        return Answer(cut=self._hit(faults.lost))

    # --- fault injection ------------------------------------------------------------------------------------------

    async def _set_answers(self, request: Request) -> Response:
        self._answers = deque(changed(Answer(), one) for one in await request.json())
        return JSONResponse({"answers": len(self._answers)})

    def _get_seen(self, _request: Request) -> Response:
        return JSONResponse({str(message_id): count for message_id, count in self.seen.items()})

    def _get_messages(self, _request: Request) -> Response:
        return JSONResponse([asdict(arrival) for arrival in self.arrivals])


def _understood(message_id: int, raw: bytes) -> Arrival | str:
    """Parse a request; return it, or the text of the error."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return "the body is not JSON"
    match body:
        case {"id": int() as body_id, "phone": int() as phone, "text": str() as text} if len(body) == 3:
            if isinstance(body_id, bool) or body_id != message_id:
                return "id is not that of the path"
            if phone not in _PHONE:
                return "phone is not 7XXXXXXXXXX"
            return Arrival(time.time(), message_id, phone, text)
    return "the body is not {id, phone, text}"
