"""Kills of parts of the partner orders service under load: no order or event is lost or duplicated."""

import datetime as dt
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import dagster as dg
import pytest
import requests

from sales_assets.dagster_internals import range_tags
from sales_assets.definitions import defs
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.services.partner_orders.broker import Broker
from sales_assets.services.partner_orders.mapping import Mapping, store
from sales_assets_tests.services.partner_orders.conftest import NO_BROKER, Start
from sales_assets_tests.services.partner_orders.fixtures import order, queued, until
from sales_assets_tests.services.partner_orders.openapi import examine
from sales_assets_tests.services.partner_orders.process import http_running, process_running
from sales_assets_tests.services.partner_orders.rabbitmq_node import RabbitMQNode
from sales_assets_tests.services.partner_orders.test_random_sequences import Harness
from sales_assets_tests.services.partner_orders.test_random_sequences import examine as examine_sequences

pytestmark = [pytest.mark.torture, pytest.mark.timeout(1800)]
Query = Callable[..., list[tuple[object, ...]]]

_ORDERS = 1000


@pytest.fixture
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQNode]:
    node = RabbitMQNode(Path(tmp_path_factory.mktemp("rabbitmq")))
    try:
        node.start()
        yield node
    finally:
        node.kill()


@pytest.mark.broker
def test_a_thousand_orders_survive_kills_of_relay_consumer_and_broker(
    start: Start, node: RabbitMQNode, query: Query, warehouse_url: str, instance: dg.DagsterInstance
) -> None:
    store(
        Warehouse(),
        [
            Mapping("item", "58", 3),
            Mapping("item", "21737", 4),
            Mapping("pharmacy", "1086", 7),
            Mapping("customer", "79997772211", 51),
        ],
    )
    service = start(broker=NO_BROKER)
    broker = Broker(node.url, 10)
    kills = {"relay": 0, "consumer": 0, "broker": 0}
    stop = threading.Event()

    def keep_killing(part: str) -> None:
        while not stop.is_set():
            with process_running(warehouse_url, broker, part):
                stop.wait(random.uniform(0.5, 2))
            kills[part] += 1

    def keep_killing_the_broker() -> None:
        while not stop.wait(random.uniform(2, 4)):
            node.kill()
            kills["broker"] += 1
            node.start()

    cancelled = range(0, _ORDERS, 10)
    start_time = time.monotonic()

    def place(number: int) -> None:
        response = service.post(order(number)).json()
        assert response["result"] == "success"
        if number in cancelled:
            assert service.delete({"order_id": number, "their_order_id": response["their_order_id"]}).json() == {
                "result": "success"
            }

    killers = [threading.Thread(target=keep_killing, args=[part]) for part in ("relay", "consumer")]
    killers.append(threading.Thread(target=keep_killing_the_broker))
    for killer in killers:
        killer.start()
    try:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(place, range(_ORDERS)))
        placed = time.monotonic() - start_time
        # All orders have been placed; the kills continue until each part has been killed often enough.
        until(lambda: min(kills.values()) >= 5, seconds=300)
    finally:
        stop.set()
        for killer in killers:
            killer.join()
    events = _ORDERS + len(cancelled)
    with ExitStack() as stack:
        for part in ("relay", "consumer"):
            stack.enter_context(process_running(warehouse_url, broker, part))
        staged = "SELECT count(*) FROM staging.partner_order_event"
        until(lambda: query(staged) == [(events,)], seconds=120)
        until(lambda: query("SELECT count(*) FROM orders.outbox WHERE published_at IS NULL") == [(0,)])
        until(lambda: queued(broker, broker.events_queue) == 0)
    assert queued(broker, broker.dead_queue) == 0
    staged_after = time.monotonic() - start_time
    print(  # noqa: T201  figures, seen with -s
        f"\nkills: {kills}; {_ORDERS} orders placed in {placed:.0f} s, {events} events staged, each once, "
        f"after {staged_after:.0f} s"
    )
    assert query("SELECT message_id FROM orders.outbox ORDER BY 1") == query(
        "SELECT message_id FROM staging.partner_order_event ORDER BY 1"
    )
    _load(instance, "2024-06-20", dt.datetime.now(dt.UTC).date().isoformat())
    assert query("SELECT status, count(*) FROM mart.f_sales GROUP BY 1 ORDER BY 1") == [
        ("refunded", 2 * len(cancelled)),
        ("shipped", 2 * _ORDERS),
    ]
    assert query("SELECT count(*) FROM mart.f_sales_lines") == query(
        "SELECT count(DISTINCT uniq_id) FROM mart.f_sales_lines"
    )


def _load(instance: dg.DagsterInstance, first: str, last: str) -> None:
    tags = range_tags(first, last)
    result = defs().resolve_job_def("load_partner_orders").execute_in_process(instance=instance, tags=tags)
    assert result.success
    assert [check.check_name for check in result.get_asset_check_evaluations() if not check.passed] == []


def test_orders_survive_kills_of_the_service(start: Start, query: Query, warehouse_url: str) -> None:
    """The process that places orders is killed repeatedly; each order exists at the partner once and is accepted."""
    partner_service = start(broker=NO_BROKER, parts=["reconciler"], partnerapi_reconcile_seconds=0.5)
    partner = partner_service.partner
    accepted: set[int] = set()
    kills = 0
    pending = list(range(300))
    while pending:
        with http_running(warehouse_url, NO_BROKER, PARTNERAPI_URL=partner_service.partner_url) as (url, process):
            killer = threading.Timer(random.uniform(0.3, 1.0), process.kill)
            killer.start()

            def place(number: int, url: str = url) -> bool:
                try:
                    response = requests.post(f"{url}/v2/orders/", json=order(number), timeout=30)
                except requests.RequestException:
                    return False
                return bool(response.json()["result"] == "success")

            with ThreadPoolExecutor(16) as pool:
                done = list(pool.map(place, pending))
            killer.cancel()
            killer.join()
        kills += 1
        accepted |= {number for number, good in zip(pending, done, strict=True) if good}
        pending = [number for number in pending if number not in accepted]
        assert kills < 100
    until(lambda: query("SELECT count(*) FROM orders.partner_order WHERE state <> 'accepted'") == [(0,)], seconds=120)
    assert [number for number in range(300) if len(partner.orders_of(number)) != 1] == []
    assert query("SELECT count(*) FROM orders.outbox") == [(300,)]
    print(f"\nthe service was killed {kills} times over 300 orders; each is at the partner once")  # noqa: T201  figures, seen with -s


def test_two_thousand_random_sequences_lose_no_order(harness: Harness) -> None:
    first = random.randrange(2**32)
    examine_sequences(harness, range(first, first + 2000))


def test_two_hundred_concurrent_equal_orders_create_one(start: Start) -> None:
    first = start()
    second = start(partnerapi_url=first.partner_url)
    for number in range(5):
        before = first.partner.seen["create"]
        with ThreadPoolExecutor(200) as pool:
            calls = [pool.submit((first, second)[n % 2].post, order(number)) for n in range(200)]
            responses = {call.result().text for call in calls}
        assert len(responses) == 1
        assert len(first.partner.orders_of(number)) == 1
        assert first.partner.seen["create"] == before + 1


def test_partner_orders_responses_match_the_openapi_in_a_long_run(start: Start, tmp_path: Path) -> None:
    service = start()
    start_time = time.monotonic()
    examine(service.url, tmp_path, examples=300)
    print(f"\nschemathesis: {time.monotonic() - start_time:.0f} s")  # noqa: T201  figures, seen with -s
