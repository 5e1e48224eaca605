"""The partner orders service in tests: HTTP, database, the simulated partner, and a broker with separate names."""

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aio_pika
import pytest
import requests
from aio_pika.abc import AbstractChannel
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from sales_assets.services.http.application import application
from sales_assets.services.http.server import running
from sales_assets.services.partner_orders.bootstrap import PARTS, PartnerOrders
from sales_assets.services.partner_orders.broker import Broker
from sales_assets.settings import Settings
from sales_assets.simulators.partner_api import PartnerApi

# Read at import, because each test removes the machine's settings from the environment.
BROKER_URL = os.environ.get("RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//")
UNREACHABLE_URL = "http://127.0.0.1:9"

T = TypeVar("T")


def order(order_id: int | str = 10, **changes: Any) -> dict[str, Any]:
    """Return the body of an order as in docs/data-contracts/partner-orders.md."""
    return {
        "order_id": order_id,
        "date": "2024-06-20T03:14:44.615Z",
        "client": {"name": "Test", "phone": "79997772211", "email": "example@example.com"},
        "their_pharmacy_id": "1086",
        "order_type": 2,
        "items": [{"their_id": "58", "price": 10, "count": 10}, {"their_id": "21737", "price": 10, "count": 12}],
        "comment": "",
        "extra": {},
        **changes,
    }


def order_v1(order_id: int = 10, **changes: Any) -> dict[str, Any]:
    return {
        "OrderId": order_id,
        "Date": "2024-06-20T03:14:44.615Z",
        "Client": {"FIO": "Test", "Phone": "79997772211", "EMail": "example@example.com"},
        "TheirPharmacyId": "1086",
        "Reserve": True,
        "Items": [{"TheirId": "58", "Price": 10, "Count": 10}],
        "Extra": {},
        **changes,
    }


@dataclass
class Service:
    """The running service and its simulated partner."""

    url: str
    partner: PartnerApi
    partner_url: str
    broker: Broker

    def post(self, body: Any, path: str = "/v2/orders/", **options: Any) -> requests.Response:
        return requests.post(self.url + path, json=body, timeout=60, **options)

    def get(self, path: str, **parameters: Any) -> requests.Response:
        return requests.get(self.url + path, params=parameters, timeout=60, allow_redirects=False)

    def delete(self, body: Any = None, path: str = "/v2/orders/", **parameters: Any) -> requests.Response:
        return requests.delete(self.url + path, json=body, params=parameters, timeout=60)

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples with these labels; 0 if there are none."""
        text = self.get("/metrics").text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@contextmanager
def service_running(
    database_url: str, partner: PartnerApi, partner_url: str, *, broker: Broker, parts: Any = (), **chosen: Any
) -> Iterator[Service]:
    """Run the service with a database; retries have no pauses unless `chosen` settings override this."""
    quick: dict[str, Any] = {
        "partnerapi_url": partner_url,
        "partnerapi_http_timeout": 2,
        "partnerapi_http_timeout_order": 2,
        "partnerapi_http_retries_sleep": 0,
        "partnerapi_rabbitmq_retries_sleep": 0.1,
        "partnerapi_deadline": 20,
    }
    registry = CollectorRegistry()
    settings = Settings(_env_file=None, **quick | chosen)  # type: ignore[call-arg]
    orders = PartnerOrders(settings, database_url, registry=registry, parts=parts, broker=broker)
    with running(application(orders, registry=registry), lifespan=True) as url:
        yield Service(url, partner, partner_url, broker)


ALL_PARTS = PARTS


def until(found: Callable[[], T], *, seconds: float = 30) -> T:
    """Call `found` until it returns a true value, and return that; fail after the deadline.

    The pauses grow: most calls open a PostgreSQL connection, and the slowest wait is for a process to start.
    """
    deadline = time.monotonic() + seconds
    pause = 0.02
    while not (value := found()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: last {value!r}")
        time.sleep(pause)
        pause = min(2 * pause, 0.2)
    return value


def broker_reachable(url: str = BROKER_URL) -> bool:
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 5672), timeout=2).close()
    except OSError:
        return False
    return True


def need_broker() -> None:
    """Skip the test with a reason if RabbitMQ is unreachable; with REQUIRE_BROKER=1, fail."""
    if broker_reachable():
        return
    why = f"RabbitMQ does not answer at {urlsplit(BROKER_URL).hostname}: the test of the broker was not run"
    if os.environ.get("REQUIRE_BROKER"):
        pytest.fail(why)
    pytest.skip(why)


def with_channel(broker: Broker, do: Callable[[AbstractChannel], Awaitable[T]]) -> T:
    """Run a function with a new channel of the broker; return its result."""

    async def run() -> T:
        async with await broker.connect("test") as connection:
            return await do(await connection.channel())

    return asyncio.run(run())


@contextmanager
def unique_names(url: str = BROKER_URL) -> Iterator[Broker]:
    """Yield a broker with unique names; delete its queues and exchanges afterwards."""
    broker = Broker(url, 10, f"test_{secrets.token_hex(6)}")
    try:
        yield broker
    finally:
        if broker_reachable(url):
            asyncio.run(broker.remove())


def publish(broker: Broker, body: bytes, *, kind: str = "accepted", message_id: str = "m") -> None:
    """Publish a message with any body to the events queue, as the relay does."""

    async def put(channel: AbstractChannel) -> None:
        exchange = await broker.declare(channel)
        await exchange.publish(aio_pika.Message(body, message_id=message_id), routing_key=kind)

    with_channel(broker, put)


def queued(broker: Broker, queue: str) -> int:
    async def count(channel: AbstractChannel) -> int:
        return (await channel.declare_queue(queue, passive=True)).declaration_result.message_count or 0

    return with_channel(broker, count)
