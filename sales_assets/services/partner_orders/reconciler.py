"""The reconciler: finds out at the partner what became of creates and cancels whose outcome is not known.

Belongs here: when to look, and when to give up. Does not belong here: what an outcome does (``ordering``).
"""

import asyncio
import datetime as dt

import structlog

from sales_assets.services.partner_orders.batches import Row
from sales_assets.services.partner_orders.metrics import Metrics
from sales_assets.services.partner_orders.ordering import Ordering
from sales_assets.services.partner_orders.orders import ServiceError
from sales_assets.services.partner_orders.partner import PartnerError
from sales_assets.services.partner_orders.store import Store

_log = structlog.get_logger()

_AT_ONCE = 20
# A create may be worked on at the partner long after our connection to it broke.
_GIVE_UP_AFTER = dt.timedelta(hours=24)


class Reconciler:
    """Looks every few seconds for what is due; an order that is still unknown comes again, ever later."""

    def __init__(self, store: Store, ordering: Ordering, metrics: Metrics, *, seconds: float) -> None:
        self._store = store
        self._ordering = ordering
        self._metrics = metrics
        self._seconds = seconds

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                due = await self._store.due(_AT_ONCE, self._seconds)
                await asyncio.gather(*(self._look_up(row) for row in due))
                if len(due) == _AT_ONCE:
                    continue
            except ServiceError:
                _log.warning("the reconciler waits for the database")
            await asyncio.sleep(min(self._seconds, 1))

    async def _look_up(self, row: Row) -> None:
        order_id = row["order_id"]
        try:
            if row["state"] == "accepted":
                found = await self._ordering.look_up_cancel(order_id, row["their_order_id"])
                result = "cancelled" if found else "not_cancelled"
            else:
                found = await self._ordering.look_up_create(order_id)
                result = "found" if found else "not_found"
                if not found and dt.datetime.now(dt.UTC) - row["created_at"] > _GIVE_UP_AFTER:
                    await self._store.give_up(order_id)
                    result = "given_up"
        except PartnerError:
            result = "partner_error"
        finally:
            await self._store.release(order_id)
        self._metrics.reconciled(result)
        _log.info("outcome looked up", order_id=order_id, result=result, checks=row["checks"])
