"""What the service does when the partner or the database fails: attempts, deadlines, unknown outcomes, restarts."""

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
def test_reads_are_tried_exactly_count_times(start: Start, fault: Answer, count: int, attempts: int) -> None:
    service = start(partnerapi_http_retries_count=count, partnerapi_http_timeout=0.3)
    service.partner.answer("find", *[fault] * 9)
    service.partner.answer("status", *[fault] * 9)
    assert service.post(order()).json() == PARTNER_ERROR
    assert service.get("/v2/orders/1", their_order_id="1").json()["result"] == "error"
    assert (service.partner.seen["find"], service.partner.seen["status"]) == (attempts, attempts)
    assert service.partner.seen["create"] == 0
    assert service.metric("partner_retries_total", operation="find") == attempts - 1


@pytest.mark.parametrize("fault", [Answer(404), Answer(400), Answer(200, "<html>"), Answer(200, {})])
def test_what_is_no_fault_of_the_network_is_not_tried_again(start: Start, fault: Answer) -> None:
    service = start(partnerapi_http_retries_count_order=3)
    service.partner.answer("status", fault)
    service.partner.answer("create", fault)
    service.get("/v2/orders/1", their_order_id="1")
    assert service.post(order()).json() == PARTNER_ERROR
    assert (service.partner.seen["status"], service.partner.seen["create"]) == (1, 1)


@pytest.mark.parametrize("count", [1, 3])
def test_creates_are_tried_exactly_count_times_each_after_a_look(start: Start, count: int) -> None:
    service = start(partnerapi_http_retries_count_order=count)
    service.partner.answer("create", *[Answer(500)] * 9)
    service.partner.answer("cancel", *[Answer(500)] * 9)
    assert service.post(order()).json() == PARTNER_ERROR
    service.delete({"order_id": 1, "their_order_id": "1"})
    assert service.partner.seen == {"find": count, "create": count, "cancel": count}


def test_a_create_that_was_done_is_found_before_the_next_attempt(start: Start) -> None:
    service = start(partnerapi_http_retries_count_order=3)
    service.partner.answer("create", Answer(500, done=True))
    assert service.post(order()).json()["their_order_id"] == "777"
    assert service.partner.seen["create"] == 1


def test_pauses_and_attempts_end_with_the_deadline(start: Start) -> None:
    service = start(partnerapi_http_retries_count=100, partnerapi_http_retries_sleep=0.4, partnerapi_deadline=1.5)
    service.partner.answer("find", *[Answer(500)] * 100)
    began = time.monotonic()
    assert service.post(order()).json() == PARTNER_ERROR
    assert time.monotonic() - began < 3
    assert 2 <= service.partner.seen["find"] <= 4


def test_a_slow_partner_is_answered_for_by_the_deadline(start: Start) -> None:
    service = start(partnerapi_http_timeout=30, partnerapi_deadline=0.5)
    service.partner.answer("find", Answer(delay=5))
    began = time.monotonic()
    assert service.post(order()).json() == PARTNER_ERROR
    assert time.monotonic() - began < 3


def test_a_partner_that_is_down_is_left_alone_and_tried_again(start: Start) -> None:
    service = start(partnerapi_http_retries_count=1, partnerapi_breaker_failures=3, partnerapi_breaker_seconds=1)
    service.partner.answer("find", *[Answer(500)] * 3)
    for number in range(6):
        assert service.post(order(number)).json() == PARTNER_ERROR
    assert service.partner.seen["find"] == 3
    assert service.metric("partner_circuit_open") == 1
    answer = until(lambda: service.post(order(5)).json()["result"] == "success", seconds=10)
    assert answer
    assert service.metric("partner_circuit_open") == 0


# --- unknown outcomes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Answer(done=True, delay=5), Answer(done=True, cut=True), Answer(500, done=True)])
def test_the_repeated_order_succeeds_with_the_first_ones_id(start: Start, query: Query, fault: Answer) -> None:
    service = start(partnerapi_http_timeout_order=0.3)
    service.partner.answer("create", fault)
    assert service.post(order()).json() == PARTNER_ERROR
    assert query(ROW, 10) == [("unknown", None)]
    assert service.metric("orders_unknown", what="create") == 1
    assert service.post(order()).json()["their_order_id"] == "777"
    assert service.partner.orders_of(10) == [777]
    assert query("SELECT message_id FROM orders.outbox") == [("8-10-accepted",)]


def test_the_reconciler_finds_a_create_that_was_done(start: Start, query: Query) -> None:
    service = start(partnerapi_http_timeout_order=0.3, partnerapi_reconcile_seconds=0.2, parts=["reconciler"])
    service.partner.answer("create", Answer(done=True, delay=5))
    assert service.post(order()).json() == PARTNER_ERROR
    until(lambda: query(ROW, 10) == [("accepted", "777")])
    assert query("SELECT message_id FROM orders.outbox") == [("8-10-accepted",)]
    assert service.post(order()).json()["their_order_id"] == "777"
    assert service.partner.seen["create"] == 1


def test_the_reconciler_goes_on_looking(start: Start, query: Query) -> None:
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


def test_a_process_that_died_over_a_create_leaves_it_to_the_reconciler(start: Start, query: Query) -> None:
    service = start(partnerapi_reconcile_seconds=0.2)
    service.post(order())
    # As the process would have left it that was killed between the partner's answer and its own commit.
    query("DELETE FROM orders.outbox")
    query(
        "UPDATE orders.partner_order SET state = 'creating', their_order_id = NULL, claim = 'gone', "
        "claimed_until = now() - interval '1 second', next_check_at = now()"
    )
    again = start(partner=service.partner, partnerapi_reconcile_seconds=0.2, parts=["reconciler"])
    until(lambda: query(ROW, 10) == [("accepted", "777")])
    assert query("SELECT message_id FROM orders.outbox") == [("8-10-accepted",)]
    assert again.partner.orders_of(10) == [777]


def test_a_service_that_is_killed_over_a_create_is_followed_by_the_next(
    start: Start, query: Query, warehouse_url: str
) -> None:
    other = start(parts=["reconciler"], partnerapi_reconcile_seconds=0.2)
    other.partner.answer("create", Answer(done=True, delay=60))
    with http_running(warehouse_url, NO_BROKER, PARTNERAPI_URL=other.partner_url) as (url, process):
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(requests.post, f"{url}/v2/orders/", json=order(), timeout=60)
            until(lambda: other.partner.orders_of(10))
            process.kill()
        assert isinstance(answer.exception(), requests.ConnectionError)
    assert query(ROW, 10) == [("creating", None)]
    # Nobody takes a claim over before it lapses; the test does not wait for that.
    query("UPDATE orders.partner_order SET claimed_until = now() - interval '1 second'")
    until(lambda: query(ROW, 10) == [("accepted", "777")])
    assert other.post(order()).json()["their_order_id"] == "777"
    assert other.partner.orders_of(10) == [777]
    assert query("SELECT message_id FROM orders.outbox") == [("8-10-accepted",)]


def test_a_cancel_of_unknown_outcome_is_settled(start: Start, query: Query) -> None:
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
    # The order is still polled: a cancel that is carried out even later becomes a refund all the same.
    service.partner.set_status(777, "cancelled")
    until(lambda: query(EVENTS) == [("8-10-accepted",), ("8-10-cancelled",)])


def test_a_failure_that_left_nothing_behind_is_tried_again_by_the_same_request(start: Start, query: Query) -> None:
    service = start()
    service.partner.answer("create", Answer(404))
    assert service.post(order()).json() == PARTNER_ERROR
    assert query(ROW, 10) == [("failed", None)]
    assert service.post(order(comment="other")).status_code == 409
    assert service.post(order()).json()["result"] == "success"


# --- at once ----------------------------------------------------------------------------------------------------


def test_equal_orders_at_once_make_one_order(service: Service) -> None:
    service.partner.answer("create", Answer(delay=0.5))
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: service.post(order()).text, range(20)))
    assert len(set(answers)) == 1
    assert service.partner.orders_of(10) == [777]
    assert service.partner.seen["create"] == 1


def test_equal_orders_at_two_processes_make_one_order(start: Start) -> None:
    first = start()
    second = start(partnerapi_url=first.partner_url)
    first.partner.answer("create", Answer(delay=1))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: (first, second)[n % 2].post(order()).text, range(8)))
    assert len(set(answers)) == 1
    assert first.partner.orders_of(10) == [777]
    assert first.partner.seen["create"] == 1


def test_a_fault_is_told_to_all_who_wait_for_it(start: Start) -> None:
    first = start()
    second = start(partnerapi_url=first.partner_url)
    first.partner.answer("create", Answer(500, delay=1))
    with ThreadPoolExecutor(8) as pool:
        answers = [future.json() for future in pool.map(lambda n: (first, second)[n % 2].post(order()), range(8))]
    assert answers == [PARTNER_ERROR] * 8
    assert first.partner.seen["create"] == 1


def test_a_call_that_takes_long_keeps_its_claim(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sales_assets.services.partner_orders.repository.LEASE", dt.timedelta(seconds=2))
    monkeypatch.setattr("sales_assets.services.partner_orders.service.RENEW_SECONDS", 0.2)
    first = start(partnerapi_http_timeout_order=20, partnerapi_poll_days=0)
    second = start(partnerapi_url=first.partner_url, parts=["reconciler"], partnerapi_reconcile_seconds=0.2)
    first.partner.answer("create", Answer(delay=5))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(first.post, order())
        until(lambda: first.partner.seen["create"])
        assert second.post(order()).json() == answer.result().json()
    # Neither the second process nor its reconciler took the order for one that a dead process left.
    assert first.partner.seen == {"find": 1, "create": 1}
    assert second.metric("orders_reconciled_total") == 0


def test_another_body_meanwhile_is_a_conflict(service: Service) -> None:
    service.partner.answer("create", Answer(delay=1))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(service.post, order())
        until(lambda: service.partner.seen["create"])
        assert service.post(order(comment="other")).status_code == 409
        assert first.result().json()["result"] == "success"


# --- the database -----------------------------------------------------------------------------------------------


def test_a_database_that_is_away_is_our_own_fault_and_no_order(own_server: EmbeddedPostgres, start: Start) -> None:
    service = start(database_url=own_server.url("sales"))
    try:
        assert service.post(order(1)).json()["result"] == "success"
        own_server.stop()
        answers = [
            service.post(order(2)),
            service.get("/v2/orders/2"),
            service.delete({"order_id": 2, "their_order_id": "1"}),
        ]
        assert [answer.status_code for answer in answers] == [503, 503, 503]
        assert answers[0].json()["data"]["service_error"] is True
        assert service.partner.seen == {"find": 1, "create": 1}
        assert service.get("/ready").json()["checks"]["database"] != "ok"
        assert service.get("/health").status_code == 200
        own_server.ensure_running()
        # The first request after the restart already succeeds: stale connections are not its business.
        assert service.post(order(2)).json()["result"] == "success"
    finally:
        own_server.stop()


def test_a_restart_between_create_and_commit_loses_nothing(own_server: EmbeddedPostgres, start: Start) -> None:
    service = start(database_url=own_server.url("sales"), parts=["reconciler"], partnerapi_reconcile_seconds=0.2)
    try:
        service.partner.answer("create", Answer(done=True, delay=1.5))
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(service.post, order())
            until(lambda: service.partner.seen["create"])
            own_server.stop()
            told = answer.result()
        assert (told.status_code, told.json()["data"]["service_error"]) == (503, True)
        own_server.ensure_running()
        with psycopg.connect(own_server.url("sales"), autocommit=True) as connection:
            # The claim of a process that lives is not taken over before it lapses.
            connection.execute("UPDATE orders.partner_order SET claimed_until = now() - interval '1 second'")
            until(lambda: connection.execute("SELECT state FROM orders.partner_order").fetchall() == [("accepted",)])
            assert connection.execute("SELECT message_id FROM orders.outbox").fetchall() == [("8-10-accepted",)]
        assert service.partner.orders_of(10) == [777]
    finally:
        own_server.stop()


def test_a_caller_that_goes_away_takes_nothing_with_it(service: Service, query: Query) -> None:
    service.partner.answer("create", Answer(delay=1))
    with pytest.raises(requests.Timeout):
        requests.post(f"{service.url}/v2/orders/", json=order(), timeout=0.5)
    until(lambda: query(ROW, 10) == [("accepted", "777")])
