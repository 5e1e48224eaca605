"""Start and stop of the background tasks of the service."""

import asyncio
import contextlib

from aio_pika.abc import AbstractConnection
from prometheus_client import CollectorRegistry

from sales_assets.services.partner_orders.bootstrap import PartnerOrders
from sales_assets.services.partner_orders.broker import Broker
from sales_assets.settings import Settings


class _DroppedCancellation(Broker):
    """A broker whose `connect` swallows one cancellation, as `asyncio.wait_for` may do before Python 3.12."""

    connecting = asyncio.Event()

    async def connect(self, purpose: str) -> AbstractConnection:
        with contextlib.suppress(asyncio.CancelledError):
            self.connecting.set()
            await asyncio.sleep(60)
        await asyncio.sleep(60)
        raise AssertionError(f"{purpose} was never cancelled")


def test_service_stops_although_a_cancellation_was_lost(warehouse_url: str) -> None:
    async def start_and_stop() -> None:
        broker = _DroppedCancellation("amqp://127.0.0.1:9//", 1)
        settings = Settings(_env_file=None)  # type: ignore[call-arg]
        orders = PartnerOrders(settings, warehouse_url, registry=CollectorRegistry(), parts=["relay"], broker=broker)
        async with asyncio.timeout(20):
            async with orders.running():
                await broker.connecting.wait()

    asyncio.run(start_and_stop())
