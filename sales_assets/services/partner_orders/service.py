"""Create, track and cancel orders: store the intent, call the partner, store the outcome.

Ensures idempotence (one call per order at a time, equal responses to equal requests) and classifies the partner's
responses as evidence; ``domain.states`` decides which state follows.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from sales_assets.services.partner_orders.domain.orders import (
    CANCELLED,
    CREATED,
    DONE,
    UNKNOWN_STATUS,
    Accepted,
    CancelAnswer,
    Item,
    Order,
    Refused,
    Status,
)
from sales_assets.services.partner_orders.domain.states import AT_PARTNER, Evidence, State
from sales_assets.services.partner_orders.errors import (
    CancelFailed,
    CancelRejected,
    OtherBody,
    ServiceError,
    StatusUnavailable,
)
from sales_assets.services.partner_orders.metrics import Metrics
from sales_assets.services.partner_orders.partner_client import Deadline, PartnerClient, PartnerError
from sales_assets.services.partner_orders.repository import RENEW_SECONDS, OrderRepository

_log = structlog.get_logger()

_POLL_SECONDS = 0.1
_CANCELLED = CancelAnswer("cancelled")


@dataclass(frozen=True)
class _Creation:
    """A creation in progress in this process; equal requests that arrive meanwhile share its outcome."""

    body_hash: str
    outcome: "asyncio.Task[Accepted | Refused]"


class OrderService:
    """The three operations. Without a `partner` every operation raises `ServiceError`."""

    def __init__(
        self, repository: OrderRepository, partner: PartnerClient | None, metrics: Metrics, *, deadline: float
    ) -> None:
        self._repository = repository
        self._partner = partner
        self._metrics = metrics
        self._deadline = deadline
        # Calls in progress in this process. An order that this process has claimed but that is missing here is free.
        self._creations: dict[int, _Creation] = {}
        self._cancels: dict[tuple[int, str], asyncio.Task[CancelAnswer]] = {}

    async def renew_claims(self) -> None:
        """Renew the claims of calls in progress, until cancelled."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            if held := [*self._creations, *(order_id for order_id, _ in self._cancels)]:
                try:
                    await self._repository.hold(held)
                except ServiceError:
                    _log.warning("could not renew claims", orders=len(held))

    # --- creating ---------------------------------------------------------------------------------------------

    async def create(self, order: Order) -> Accepted | Refused:
        """Create the order, once. Raises `OtherBody` and `ServiceError`."""
        try:
            outcome = await self._join_or_create(order)
        except ServiceError:
            self._metrics.creating_error()
            raise
        if isinstance(outcome, Refused):
            self._metrics.creating_error()
        return outcome

    async def _join_or_create(self, order: Order) -> Accepted | Refused:
        """Join the creation of the same order in this process, or start it. Raises `OtherBody` and `ServiceError`."""
        partner = self._require_partner()
        body_hash = order.body_hash()
        running = self._creations.get(order.order_id)
        if running is None:
            task = asyncio.create_task(self._create(partner, order, body_hash))
            running = self._creations[order.order_id] = _Creation(body_hash, task)
            task.add_done_callback(lambda _: self._creations.pop(order.order_id))
        elif running.body_hash != body_hash:
            raise OtherBody("the order_id belongs to an order with another body")
        # A caller that disconnects does not cancel the creation: the partner may have been called.
        return await asyncio.shield(running.outcome)

    async def _create(self, partner: PartnerClient, order: Order, body_hash: str) -> Accepted | Refused:
        deadline = Deadline(self._deadline)
        while True:
            if await self._repository.begin_create(order, body_hash) is not None:
                return await self._call_create(partner, order, deadline)
            stored = await self._repository.find(order.order_id)
            if stored is None:
                continue  # deleted manually between two statements
            if stored["body_hash"] != body_hash:
                raise OtherBody("the order_id belongs to an order with another body")
            if stored["state"] in (*AT_PARTNER, State.REJECTED):
                return _answer(stored)
            if stored["claimed"]:
                try:
                    stored = await self._released(order.order_id, deadline)
                except TimeoutError:
                    return Refused("another process is still creating the order", partner_error=True)
                if stored is not None and (stored["state"] in AT_PARTNER or stored["refusal"] is not None):
                    return _answer(stored)
            # The other process ended without an answer.

    async def _call_create(self, partner: PartnerClient, order: Order, deadline: Deadline) -> Accepted | Refused:
        """Find or create the order at the partner, and store the outcome. The order is claimed."""
        outcome: Accepted | Refused
        try:
            reply = await partner.find_or_create(order, deadline)
        except PartnerError as error:
            outcome, maybe_done = Refused(str(error), partner_error=True), error.maybe_done
        else:
            outcome, maybe_done = reply.answer, reply.maybe_done
            if isinstance(outcome, Refused) and outcome.partner_error:
                self._metrics.not_understood()
                _log.warning("unknown errors from the partner", order_id=order.order_id)
        if isinstance(outcome, Accepted):
            moved = await self._found(order.order_id, outcome.their_order_id)
        else:
            moved = await self._add_evidence(order.order_id, _refused(outcome, maybe_done=maybe_done), refusal=outcome)
        if moved:
            return outcome
        # Another process claimed the order, or found it, while this one was waiting: its outcome counts.
        stored = await self._repository.find(order.order_id)
        decided = stored is not None and stored["state"] in (*AT_PARTNER, State.REJECTED)
        return _answer(stored) if stored is not None and decided else outcome

    async def _found(self, order_id: int, their_order_id: str) -> Mapping[str, Any] | None:
        """Store the partner's id of an order that it has; return the new state, or None if nothing changed."""
        moved = await self._add_evidence(order_id, Evidence.FOUND, their_order_id=their_order_id, status_id=CREATED)
        if moved:
            self._metrics.created()
        return moved

    # --- tracking ---------------------------------------------------------------------------------------------

    async def status(self, order_id: int, their_order_id: str | None) -> Status:
        """Return the order's status at the partner. Raises `StatusUnavailable` and `ServiceError`."""
        partner = self._require_partner()
        deadline = Deadline(self._deadline)
        try:
            theirs = their_order_id or await self._their_id(partner, order_id, deadline)
            if theirs is None:
                raise StatusUnavailable("order not found")
            return await self._request_status(partner, order_id, theirs, deadline)
        except PartnerError as error:
            raise StatusUnavailable(str(error)) from error

    async def _their_id(self, partner: PartnerClient, order_id: int, deadline: Deadline) -> str | None:
        stored = await self._repository.find(order_id)
        if stored is not None and stored["their_order_id"] is not None:
            return str(stored["their_order_id"])
        theirs = await partner.find(order_id, deadline)
        if theirs is not None:
            await self._found(order_id, theirs)
        return theirs

    async def _request_status(
        self, partner: PartnerClient, order_id: int, their_order_id: str, deadline: Deadline
    ) -> Status:
        """Request the order's status from the partner and store it. Raises `PartnerError`."""
        status = await partner.status(their_order_id, deadline)
        moved = await self._add_evidence(
            order_id, _evidence_of(status), their_order_id=their_order_id, status_id=status.status_id
        )
        if moved and moved["status_changed"]:
            self._metrics.status_changed()
        return status

    # --- cancelling -------------------------------------------------------------------------------------------

    async def cancel(self, order_id: int, their_order_id: str) -> None:
        """Cancel the order. Raises `CancelRejected`, `CancelFailed` and `ServiceError`."""
        partner = self._require_partner()
        key = (order_id, their_order_id)
        task = self._cancels.get(key)
        if task is None:
            task = self._cancels[key] = asyncio.create_task(self._cancel(partner, order_id, their_order_id))
            task.add_done_callback(lambda _: self._cancels.pop(key))
        answer = await asyncio.shield(task)
        if answer.result == "rejected":
            raise CancelRejected(answer.message)
        if answer.result == "failed":
            raise CancelFailed(answer.message)

    async def _cancel(self, partner: PartnerClient, order_id: int, their_order_id: str) -> CancelAnswer:
        deadline = Deadline(self._deadline)
        while True:
            stored = await self._repository.find(order_id)
            if stored is None or stored["their_order_id"] != their_order_id:
                # The partner may still have the order. The row stored under the order_id belongs to another order, or
                # to a create that the reconciler is resolving, and is left unchanged.
                _log.warning("cancelling an order that is not stored with this id", order_id=order_id)
                return (await self._call_cancel(partner, order_id, their_order_id, deadline, repeated=False))[1]
            if stored["state"] == State.CANCELLED:
                return _CANCELLED
            if await self._repository.begin_cancel(order_id, their_order_id) is not None:
                repeated = stored["state"] in (State.CANCELLING, State.CANCEL_UNKNOWN)
                return await self._cancel_claimed(partner, order_id, their_order_id, deadline, repeated=repeated)
            try:
                stored = await self._released(order_id, deadline)
            except TimeoutError:
                return CancelAnswer("failed", "another process is still cancelling the order")
            if stored is not None and stored["state"] != State.CANCELLED and stored["cancel_answer"] is not None:
                return CancelAnswer(**stored["cancel_answer"])
            # The other process ended without an answer.

    async def _cancel_claimed(
        self, partner: PartnerClient, order_id: int, their_order_id: str, deadline: Deadline, *, repeated: bool
    ) -> CancelAnswer:
        """Cancel the order at the partner, and store the outcome. The order is claimed."""
        evidence, answer = await self._call_cancel(partner, order_id, their_order_id, deadline, repeated=repeated)
        status_id = CANCELLED if evidence is Evidence.SEEN_CANCELLED else None
        moved = await self._add_evidence(
            order_id, evidence, their_order_id=their_order_id, status_id=status_id, cancel_answer=answer
        )
        if moved:
            if moved["status_changed"]:
                self._metrics.status_changed()
            return answer
        # Another process claimed the order, or saw it cancelled, while this one was waiting.
        stored = await self._repository.find(order_id)
        return _CANCELLED if stored is not None and stored["state"] == State.CANCELLED else answer

    async def _call_cancel(
        self, partner: PartnerClient, order_id: int, their_order_id: str, deadline: Deadline, *, repeated: bool
    ) -> tuple[Evidence, CancelAnswer]:
        """Cancel the order at the partner. A refusal counts only after the order's status has been checked.

        repeated: an earlier cancel has an unknown outcome.
        """
        try:
            reply = await partner.cancel(their_order_id, deadline)
        except PartnerError as error:
            evidence = Evidence.CANCEL_UNANSWERED if error.maybe_done else Evidence.CANCEL_NOT_DONE
            return evidence, CancelAnswer("failed", str(error))
        refusal = reply.answer
        if refusal is None:
            return Evidence.SEEN_CANCELLED, _CANCELLED
        try:
            status_id = (await partner.status(their_order_id, deadline)).status_id
        except PartnerError as error:
            if error.outcome not in ("not_found", "refused"):
                # The order may have been cancelled before, which would explain the refusal.
                return Evidence.CANCEL_UNANSWERED, CancelAnswer("failed", str(error))
            status_id = None
        if status_id == CANCELLED:
            return Evidence.SEEN_CANCELLED, _CANCELLED
        # An unknown status may mean cancelled; and an order that the partner no longer lists may have been cancelled.
        if not refusal.final or status_id == UNKNOWN_STATUS or (status_id is None and repeated):
            return Evidence.CANCEL_UNANSWERED, CancelAnswer("failed", refusal.message)
        _log.info("cancel rejected", order_id=order_id)
        evidence = Evidence.CANCEL_UNANSWERED if reply.maybe_done else Evidence.CANCEL_NOT_DONE
        return evidence, CancelAnswer("rejected", refusal.message)

    # --- reconciling ------------------------------------------------------------------------------------------

    async def look_up(self, order_id: int, state: State, their_order_id: str | None, *, watched_long: bool) -> str:
        """Look up an order in a watched state at the partner and store the evidence; return the result for the metrics.

        `watched_long`: the watch period has ended, so an order that is still absent or open is assumed to stay so.
        Raises `PartnerError` and `ServiceError`.
        """
        partner = self._require_partner()
        deadline = Deadline(self._deadline)
        if state is State.UNKNOWN:
            theirs = await partner.find(order_id, deadline)
            if theirs is not None:
                await self._found(order_id, theirs)
                return "found"
            if watched_long and await self._add_evidence(order_id, Evidence.ABSENT_FOR_LONG):
                return "given_up"
            return "not_found"
        assert their_order_id is not None, "the schema has an id for every order at the partner"
        status = await self._request_status(partner, order_id, their_order_id, deadline)
        if status.status_id == CANCELLED:
            return "cancelled"
        if status.status_id == DONE:
            return "done"
        if watched_long and state is State.CANCEL_UNKNOWN and status.status_id != UNKNOWN_STATUS:
            await self._add_evidence(order_id, Evidence.OPEN_FOR_LONG)
        return "not_cancelled" if state is State.CANCEL_UNKNOWN else "open"

    # --- both -------------------------------------------------------------------------------------------------

    async def _add_evidence(self, order_id: int, evidence: Evidence, **details: Any) -> Mapping[str, Any] | None:
        moved = await self._repository.add_evidence(order_id, evidence, **details)
        if moved:
            _log.info("order state updated", order_id=order_id, evidence=evidence, state=moved["state"])
        return moved

    async def _released(self, order_id: int, deadline: Deadline) -> Mapping[str, Any] | None:
        """Wait for the other process that has claimed the order; return the row afterwards. Raises `TimeoutError`."""
        while deadline.remaining() > 0:
            await asyncio.sleep(_POLL_SECONDS)
            stored = await self._repository.find(order_id)
            if stored is None or not stored["claimed"]:
                return stored
        raise TimeoutError

    def _require_partner(self) -> PartnerClient:
        if self._partner is None:
            raise ServiceError("PARTNERAPI_URL is not set")
        return self._partner


def _refused(outcome: Refused, *, maybe_done: bool) -> Evidence:
    if maybe_done:
        return Evidence.CREATE_UNANSWERED
    return Evidence.CREATE_NOT_DONE if outcome.partner_error else Evidence.CREATE_REFUSED


def _evidence_of(status: Status) -> Evidence:
    return {DONE: Evidence.SEEN_DONE, CANCELLED: Evidence.SEEN_CANCELLED}.get(status.status_id, Evidence.SEEN_OPEN)


def _answer(stored: Mapping[str, Any]) -> Accepted | Refused:
    """Return the stored outcome of a creation."""
    if stored["state"] in AT_PARTNER:
        return Accepted(stored["their_order_id"], tuple(Item.restored(line) for line in stored["lines"]))
    if stored["refusal"] is None:  # its process died before it had an answer
        return Refused("the outcome is not known yet", partner_error=True)
    return Refused.restored(stored["refusal"])
