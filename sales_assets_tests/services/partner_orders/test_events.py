"""Order events from the outbox through a real RabbitMQ to staging: in order, exactly once, also after kills."""

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import aio_pika
import psycopg
import pytest
from aio_pika.abc import AbstractChannel, AbstractExchange
from structlog.testing import capture_logs

from sales_assets.schemas.partner_orders import OrderEvent
from sales_assets.schemas.pseudonyms import Pseudonyms
from sales_assets.services.partner_orders.broker import TRIES, Broker
from sales_assets.services.partner_orders.relay import publish_all
from sales_assets_tests.services.partner_orders.conftest import NO_BROKER, Start
from sales_assets_tests.services.partner_orders.fixtures import (
    ALL_PARTS,
    order,
    publish,
    queued,
    unique_names,
    until,
    with_channel,
)
from sales_assets_tests.services.partner_orders.process import process_running
from sales_assets_tests.services.partner_orders.rabbitmq_node import RabbitMQNode

pytestmark = pytest.mark.broker
Query = Callable[..., list[tuple[object, ...]]]

STAGED = "SELECT message_id FROM staging.partner_order_event ORDER BY message_id"
WAITING = "SELECT count(*) FROM orders.outbox WHERE published_at IS NULL"


@pytest.fixture(scope="module")
def one_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQNode]:
    """One node shared by the tests of this module, because a node takes seconds to start."""
    node = RabbitMQNode(Path(tmp_path_factory.mktemp("rabbitmq")))
    try:
        yield node
    finally:
        node.kill()


@pytest.fixture
def node(one_node: RabbitMQNode) -> RabbitMQNode:
    """A running RabbitMQ node that the test may kill and start."""
    one_node.start()
    return one_node


@pytest.fixture
def nodes_broker(node: RabbitMQNode) -> Iterator[Broker]:
    """The broker of `node`, with separate names for the test."""
    with unique_names(node.url) as broker:
        yield broker


needs_node = pytest.mark.xdist_group("rabbitmq_node")


def event(order_id: int, kind: str = "accepted") -> bytes:
    """Return a message as the relay publishes it."""
    return json.dumps(
        {
            "message_id": f"8-{order_id}-{kind}",
            "kind": kind,
            "project_id": 8,
            "kodpost": 116897,
            "order_id": order_id,
            "their_order_id": "777",
            "their_pharmacy_id": "1086",
            "phone": "79997772211",
            "dated_at": "2024-06-20T03:14:44Z",
            "lines": [{"line_no": 1, "their_id": "58", "price": "10", "count": 1}],
        }
    ).encode()


def test_an_order_and_its_cancel_are_staged(start: Start, broker: Broker, query: Query) -> None:
    service = start(broker=broker, parts=ALL_PARTS)
    service.post(order())
    service.delete({"order_id": 10, "their_order_id": "777"})
    until(lambda: query(STAGED) == [("8-10-accepted",), ("8-10-cancelled",)])
    assert query(
        "SELECT project_id, kodpost, order_id, their_order_id, their_pharmacy_id, phone, dated_at::text, "
        "jsonb_array_length(lines) FROM staging.partner_order_event WHERE kind = 'accepted'"
    ) == [(8, 116897, 10, "777", "1086", "79997772211", "2024-06-20 03:14:44.615+00", 2)]
    assert "Test" not in str(query("SELECT * FROM staging.partner_order_event"))
    assert service.get("/ready").json() == {
        "ready": True,
        "degraded": [],
        "checks": {"database": "ok", "broker": "ok", "partner": "ok"},
    }
    assert service.metric("orders_outbox_depth") == 0


def test_done_order_is_announced_once(start: Start, broker: Broker, query: Query) -> None:
    service = start(broker=broker, parts=ALL_PARTS)
    service.post(order())
    service.partner.set_status(777, "done")
    for _ in range(3):
        service.get("/v2/orders/10")
    until(lambda: query(STAGED) == [("8-10-accepted",), ("8-10-done",)])


@needs_node
def test_orders_work_without_a_broker_and_events_are_published_later(
    start: Start, node: RabbitMQNode, nodes_broker: Broker, query: Query
) -> None:
    service = start(broker=nodes_broker, parts=ALL_PARTS)
    node.kill()
    # The broker is started only after the requests: a request that waited for it would time out.
    for number in range(5):
        assert service.post(order(number)).json()["result"] == "success"
        theirs = str(777 + number)
        assert service.delete({"order_id": number, "their_order_id": theirs}).json() == {"result": "success"}
    assert query(WAITING) == [(10,)]
    until(lambda: service.metric("orders_relay_retries_total") >= 2)
    assert service.metric("orders_outbox_depth") == 10
    assert service.metric("orders_outbox_oldest_seconds") > 0
    node.start()
    until(lambda: len(query(STAGED)) == 10)
    # The events of each order were published in order.
    assert query(
        "SELECT count(*) FROM orders.outbox a JOIN orders.outbox b USING (order_id) "
        "WHERE a.event_no < b.event_no AND a.published_at > b.published_at"
    ) == [(0,)]


@needs_node
def test_killed_broker_loses_no_confirmed_event(
    start: Start, node: RabbitMQNode, nodes_broker: Broker, query: Query
) -> None:
    service = start(broker=nodes_broker, parts=["relay"])
    for number in range(20):
        service.post(order(number))
    until(lambda: query(WAITING) == [(0,)])
    assert query(STAGED) == []
    node.kill()
    node.start()
    start(broker=nodes_broker, parts=["consumer"])
    until(lambda: len(query(STAGED)) == 20)


def test_event_published_twice_after_a_relay_kill_is_staged_once(start: Start, broker: Broker, query: Query) -> None:
    service = start(broker=broker, parts=["relay"])
    service.post(order())
    until(lambda: query(WAITING) == [(0,)])
    # The state left by a relay that is killed after the broker's confirm and before its commit.
    query("UPDATE orders.outbox SET published_at = NULL")
    until(lambda: query(WAITING) == [(0,)])
    assert queued(broker, broker.events_queue) == 2
    other = start(broker=broker, parts=["consumer"])
    until(lambda: other.metric("orders_events_consumed_total", outcome="repeated") == 1)
    assert query(STAGED) == [("8-10-accepted",)]


def test_standby_relay_takes_over_from_a_killed_relay(
    start: Start, broker: Broker, query: Query, warehouse_url: str
) -> None:
    service = start(broker=NO_BROKER)
    with process_running(warehouse_url, broker, "relay") as first:
        until(lambda: _leads(query) == 1)
        start(broker=broker, parts=["relay"])
        for number in range(10):
            service.post(order(number))
        first.kill()
        until(lambda: query(WAITING) == [(0,)])
    assert queued(broker, broker.events_queue) >= 10


def _leads(query: Query) -> int:
    rows = query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7205003 AND granted")
    return int(str(rows[0][0]))


def test_killed_consumer_neither_loses_nor_duplicates_events(
    start: Start, broker: Broker, query: Query, warehouse_url: str
) -> None:
    service = start(broker=broker, parts=["relay"])
    with process_running(warehouse_url, broker, "consumer") as consumer:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: service.post(order(number)), range(100)))
        until(lambda: len(query(STAGED)) > 0)
        consumer.kill()
    until(lambda: query(WAITING) == [(0,)])
    start(broker=broker, parts=["consumer"])
    until(lambda: len(query(STAGED)) == 100)
    until(lambda: queued(broker, broker.events_queue) == 0)
    assert queued(broker, broker.dead_queue) == 0


def test_events_are_acknowledged_after_the_commit(
    start: Start, broker: Broker, query: Query, warehouse_url: str
) -> None:
    publish(broker, event(1), message_id="8-1-accepted")
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
        "AND application_name = 'sales_assets consumer'"
    )
    with psycopg.connect(warehouse_url) as lock_session:
        lock_session.execute("LOCK TABLE staging.partner_order_event IN ACCESS EXCLUSIVE MODE")
        with process_running(warehouse_url, broker, "consumer") as consumer:
            until(lambda: query(waiting) == [(1,)])
            consumer.kill()
        query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sales_assets consumer' "
            "AND datname = current_database()"
        )
        until(lambda: query(waiting) == [(0,)])
    assert query(STAGED) == []
    start(broker=broker, parts=["consumer"])
    until(lambda: query(STAGED) == [("8-1-accepted",)])


def test_the_phone_of_an_erased_person_is_not_staged(start: Start, broker: Broker, query: Query) -> None:
    """A message queued during the erasure is staged with the pseudonym; with another secret it stays in the queue."""
    secret, other = "the key of the tests' pseudonyms", "another key of the tests"
    pseudonyms = Pseudonyms(secret)
    (pseudonym,) = pseudonyms.of(["79997772211"])
    query("INSERT INTO mailings.erased_phone (pseudonym, key_id) VALUES (%s, %s)", pseudonym, pseudonyms.key_id)
    publish(broker, event(1).replace(b"79997772211", b"8 (999) 777-22-11"))
    publish(broker, event(2).replace(b"79997772211", b"79990000000"))
    with capture_logs() as logs:
        start(broker=broker, parts=["consumer"], sales_erasure_secret=other, partnerapi_rabbitmq_retries_sleep=0.1)
        until(lambda: any("another SALES_ERASURE_SECRET" in log.get("reason", "") for log in logs))
    assert query(STAGED) == []
    start(broker=broker, parts=["consumer"], sales_erasure_secret=secret)
    until(lambda: len(query(STAGED)) == 2)
    assert query("SELECT phone FROM staging.partner_order_event ORDER BY order_id") == [(pseudonym,), ("79990000000",)]


def test_message_that_cannot_be_stored_does_not_block_others(start: Start, broker: Broker, query: Query) -> None:
    publish(broker, event(1).replace(b"79997772211", b"7\\u0000"), message_id="bad")
    publish(broker, event(2))
    service = start(broker=broker, parts=["consumer"])
    until(lambda: query(STAGED) == [("8-2-accepted",)])
    until(lambda: queued(broker, broker.dead_queue) == 1)
    assert service.metric("orders_events_consumed_total", outcome="dead") == 1


def test_unreadable_messages_become_dead_letters_and_others_are_staged(
    start: Start, broker: Broker, query: Query
) -> None:
    publish(broker, b"no JSON", message_id="bad-1")
    publish(broker, event(1))
    publish(broker, b'{"message_id": "bad-2"}', message_id="bad-2")
    publish(broker, event(2, "cancelled"), kind="cancelled")
    service = start(broker=broker, parts=["consumer"])
    until(lambda: query(STAGED) == [("8-1-accepted",), ("8-2-cancelled",)])
    until(lambda: queued(broker, broker.dead_queue) == 2)
    assert service.metric("orders_events_consumed_total", outcome="retried") == 2 * (TRIES - 1)
    assert service.metric("orders_events_consumed_total", outcome="dead") == 2


def test_unroutable_message_stays_in_the_outbox_until_the_next_attempt(
    start: Start, broker: Broker, query: Query
) -> None:
    service = start(broker=broker, parts=["relay"])
    service.post(order(1))
    until(lambda: query(WAITING) == [(0,)])

    async def unbind(channel: AbstractChannel) -> None:
        queue = await channel.get_queue(broker.events_queue, ensure=False)
        exchange = await channel.get_exchange(broker.name, ensure=False)
        await queue.unbind(exchange, "accepted")

    with_channel(broker, unbind)
    service.post(order(2))
    until(lambda: service.metric("orders_confirm_failures_total", reason="returned") >= 1)
    # The relay declares its queues on each attempt, so the next attempt publishes the event.
    until(lambda: query(WAITING) == [(0,)])
    assert queued(broker, broker.events_queue) == 2


def test_deleted_queue_is_declared_again(start: Start, broker: Broker, query: Query) -> None:
    service = start(broker=broker, parts=ALL_PARTS)
    service.post(order(1))
    until(lambda: len(query(STAGED)) == 1)
    with_channel(broker, lambda channel: channel.queue_delete(broker.events_queue))
    service.post(order(2))
    until(lambda: len(query(STAGED)) == 2)


@needs_node
def test_relay_with_unlimited_retries_resumes_when_the_broker_is_back(
    start: Start, node: RabbitMQNode, nodes_broker: Broker, query: Query
) -> None:
    node.kill()
    service = start(
        broker=nodes_broker,
        parts=["relay"],
        partnerapi_rabbitmq_retries_count=-1,
        partnerapi_rabbitmq_retries_sleep=0.05,
    )
    service.post(order())
    until(lambda: service.metric("orders_relay_retries_total") > 10)
    assert service.metric("orders_relay_failing_seconds") > 0
    assert query(WAITING) == [(1,)]
    node.start()
    until(lambda: query(WAITING) == [(0,)])
    until(lambda: service.metric("orders_relay_failing_seconds") == 0)


def test_unconfirmed_message_does_not_affect_other_confirmations() -> None:
    class Exchange:
        async def publish(self, message: aio_pika.Message, routing_key: str, *, mandatory: bool) -> None:
            assert mandatory
            assert message.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
            if routing_key == "done":
                await asyncio.Event().wait()
            if routing_key == "cancelled":
                raise ConnectionError

    events = [OrderEvent.model_validate_json(event(1, kind)) for kind in ("accepted", "done", "cancelled")]
    exchange = cast("AbstractExchange", Exchange())
    responses = asyncio.run(publish_all(exchange, events, 0.1))
    assert [type(response) for response in responses] == [type(None), TimeoutError, ConnectionError]
