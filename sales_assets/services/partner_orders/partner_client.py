"""Client of the partner's API: four calls with retries, deadlines and a circuit breaker.

Implements the partner's wire format. Calls are measured and logged by operation, without contents. ``service`` stores
the intent before and the outcome after a call.
"""

import json
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar
from urllib.parse import urlencode

import aiohttp
import structlog
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    stop_any,
    wait_fixed,
    wait_random,
)
from tenacity.stop import stop_base

from sales_assets.services.http.client import JsonClient, read_bounded
from sales_assets.services.partner_orders.circuit_breaker import CircuitBreaker, CircuitOpen
from sales_assets.services.partner_orders.domain.orders import (
    STATUS_IDS,
    UNKNOWN_STATUS,
    Accepted,
    BoughtItem,
    Order,
    Refused,
    Status,
)
from sales_assets.services.partner_orders.domain.partner_response import (
    HTTP_ERROR,
    REPLACEMENT,
    CancelRefusal,
    UnreadableAnswer,
    cancel_refusal,
    create_outcome,
    error_text,
)
from sales_assets.services.partner_orders.metrics import Metrics

_log = structlog.get_logger()
T = TypeVar("T")

_CALLS = {
    "find": ("GET", "find-orders"),
    "create": ("POST", "create"),
    "status": ("GET", "orders-data"),
    "cancel": ("POST", "cancel"),
}

_CONNECTIONS = 200
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_NUMBER = re.compile(r"\d{1,20}", re.ASCII)
# PostgreSQL's text has no NUL, and UTF-8 has no lone surrogates; JSON can spell both.
_NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")
_DEEPEST = 100


class PartnerError(Exception):
    """A call without a usable response.

    `again`: worth another attempt (network errors, 429, 5xx). `down`: indicates that the partner is down.
    `maybe_done`: the partner may have carried out this attempt, or an earlier one of the same call.
    """

    def __init__(
        self,
        outcome: str,
        *,
        again: bool = False,
        down: bool = False,
        maybe_done: bool = False,
        detail: str = HTTP_ERROR,
    ) -> None:
        super().__init__(detail)
        self.outcome = outcome
        self.again = again
        self.down = down
        self.maybe_done = maybe_done


class Deadline:
    """The time by which an incoming request must be answered."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds

    def remaining(self) -> float:
        return self._ends - time.monotonic()


@dataclass(frozen=True)
class Attempts:
    """Retry policy of a kind of call: seconds per attempt, attempts in total, seconds between them."""

    timeout: float
    count: int
    sleep: float


@dataclass(frozen=True)
class Reply(Generic[T]):
    """The response to a call; `maybe_done`: an earlier attempt was not answered, and may have been carried out."""

    answer: T
    maybe_done: bool


class PartnerClient(JsonClient):
    """Client of the partner's API at one base URL. Use as an async context manager.

    Raises `PartnerError` from each call.
    """

    def __init__(
        self, url: str, *, reads: Attempts, orders: Attempts, breaker: CircuitBreaker, metrics: Metrics
    ) -> None:
        super().__init__(url, connections=_CONNECTIONS)
        self._reads = reads
        self._orders = orders
        self._breaker = breaker
        self._metrics = metrics

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        # aiohttp itself repeats a GET when a connection breaks, and has no public option against it; attempts
        # are counted here and must be exact. Its own test client does the same.
        self._session._retry_connection = False
        return self

    async def find(self, order_id: int, deadline: Deadline) -> str | None:
        """Return the partner's id of our order, or None; if there are several, the numerically smallest."""

        async def ask() -> str | None:
            answer = await self._read("find", {"external_id": str(order_id)}, deadline)
            return _smallest_id(answer)

        return (await self._tried("find", self._reads, deadline, ask)).answer

    async def find_or_create(self, order: Order, deadline: Deadline) -> Reply[Accepted | Refused]:
        """Create the order unless the partner has it already; search for it before each attempt to create."""

        async def ask() -> Accepted | Refused:
            try:
                found = await self.find(order.order_id, deadline)
            except PartnerError as error:
                # The search has used its attempts. No create is sent without a search, so none is carried out twice.
                raise PartnerError(error.outcome, down=error.down, detail=str(error)) from error
            if found is not None:
                return Accepted(found, order.items)
            return await self._call("create", deadline, lambda: self._create(order, deadline))

        return await self._again("create", self._orders, deadline, ask)

    async def status(self, their_order_id: str, deadline: Deadline) -> Status:
        """Return the order's status at the partner."""

        async def ask() -> Status:
            answer = await self._read("status", {"order_ids": their_order_id}, deadline)
            return self._status(their_order_id, answer)

        return (await self._tried("status", self._reads, deadline, ask)).answer

    async def cancel(self, their_order_id: str, deadline: Deadline) -> Reply[CancelRefusal | None]:
        """Cancel the order; return None when it is cancelled, else the refusal."""

        async def ask() -> CancelRefusal | None:
            answer = await self._order("cancel", [("order_id", their_order_id)], deadline)
            try:
                return cancel_refusal(answer)
            except UnreadableAnswer as error:
                raise _unreadable(str(error)) from error

        return await self._tried("cancel", self._orders, deadline, ask)

    # --- attempts ---------------------------------------------------------------------------------------------

    async def _tried(
        self, operation: str, attempts: Attempts, deadline: Deadline, ask: Callable[[], Awaitable[T]]
    ) -> Reply[T]:
        return await self._call(operation, deadline, lambda: self._again(operation, attempts, deadline, ask))

    async def _call(self, operation: str, deadline: Deadline, ask: Callable[[], Awaitable[T]]) -> T:
        """Make a call through the circuit breaker, which counts all attempts as one."""
        try:
            self._breaker.enter()
        except CircuitOpen as error:
            self._metrics.circuit_open(True)
            self._metrics.partner_call(operation, "circuit_open", 0)
            raise PartnerError("circuit_open") from error
        try:
            result = await ask()
        except PartnerError as error:
            # An expired deadline of ours does not show that the partner is down.
            if deadline.remaining() > 0 or error.down:
                self._breaker.note(down=error.down)
            raise
        else:
            self._breaker.note(down=False)
            return result
        finally:
            self._metrics.circuit_open(self._breaker.is_open)

    async def _again(
        self, operation: str, attempts: Attempts, deadline: Deadline, ask: Callable[[], Awaitable[T]]
    ) -> Reply[T]:
        maybe_done = False

        async def attempt() -> T:
            nonlocal maybe_done
            try:
                return await ask()
            except PartnerError as error:
                # Later attempts do not undo one that may have been carried out.
                error.maybe_done = maybe_done = maybe_done or error.maybe_done
                raise

        def note(state: RetryCallState) -> None:
            self._metrics.retry(operation)
            _log.warning("retrying partner call", operation=operation, attempt=state.attempt_number)

        if attempts.count <= 1:
            return Reply(await ask(), maybe_done=False)
        retrying = AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, PartnerError) and error.again),
            stop=stop_any(stop_after_attempt(attempts.count), _NoTimeLeft(deadline)),
            wait=wait_fixed(attempts.sleep) + wait_random(0, attempts.sleep / 4),
            before_sleep=note,
            reraise=True,
        )
        return Reply(await retrying(attempt), maybe_done)

    # --- HTTP -------------------------------------------------------------------------------------------------

    async def _create(self, order: Order, deadline: Deadline) -> Accepted | Refused:
        form = [
            ("shop_id", order.their_pharmacy_id),
            ("phone", order.client.phone),
            ("first_name", order.client.name),
            ("email", order.client.email),
            ("external_id", str(order.order_id)),
        ]
        for item in order.items:
            form += [("ids[]", item.their_id), ("quantity[]", str(item.count)), ("prices[]", str(item.price))]
        answer = await self._order("create", form, deadline)
        try:
            return create_outcome(order, answer)
        except UnreadableAnswer as error:
            raise _unreadable(str(error)) from error

    def _status(self, their_order_id: str, answer: Any) -> Status:
        match answer:
            case {"status": "ok", "data": dict() as orders}:
                pass
            case {"status": "ok", "data": []}:  # no orders: PHP encodes an empty object as a list
                orders = {}
            case {"status": "error"}:
                raise PartnerError("refused", detail=error_text(answer.get("errors")))
            case _:
                raise _unreadable("the answer's status is neither ok nor error")
        told = orders.get(their_order_id)
        if told is None:
            raise PartnerError("not_found", detail="order not found")
        if not isinstance(told, dict) or not isinstance(told.get("status"), str):
            raise _unreadable("the order has no status")
        status_id = STATUS_IDS.get(told["status"], UNKNOWN_STATUS)
        if status_id == UNKNOWN_STATUS:
            self._metrics.status_unknown()
            _log.warning("unknown status from the partner", status=told["status"][:40])
        theirs = told.get("status_id")
        if not isinstance(theirs, int) or isinstance(theirs, bool):
            theirs = status_id
        return Status(status_id, theirs, _bought(told.get("items")))

    async def _read(self, operation: str, query: dict[str, str], deadline: Deadline) -> Any:
        return await self._attempt(operation, self._reads, deadline, params=query)

    async def _order(self, operation: str, form: Sequence[tuple[str, str]], deadline: Deadline) -> Any:
        # Encoded here, because aiohttp's form and payload classes take a tenth of a creation's time.
        return await self._attempt(operation, self._orders, deadline, data=urlencode(form).encode(), headers=_FORM)

    async def _attempt(self, operation: str, attempts: Attempts, deadline: Deadline, **content: Any) -> Any:
        began = time.monotonic()
        seconds = min(attempts.timeout, deadline.remaining())
        outcome = "ok"
        try:
            if seconds <= 0:
                raise PartnerError("deadline")
            return await self._answer(*_CALLS[operation], seconds, **content)
        except PartnerError as error:
            outcome = error.outcome
            _log.warning("partner call failed", operation=operation, outcome=outcome)
            raise
        finally:
            self._metrics.partner_call(operation, outcome, time.monotonic() - began)

    async def _answer(self, method: str, path: str, seconds: float, **content: Any) -> Any:
        try:
            async with self._session.request(
                method,
                f"{self._url}/{path}",
                timeout=aiohttp.ClientTimeout(total=seconds),
                allow_redirects=False,
                **content,
            ) as response:
                if response.status == 429:
                    raise PartnerError("http_429", again=True, down=True)
                if response.status >= 500:
                    raise PartnerError("http_5xx", again=True, down=True, maybe_done=True)
                if response.status >= 300:
                    raise PartnerError("http_4xx")
                body = await read_bounded(response)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise PartnerError("unreachable", again=True, down=True) from error
        except TimeoutError as error:
            raise PartnerError("timeout", again=True, down=True, maybe_done=True) from error
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as error:
            raise PartnerError("disconnected", again=True, down=True, maybe_done=True) from error
        except aiohttp.ClientError as error:  # the response is not HTTP
            raise _unreadable(type(error).__name__) from error
        if body is None:
            raise _unreadable("the response is longer than 1 MiB")
        try:
            return _storable(json.loads(body))
        except (ValueError, RecursionError) as error:
            raise _unreadable("the answer is not JSON, or nested too deep") from error


class _NoTimeLeft(stop_base):
    """Stop retrying when the next pause would last beyond the deadline."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline

    def __call__(self, retry_state: RetryCallState) -> bool:
        return retry_state.upcoming_sleep >= self._deadline.remaining()


def _storable(answer: Any, depth: int = 0) -> Any:
    """Replace every character that can't be stored. Raises `RecursionError`."""
    if depth > _DEEPEST:
        raise RecursionError
    match answer:
        case str():
            return _NOT_STORABLE.sub(REPLACEMENT, answer)
        case dict():
            return {_storable(key): _storable(value, depth + 1) for key, value in answer.items()}
        case list():
            return [_storable(value, depth + 1) for value in answer]
    return answer


def _unreadable(detail: str) -> PartnerError:
    _log.warning("unreadable response of the partner", detail=detail)
    return PartnerError("unreadable", maybe_done=True)


def _smallest_id(answer: Any) -> str | None:
    match answer:
        case {"data": {"ids": list() as ids}}:
            texts = [str(one) for one in ids]
            if all(_NUMBER.fullmatch(text) for text in texts):
                return min(texts, key=int, default=None)
    raise _unreadable("the found orders are not a list of ids")


def _bought(items: Any) -> tuple[BoughtItem, ...] | None:
    if not isinstance(items, Sequence) or isinstance(items, str):
        return None
    return tuple(
        BoughtItem(str(item["their_item_id"]), item["bought_count"])
        for item in items
        if isinstance(item, dict) and "their_item_id" in item and isinstance(item.get("bought_count"), int)
    )
