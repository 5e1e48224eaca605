"""Placing, asking after and cancelling orders: what is stored before and after the partner is called.

Belongs here: idempotence (one create per order_id, whatever happens), and the outcomes that v1 and v2 tell.
Does not belong here: HTTP on either side, statements.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from sales_assets.services.partner_orders.metrics import Metrics
from sales_assets.services.partner_orders.orders import (
    CANCELLED,
    Accepted,
    CancelFailed,
    CancelRejected,
    Item,
    Order,
    OtherBody,
    Refused,
    ServiceError,
    Status,
    StatusUnavailable,
)
from sales_assets.services.partner_orders.partner import Deadline, Partner, PartnerError
from sales_assets.services.partner_orders.store import RENEW_SECONDS, Store

_log = structlog.get_logger()

_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class _Running:
    """A creation that this process is at; equal requests that come meanwhile get its answer."""

    body_hash: str
    outcome: "asyncio.Task[Accepted | Refused]"


class Ordering:
    """The three operations. `partner` None: no partner is configured, and every operation is a `ServiceError`."""

    def __init__(
        self, store: Store, partner: Partner | None, metrics: Metrics, *, deadline: float, reconcile_after: float
    ) -> None:
        self._store = store
        self._partner = partner
        self._metrics = metrics
        self._deadline = deadline
        self._reconcile_after = reconcile_after
        self._running: dict[int, _Running] = {}
        self._looked_up: set[int] = set()

    # --- placing ----------------------------------------------------------------------------------------------

    async def create(self, order: Order) -> Accepted | Refused:
        """Place the order, once. Raises `OtherBody` and `ServiceError`."""
        try:
            outcome = await self._created(order)
        except ServiceError:
            self._metrics.creating_error()
            raise
        if isinstance(outcome, Refused):
            self._metrics.creating_error()
        return outcome

    async def _created(self, order: Order) -> Accepted | Refused:
        partner = self._require_partner()
        body_hash = order.body_hash()
        running = self._running.get(order.order_id)
        if running is None:
            task = asyncio.create_task(self._create(partner, order, body_hash))
            running = self._running[order.order_id] = _Running(body_hash, task)
            task.add_done_callback(lambda _: self._running.pop(order.order_id))
        elif running.body_hash != body_hash:
            raise OtherBody("the order_id belongs to an order with another body")
        # A caller that goes away takes nothing with it: the order is under way.
        return await asyncio.shield(running.outcome)

    async def _create(self, partner: Partner, order: Order, body_hash: str) -> Accepted | Refused:
        deadline = Deadline(self._deadline)
        while True:
            uncertain = await self._store.claim(order, body_hash)
            if uncertain is not None:
                return await self._ask(partner, order, deadline, uncertain=uncertain)
            stored = await self._store.find(order.order_id)
            if stored is None:
                continue  # removed by hand between two statements
            if stored["body_hash"] != body_hash:
                raise OtherBody("the order_id belongs to an order with another body")
            if stored["state"] in ("accepted", "rejected"):
                return _answer(stored)
            if stored["claimed"] and (answer := await self._awaited(order.order_id, deadline)) is not None:
                return answer
            # Whoever was at it is gone, or was the reconciler, and has no answer: it is ours now.

    async def _awaited(self, order_id: int, deadline: Deadline) -> Accepted | Refused | None:
        """The answer that another process comes to, or None when it ends without one."""
        while deadline.remaining() > 0:
            await asyncio.sleep(_POLL_SECONDS)
            stored = await self._store.find(order_id)
            if stored is None or not stored["claimed"]:
                has_answer = stored is not None and stored["state"] != "creating" and not stored["checks"]
                return _answer(stored) if stored is not None and has_answer else None
        return Refused("another process is still at it", partner_error=True)

    async def _ask(self, partner: Partner, order: Order, deadline: Deadline, *, uncertain: bool) -> Accepted | Refused:
        try:
            outcome = await partner.find_or_create(order, deadline)
        except PartnerError as error:
            outcome = Refused(str(error), partner_error=True)
            uncertain = uncertain or error.maybe_done
        else:
            uncertain = False
            if isinstance(outcome, Refused) and outcome.partner_error:
                self._metrics.not_understood()
                _log.warning("the partner's errors were not understood", order_id=order.order_id)
        return await self._settle(order.order_id, outcome, uncertain=uncertain)

    async def _settle(self, order_id: int, outcome: Accepted | Refused, *, uncertain: bool) -> Accepted | Refused:
        if isinstance(outcome, Accepted):
            kept = await self._store.accept(order_id, outcome.their_order_id)
            state = "accepted"
            self._metrics.created()
        else:
            state = "unknown" if uncertain else "failed" if outcome.partner_error else "rejected"
            kept = await self._store.refuse(order_id, state, outcome, self._reconcile_after)
        _log.info("order settled", order_id=order_id, state=state)
        if kept:
            return outcome
        # Somebody else took the order on while this process was believed dead; what they came to is what counts.
        _log.error("order was settled elsewhere meanwhile", order_id=order_id, here=state)
        stored = await self._store.find(order_id)
        return _answer(stored) if stored is not None and stored["state"] != "creating" else outcome

    async def renew_claims(self) -> None:
        """Keep the claims of running creations and look-ups alive, for as long as the process is."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            if held := [*self._running, *self._looked_up]:
                try:
                    await self._store.hold(held)
                except ServiceError:
                    _log.warning("claims could not be renewed", orders=len(held))

    # --- asking after -----------------------------------------------------------------------------------------

    async def status(self, order_id: int, their_order_id: str | None) -> Status:
        """Where the order stands. Raises `StatusUnavailable` and `ServiceError`."""
        partner = self._require_partner()
        deadline = Deadline(self._deadline)
        try:
            theirs = their_order_id or await self._their_id(partner, order_id, deadline)
            if theirs is None:
                raise StatusUnavailable("order not found")
            status = await partner.status(theirs, deadline)
        except PartnerError as error:
            raise StatusUnavailable(str(error)) from error
        if await self._store.see_status(order_id, theirs, status.status_id):
            self._metrics.status_changed()
            _log.info("order changed its status", order_id=order_id, status_id=status.status_id)
        return status

    async def _their_id(self, partner: Partner, order_id: int, deadline: Deadline) -> str | None:
        stored = await self._store.find(order_id)
        if stored is not None and stored["their_order_id"] is not None:
            return str(stored["their_order_id"])
        return await partner.find(order_id, deadline)

    # --- cancelling -------------------------------------------------------------------------------------------

    async def cancel(self, order_id: int, their_order_id: str) -> None:
        """Cancel the order. Raises `CancelRejected`, `CancelFailed` and `ServiceError`."""
        partner = self._require_partner()
        deadline = Deadline(self._deadline)
        stored = await self._store.find(order_id)
        ours = stored is not None and stored["their_order_id"] == their_order_id
        if stored is not None and ours and stored["cancelled_at"] is not None:
            return
        if ours:
            await self._store.ask_cancel(order_id, their_order_id, self._deadline + self._reconcile_after)
        else:
            _log.warning("cancel of an order that is not stored under this id", order_id=order_id)
        try:
            reason = await partner.cancel(their_order_id, deadline)
        except PartnerError as error:
            if ours and not error.maybe_done:
                await self._store.keep_order(order_id)
            elif ours:
                await self._store.ask_cancel(order_id, their_order_id, self._reconcile_after)
            raise CancelFailed(str(error)) from error
        if reason is None:
            if ours and await self._store.cancel(order_id, their_order_id):
                self._metrics.status_changed()
            _log.info("order cancelled", order_id=order_id)
            return
        await self._store.keep_order(order_id)
        _log.info("cancel rejected", order_id=order_id)
        raise CancelRejected(reason)

    # --- settling what is unknown -------------------------------------------------------------------------------

    async def look_up_create(self, order_id: int) -> bool:
        """Whether the partner has an order whose create is of unknown outcome; if so it is accepted now.

        For the reconciler, which has claimed it. Raises `PartnerError` and `ServiceError`.
        """
        self._looked_up.add(order_id)
        try:
            theirs = await self._require_partner().find(order_id, Deadline(self._deadline))
            if theirs is not None and await self._store.accept(order_id, theirs):
                self._metrics.created()
            return theirs is not None
        finally:
            self._looked_up.discard(order_id)

    async def look_up_cancel(self, order_id: int, their_order_id: str) -> bool:
        """Whether an order whose cancel is of unknown outcome is cancelled; the answer is stored.

        Raises `PartnerError` and `ServiceError`.
        """
        status = await self._require_partner().status(their_order_id, Deadline(self._deadline))
        if await self._store.see_status(order_id, their_order_id, status.status_id):
            self._metrics.status_changed()
        if status.status_id == CANCELLED:
            return True
        await self._store.keep_order(order_id)
        return False

    def _require_partner(self) -> Partner:
        if self._partner is None:
            raise ServiceError("PARTNERAPI_URL is not set")
        return self._partner


def _answer(stored: Mapping[str, Any]) -> Accepted | Refused:
    """The stored outcome of a creation."""
    if stored["state"] == "accepted":
        return Accepted(stored["their_order_id"], tuple(Item.restored(line) for line in stored["lines"]))
    if stored["refusal"] is None:  # the process that was at it died before it had an answer
        return Refused("the outcome is not known yet", partner_error=True)
    return Refused.restored(stored["refusal"])
