"""Reconciler: look up orders at the partner whose last call is unresolved or which are still open.

Decides when and for how long to look them up; ``service`` interprets the responses.
"""

import asyncio
import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import structlog

from sales_assets.services.partner_orders.domain.states import IN_CALL, UNRESOLVED, State
from sales_assets.services.partner_orders.errors import ServiceError
from sales_assets.services.partner_orders.metrics import Metrics
from sales_assets.services.partner_orders.partner_client import PartnerError
from sales_assets.services.partner_orders.repository import OrderRepository, Row
from sales_assets.services.partner_orders.service import OrderService

_log = structlog.get_logger()

_AT_ONCE = 20


@dataclass(frozen=True)
class _Watch:
    """Lookup policy for orders in some states: the longest pause, and whether lookups end with the watch period."""

    states: Collection[State]
    longest_pause: dt.timedelta
    ends: bool


# Separate, so that many open orders never delay the unresolved ones. An order in a call is due once its claim has
# lapsed, because its process died.
WATCHES = (
    _Watch(UNRESOLVED | IN_CALL, dt.timedelta(minutes=10), ends=False),
    _Watch({State.ACCEPTED}, dt.timedelta(hours=1), ends=True),
)


class Reconciler:
    """Background task that looks for due orders every `seconds`, at least once a second; may run in many processes."""

    def __init__(self, repository: OrderRepository, service: OrderService, metrics: Metrics, *, seconds: float) -> None:
        self._repository = repository
        self._service = service
        self._metrics = metrics
        self._seconds = seconds

    async def run(self) -> None:
        """Run until cancelled."""
        async with asyncio.TaskGroup() as group:
            for watch in WATCHES:
                group.create_task(self._run(watch))

    async def _run(self, watch: _Watch) -> None:
        looking: dict[int, asyncio.Task[None]] = {}

        async def track(row: Row) -> None:
            try:
                await self._look_up(row)
            finally:
                del looking[row["order_id"]]

        try:
            while True:
                # A slow response occupies one slot and delays no other order.
                for row in await self._due(watch, _AT_ONCE - len(looking)):
                    if row["order_id"] not in looking:
                        looking[row["order_id"]] = asyncio.create_task(track(row))
                if len(looking) == _AT_ONCE:
                    await asyncio.wait(looking.values(), return_when=asyncio.FIRST_COMPLETED)
                else:
                    await asyncio.sleep(min(self._seconds, 1))
        finally:
            for task in looking.values():
                task.cancel()

    async def look_up_once(self) -> None:
        """Look up all due orders, and return when done."""
        for watch in WATCHES:
            await asyncio.gather(*(self._look_up(row) for row in await self._due(watch, _AT_ONCE)))

    async def _due(self, watch: _Watch, limit: int) -> Sequence[Row]:
        try:
            return await self._repository.due(watch.states, limit, longest_pause=watch.longest_pause, ends=watch.ends)
        except ServiceError:
            _log.warning("database unavailable, reconciler retries")
            return ()

    async def _look_up(self, row: Row) -> None:
        order_id = row["order_id"]
        try:
            result = await self._service.look_up(
                order_id, State(row["state"]), row["their_order_id"], watched_long=row["watched_long"]
            )
        except PartnerError:
            result = "partner_error"
        except ServiceError:
            result = "service_error"
        except Exception:  # noqa: BLE001 - an error in one lookup must not stop the others
            _log.exception("order lookup failed", order_id=order_id)
            result = "service_error"
        self._metrics.reconciled(result)
        _log.info("order looked up", order_id=order_id, result=result, checks=row["checks"])
