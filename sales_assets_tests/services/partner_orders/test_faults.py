"""Behaviour of the service when the partner or the database fails: retries, deadlines, unknown outcomes, restarts."""

import datetime as dt
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import requests

from sales_assets.postgres.embedded import EmbeddedPostgres
from sales_assets.simulators.partner_api import Answer
from sales_assets_tests.services.partner_orders.conftest import NO_BROKER, Start
from sales_assets_tests.services.partner_orders.fixtures import Service, order, until
from sales_assets_tests.services.partner_orders.process import http_running

Query = Callable[..., list[tuple[object, ...]]]

PARTNER_ERROR = {
    "result": "error",
    "data": {"partner_error": True, "service_error": None, "quantity_errors": None, "price_errors": None},
}
CANCEL = {"order_id": 10, "their_order_id": "777"}
EVENTS = "SELECT message_id FROM orders.outbox ORDER BY event_no"
ROW = "SELECT state, their_order_id FROM orders.partner_order WHERE order_id = %s"


# --- attempts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Answer(500), Answer(503), Answer(429), Answer(cut=True), Answer(delay=1)])
@pytest.mark.parametrize(("count", "attempts"), [(3, 3), (1, 1), (0, 1)])
def test_reads_are_attempted_exactly_count_times(start: Start, fault: Answer, count: int, attempts: int) -> None:
    service = start(partnerapi_http_retries_count=count, partnerapi_http_timeout=0.3)
    service.partner.answer("find", *[fault] * 9)
    service.partner.answer("status", *[fault] * 9)
    assert service.post(order()).json() == PARTNER_ERROR
    assert service.get("/v2/orders/1", their_order_id="1").json()["result"] == "error"
    assert (service.partner.seen["find"], service.partner.seen["status"]) == (attempts, attempts)
    assert service.partner.seen["create"] == 0
    assert service.metric("partner_retries_total", operation="find") == attempts - 1


@pytest.mark.parametrize("fault", [Answer(404), Answer(400), Answer(200, "<html>"), Answer(200, {})])
def test_permanent_errors_are_not_retried(start: Start, fault: Answer) -> None:
    service = start(partnerapi_http_retries_count_order=3)
    service.partner.answer("status", fault)
    service.partner.answer("create", fault)
    service.get("/v2/orders/1", their_order_id="1")
    assert service.post(order()).json() == PARTNER_ERROR
    assert (service.partner.seen["status"], service.partner.seen["create"]) == (1, 1)


@pytest.mark.parametrize("count", [1, 3])
def test_creates_are_attempted_exactly_count_times_each_after_a_search(start: Start, count: int) -> None:
    service = start(partnerapi_http_retries_count_order=count)
    service.partner.answer("create", *[Answer(500)] * 9)
    service.partner.answer("cancel", *[Answer(500)] * 9)
    assert service.post(order()).json() == PARTNER_ERROR
    service.delete({"order_id": 1, "their_order_id": "1"})
    assert service.partner.seen == {"find": count, "create": count, "cancel": count}


def test_create_carried_out_despite_an_error_is_found_before_the_retry(start: Start) -> None:
    service = start(partnerapi_http_retries_count_order=3)
    service.partner.answer("create", Answer(500, done=True))
    assert service.post(order()).json()["their_order_id"] == "777"
    assert service.partner.seen["create"] == 1


def test_pauses_and_attempts_end_with_the_deadline(start: Start) -> None:
    service = start(partnerapi_http_retries_count=100, partnerapi_http_retries_sleep=0.4, partnerapi_deadline=1.5)
    service.partner.answer("find", *[Answer(500)] * 100)
    assert service.post(order()).json() == PARTNER_ERROR
    assert 2 <= service.partner.seen["find"] <= 4


def test_slow_partner_is_an_error_after_the_deadline(start: Start) -> None:
    service = start(partnerapi_http_timeout=120, partnerapi_deadline=0.5)
    service.partner.answer("find", Answer(delay=60))
    start_time = time.monotonic()
    assert service.post(order()).json() == PARTNER_ERROR
    assert time.monotonic() - start_time < 20


def test_circuit_breaker_stops_calls_to_a_failing_partner_for_a_pause(start: Start) -> None:
    service = start(partnerapi_http_retries_count=1, partnerapi_breaker_failures=3, partnerapi_breaker_seconds=1)
    service.partner.answer("find", *[Answer(500)] * 3)
    for number in range(6):
        assert service.post(order(number)).json() == PARTNER_ERROR
    assert service.partner.seen["find"] == 3
    assert service.metric("partner_circuit_open") == 1
    response = until(lambda: service.post(order(5)).json()["result"] == "success", seconds=10)
    assert response
    assert service.metric("partner_circuit_open") == 0


# --- unknown outcomes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Answer(done=True, delay=5), Answer(done=True, cut=True), Answer(500, done=True)])
def test_repeated_order_of_unknown_outcome_returns_the_first_id(start: Start, query: Query, fault: Answer) -> None:
    service = start(partnerapi_http_timeout_order=0.3)
    service.partner.answer("create", fault)
    assert service.post(order()).json() == PARTNER_ERROR
    assert query(ROW, 10) == [("unknown", None)]
    assert service.metric("orders_unknown", what="create") == 1
    assert service.post(order()).json()["their_order_id"] == "777"
    assert service.partner.orders_of(10) == [777]
    assert query("SELECT message_id FROM orders.outbox") == [("8-10-accepted",)]


def test_reconciler_finds_a_create_that_was_carried_out(start: Start, query: Query) -> None:
    service = start(partnerapi_http_timeout_order=0.3, partnerapi_reconcile_seconds=0.2, parts=["reconciler"])
    service.partner.answer("create", Answer(done=True, delay=5))
    assert service.post(order()).json() == PARTNER_ERROR
    until(lambda: query(ROW, 10) == [("accepted", "777")])
    assert query("SELECT message_id FROM orders.outbox") == [("8-10-accepted",)]
    assert service.post(order()).json()["their_order_id"] == "777"
    assert service.partner.seen["create"] == 1


def test_reconciler_checks_an_unknown_create_repeatedly(start: Start, query: Query) -> None:
    service = start(partnerapi_reconcile_seconds=0.2, parts=["reconciler"])
    service.partner.answer("create", Answer(500))
    service.post(order())
    until(lambda: service.metric("orders_reconciled_total", result="not_found") >= 2)
    assert query(ROW, 10) == [("unknown", None)]


def test_the_reconciler_gives_up_after_a_day(start: Start, query: Query) -> None:
    service = start(partnerapi_reconcile_seconds=0.2, parts=["reconciler"])
    service.partner.answer("create", Answer(500))
    service.post(order())
    query("UPDATE orders.partner_order SET check_until = now()")
    until(lambda: query(ROW, 10) == [("failed", None)])


def test_reconciler_resolves_a_create_of_a_dead_process(start: Start, query: Query) -> None:
    service = start(partnerapi_reconcile_seconds=0.2)
    service.post(order())
    # The state left by a process that is killed between the partner's response and its commit.
    query("DELETE FROM orders.outbox")
    query(
        "UPDATE orders.partner_order SET state = 'creating', their_order_id = NULL, claim = 'gone', "
        "claimed_until = now() - interval '1 second', next_check_at = now()"
    )
    again = start(partner=service.partner, partnerapi_reconcile_seconds=0.2, parts=["reconciler"])
    until(lambda: query(ROW, 10) == [("accepted", "777")])
    assert query("SELECT message_id FROM orders.outbox") == [("8-10-accepted",)]
    assert again.partner.orders_of(10) == [777]


def test_reconciler_of_another_process_resolves_a_create_interrupted_by_a_kill(
    start: Start, query: Query, warehouse_url: str
) -> None:
    other = start(parts=["reconciler"], partnerapi_reconcile_seconds=0.2)
    other.partner.answer("create", Answer(done=True, delay=60))
    with http_running(warehouse_url, NO_BROKER, PARTNERAPI_URL=other.partner_url) as (url, process):
        with ThreadPoolExecutor(1) as pool:
            response = pool.submit(requests.post, f"{url}/v2/orders/", json=order(), timeout=60)
            until(lambda: other.partner.orders_of(10))
            process.kill()
        assert isinstance(response.exception(), requests.ConnectionError)
    assert query(ROW, 10) == [("creating", None)]
    # A claim can be taken over only after it lapses; the test does not wait for that.
    query("UPDATE orders.partner_order SET claimed_until = now() - interval '1 second'")
    until(lambda: query(ROW, 10) == [("accepted", "777")])
    assert other.post(order()).json()["their_order_id"] == "777"
    assert other.partner.orders_of(10) == [777]
    assert query("SELECT message_id FROM orders.outbox") == [("8-10-accepted",)]


def test_reconciler_resolves_a_cancel_of_unknown_outcome(start: Start, query: Query) -> None:
    service = start(partnerapi_reconcile_seconds=0.2, parts=["reconciler"])
    service.post(order())
    service.partner.answer("cancel", Answer(done=True, cut=True))
    assert service.delete({"order_id": 10, "their_order_id": "777"}).json()["result"] == "transient_error"
    until(lambda: ("8-10-cancelled",) in query("SELECT message_id FROM orders.outbox"))
    assert service.delete({"order_id": 10, "their_order_id": "777"}).json() == {"result": "success"}
    assert service.partner.seen["cancel"] == 1


def test_an_unresolved_cancel_is_checked_until_the_order_was_open_for_a_day(start: Start, query: Query) -> None:
    service = start(partnerapi_reconcile_seconds=0.2, parts=["reconciler"])
    service.post(order())
    service.partner.answer("cancel", Answer(500))
    assert service.delete(CANCEL).json()["result"] == "transient_error"
    until(lambda: service.metric("orders_reconciled_total", result="not_cancelled") >= 2)
    assert query(ROW, 10) == [("cancel_unknown", "777")]
    assert service.metric("orders_unknown", what="cancel") == 1
    query("UPDATE orders.partner_order SET check_until = now(), next_check_at = now()")
    until(lambda: query(ROW, 10) == [("accepted", "777")])
    # The order is still polled: a cancel that is carried out even later is still recorded as a cancellation.
    service.partner.set_status(777, "cancelled")
    until(lambda: query(EVENTS) == [("8-10-accepted",), ("8-10-cancelled",)])


def test_repeating_a_failed_order_tries_again(start: Start, query: Query) -> None:
    service = start()
    service.partner.answer("create", Answer(404))
    assert service.post(order()).json() == PARTNER_ERROR
    assert query(ROW, 10) == [("failed", None)]
    assert service.post(order(comment="other")).status_code == 409
    assert service.post(order()).json()["result"] == "success"


# --- concurrent requests ----------------------------------------------------------------------------------------


def test_concurrent_equal_orders_create_one_order(service: Service) -> None:
    service.partner.answer("create", Answer(delay=0.5))
    with ThreadPoolExecutor(20) as pool:
        responses = list(pool.map(lambda _: service.post(order()).text, range(20)))
    assert len(set(responses)) == 1
    assert service.partner.orders_of(10) == [777]
    assert service.partner.seen["create"] == 1


def test_concurrent_equal_orders_at_two_processes_create_one_order(start: Start) -> None:
    first = start()
    second = start(partnerapi_url=first.partner_url)
    first.partner.answer("create", Answer(delay=1))
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda n: (first, second)[n % 2].post(order()).text, range(8)))
    assert len(set(responses)) == 1
    assert first.partner.orders_of(10) == [777]
    assert first.partner.seen["create"] == 1


def test_partner_error_is_returned_to_all_concurrent_requests(start: Start) -> None:
    first = start()
    second = start(partnerapi_url=first.partner_url)
    first.partner.answer("create", Answer(500, delay=1))
    with ThreadPoolExecutor(8) as pool:
        responses = [future.json() for future in pool.map(lambda n: (first, second)[n % 2].post(order()), range(8))]
    assert responses == [PARTNER_ERROR] * 8
    assert first.partner.seen["create"] == 1


def test_slow_call_renews_its_claim(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sales_assets.services.partner_orders.repository.LEASE", dt.timedelta(seconds=2))
    monkeypatch.setattr("sales_assets.services.partner_orders.service.RENEW_SECONDS", 0.2)
    first = start(partnerapi_http_timeout_order=20, partnerapi_poll_days=0)
    second = start(partnerapi_url=first.partner_url, parts=["reconciler"], partnerapi_reconcile_seconds=0.2)
    first.partner.answer("create", Answer(delay=5))
    with ThreadPoolExecutor(1) as pool:
        response = pool.submit(first.post, order())
        until(lambda: first.partner.seen["create"])
        assert second.post(order()).json() == response.result().json()
    # Neither the second process nor its reconciler took over the order.
    assert first.partner.seen == {"find": 1, "create": 1}
    assert second.metric("orders_reconciled_total") == 0


def test_different_body_during_a_create_is_a_conflict(service: Service) -> None:
    service.partner.answer("create", Answer(delay=1))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(service.post, order())
        until(lambda: service.partner.seen["create"])
        assert service.post(order(comment="other")).status_code == 409
        assert first.result().json()["result"] == "success"


# --- the database -----------------------------------------------------------------------------------------------


def test_unreachable_database_is_503_without_a_partner_call(own_server: EmbeddedPostgres, start: Start) -> None:
    service = start(database_url=own_server.url("sales"))
    try:
        assert service.post(order(1)).json()["result"] == "success"
        own_server.stop()
        responses = [
            service.post(order(2)),
            service.get("/v2/orders/2"),
            service.delete({"order_id": 2, "their_order_id": "1"}),
        ]
        assert [response.status_code for response in responses] == [503, 503, 503]
        assert responses[0].json()["data"]["service_error"] is True
        assert service.partner.seen == {"find": 1, "create": 1}
        assert service.get("/ready").json()["checks"]["database"] != "ok"
        assert service.get("/health").status_code == 200
        own_server.ensure_running()
        # The first request after the restart already succeeds, despite stale connections in the pool.
        assert service.post(order(2)).json()["result"] == "success"
    finally:
        own_server.stop()


def test_database_restart_between_create_and_commit_loses_no_order(own_server: EmbeddedPostgres, start: Start) -> None:
    service = start(database_url=own_server.url("sales"), parts=["reconciler"], partnerapi_reconcile_seconds=0.2)
    try:
        service.partner.answer("create", Answer(done=True, delay=1.5))
        with ThreadPoolExecutor(1) as pool:
            response = pool.submit(service.post, order())
            until(lambda: service.partner.seen["create"])
            own_server.stop()
            result = response.result()
        assert (result.status_code, result.json()["data"]["service_error"]) == (503, True)
        own_server.ensure_running()
        with psycopg.connect(own_server.url("sales"), autocommit=True) as connection:
            # The claim of a running process is not taken over before it lapses.
            connection.execute("UPDATE orders.partner_order SET claimed_until = now() - interval '1 second'")
            until(lambda: connection.execute("SELECT state FROM orders.partner_order").fetchall() == [("accepted",)])
            assert connection.execute("SELECT message_id FROM orders.outbox").fetchall() == [("8-10-accepted",)]
        assert service.partner.orders_of(10) == [777]
    finally:
        own_server.stop()


def test_order_is_completed_after_the_caller_disconnects(service: Service, query: Query) -> None:
    service.partner.answer("create", Answer(delay=1))
    with pytest.raises(requests.Timeout):
        requests.post(f"{service.url}/v2/orders/", json=order(), timeout=0.5)
    until(lambda: query(ROW, 10) == [("accepted", "777")])
