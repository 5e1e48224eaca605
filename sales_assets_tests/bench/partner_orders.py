"""Ratios of the partner orders service against its own parts (``python -m sales_assets_tests.bench.partner_orders``).

Creating orders through the service against the same two calls at the simulator; confirmed publishes against unconfirmed
ones; the latency of a create with the broker down against up. The latter two need RabbitMQ.
"""

import argparse
import asyncio
import functools
import itertools
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import psycopg

from sales_assets.postgres import migrations
from sales_assets.postgres.embedded import EmbeddedPostgres
from sales_assets.schemas.partner_orders import OrderEvent
from sales_assets.services.partner_orders.broker import Broker
from sales_assets.services.partner_orders.relay import publish_all
from sales_assets_tests.services.partner_orders.conftest import NO_BROKER
from sales_assets_tests.services.partner_orders.fixtures import broker_reachable, order, unique_names
from sales_assets_tests.services.partner_orders.process import http_running

CLIENTS = 50
_BATCH = 500
_ids = itertools.count(1)


# Response times of the partner. A real one, on the internet and with its own database, takes at least the longest.
_PARTNER_SECONDS = (0.0, 0.02, 0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the partner orders against their own parts.")
    parser.add_argument("--orders", type=int, default=2000, help="orders per round")
    parser.add_argument("--rounds", type=int, default=5, help="pairs per figure")
    parser.add_argument("--only", default="", help="figures whose name holds this text")
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} processors")
    show(options.orders, options.rounds, options.only)


def show(orders: int, rounds: int, only: str = "") -> None:
    """Measure and print the table of the figures whose name contains `only`."""
    figures: dict[str, Callable[[str, str], None]] = {}
    for seconds in _PARTNER_SECONDS:
        slow = f", partner answers after {seconds * 1000:.0f} ms" if seconds else ""
        figures[f"orders created by {CLIENTS} clients against find + create directly{slow}"] = functools.partial(
            creation, orders, rounds, seconds
        )
    if broker_reachable():
        figures["order events published with confirms against without"] = functools.partial(
            publishing, orders * 5, rounds
        )
        figures["p99 of a created order, broker down against up"] = functools.partial(latency, orders, rounds)
    else:
        print("RabbitMQ does not answer: the figures that need it were left out", file=sys.stderr)
    chosen = {name: measure for name, measure in figures.items() if only in name}
    if not chosen:
        return
    print(f"\n{rounds} rounds of {orders} orders\n")
    print("| figure | aim | ratio, median (min to max) | a round |\n| --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory(prefix="sales-assets-bench-") as place:
        server = EmbeddedPostgres(Path(place) / "postgres")
        server.ensure_running()
        try:
            url = server.url("sales")
            migrations.migrate(url)
            for name, measure in chosen.items():
                measure(name, url)
        finally:
            server.stop()


# --- creating ---------------------------------------------------------------------------------------------------


def creation(orders: int, rounds: int, partner_seconds: float, name: str, database_url: str) -> None:
    """Measure orders per second through the service against find + create at the simulator, with 50 clients."""
    rates: list[tuple[float, float]] = []
    with (
        _partner(partner_seconds) as partner_url,
        http_running(database_url, NO_BROKER, PARTNERAPI_URL=partner_url) as (url, _),
    ):
        asyncio.run(_rate(orders // 4, lambda session, number: _create(session, url, number)))  # warm up
        for _ in range(rounds):
            direct = asyncio.run(_rate(orders, lambda session, number: _direct(session, partner_url, number)))
            whole = asyncio.run(_rate(orders, lambda session, number: _create(session, url, number)))
            rates.append((whole, direct))
    _row(name, "0.7", rates, "orders/s")


@contextmanager
def _partner(delay: float) -> Iterator[str]:
    """Run the simulator as a separate process."""
    command = [sys.executable, "-m", "sales_assets.cli", "partner-api", "--port", "0", "--slow", str(delay)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().removeprefix("partner API: ").strip()
        finally:
            process.terminate()


async def _rate(orders: int, call: Callable[[aiohttp.ClientSession, int], Awaitable[None]]) -> float:
    """Return calls per second: each client makes its next call as soon as the last one returns."""
    numbers = iter([next(_ids) for _ in range(orders)])

    async def client(session: aiohttp.ClientSession) -> None:
        for number in numbers:
            await call(session, number)

    async with _session() as session:
        start_time = time.perf_counter()
        await asyncio.gather(*(client(session) for _ in range(CLIENTS)))
        return orders / (time.perf_counter() - start_time)


@asynccontextmanager
async def _session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session


async def _create(session: aiohttp.ClientSession, url: str, number: int) -> None:
    async with session.post(f"{url}/v2/orders/", json=order(number)) as response:
        assert (await response.json())["result"] == "success"


async def _direct(session: aiohttp.ClientSession, url: str, number: int) -> None:
    """Make the calls that the service makes at the partner for one order."""
    async with session.get(f"{url}/find-orders", params={"external_id": str(number)}) as response:
        assert (await response.json())["data"]["ids"] == []
    form = [("shop_id", "1086"), ("phone", "79997772211"), ("first_name", "Test"), ("email", "example@example.com")]
    form += [("external_id", str(number)), ("ids[]", "58"), ("quantity[]", "10"), ("prices[]", "10")]
    form += [("ids[]", "21737"), ("quantity[]", "12"), ("prices[]", "10")]
    async with session.post(f"{url}/create", data=form) as response:
        assert (await response.json())["status"] == "ok"


# --- publishing -------------------------------------------------------------------------------------------------


def publishing(messages: int, rounds: int, name: str, _database_url: str) -> None:
    """Measure the relay's confirmed publishes per second against unconfirmed ones, with one connection each."""
    with unique_names() as broker:
        rates = [
            (asyncio.run(_publish(broker, messages, True)), asyncio.run(_publish(broker, messages, False)))
            for _ in range(rounds)
        ]
    _row(name, "0.8", rates, "messages/s")


async def _publish(broker: Broker, messages: int, confirmed: bool) -> float:
    event = OrderEvent.model_validate(
        {
            "message_id": "8-10-accepted",
            "kind": "accepted",
            "project_id": 8,
            "kodpost": 116897,
            "order_id": 10,
            "their_order_id": "777",
            "their_pharmacy_id": "1086",
            "phone": "79997772211",
            "dated_at": "2024-06-20T03:14:44Z",
            "lines": [{"line_no": number, "their_id": "58", "price": "10", "count": 10} for number in (1, 2)],
        }
    )
    async with await broker.connect("bench") as connection:
        channel = await connection.channel(publisher_confirms=confirmed, on_return_raises=confirmed)
        exchange = await broker.declare(channel)
        queue = await channel.get_queue(broker.events_queue, ensure=False)
        await queue.purge()
        start_time = time.perf_counter()
        for _ in range(messages // _BATCH):
            assert not any(await publish_all(exchange, [event] * _BATCH, broker.timeout))
        # Unconfirmed messages count once the broker has received them: it handles the purge after all of them.
        if not confirmed:
            await queue.purge()
        return messages / (time.perf_counter() - start_time)


# --- latency ----------------------------------------------------------------------------------------------------


def latency(orders: int, rounds: int, name: str, database_url: str) -> None:
    """Measure the 99th percentile of a create, with 5 clients, with the relay's broker down against up."""
    pairs: list[tuple[float, float]] = []
    with _partner(0) as partner_url, unique_names() as broker:
        for _ in range(rounds):
            _empty(database_url)
            down = _p99(database_url, NO_BROKER, partner_url, orders)
            _empty(database_url)
            up = _p99(database_url, broker, partner_url, orders)
            pairs.append((down * 1000, up * 1000))
    _row(name, "1.0", pairs, "ms")


def _p99(database_url: str, broker: Broker, partner_url: str, orders: int) -> float:
    with http_running(database_url, broker, "relay", PARTNERAPI_URL=partner_url) as (url, _):
        seconds: list[float] = []

        async def timed(session: aiohttp.ClientSession, number: int) -> None:
            start_time = time.perf_counter()
            await _create(session, url, number)
            seconds.append(time.perf_counter() - start_time)

        async def clients() -> None:
            async with _session() as session:
                for number in range(0, orders, 5):
                    await asyncio.gather(*(timed(session, next(_ids)) for _ in range(number, number + 5)))

        asyncio.run(clients())
        return statistics.quantiles(seconds[orders // 10 :], n=100)[-1]


def _empty(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("TRUNCATE orders.outbox, orders.partner_order")


def _row(figure: str, aim: str, pairs: list[tuple[float, float]], unit: str) -> None:
    ratios = [one / other for one, other in pairs]
    one, other = (statistics.median(side) for side in zip(*pairs, strict=True))
    print(
        f"| {figure} | {aim} | {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) "
        f"| {one:.0f} against {other:.0f} {unit} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
