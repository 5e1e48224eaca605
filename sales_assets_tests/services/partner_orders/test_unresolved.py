"""Creates and cancels of unknown outcome, one situation per test: each is resolved, and none is carried out twice."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from sales_assets.postgres.embedded import EmbeddedPostgres
from sales_assets.simulators.partner_api import Answer
from sales_assets_tests.services.partner_orders.conftest import Start
from sales_assets_tests.services.partner_orders.fixtures import Service, order, order_v1, until

Query = Callable[..., list[tuple[object, ...]]]

CANCEL = {"order_id": 10, "their_order_id": "777"}
SUCCESS = {"result": "success"}
EVENTS = "SELECT message_id FROM orders.outbox ORDER BY event_no"
STATE = "SELECT state FROM orders.partner_order"
NOT_ALLOWED = {"status": "error", "errors": ["cancellation not allowed"]}
REJECTED = {"result": "order_cancel_rejected", "message": "['cancellation not allowed']"}
LOST = Answer(done=True, cut=True)
NOT_LISTED = Answer(200, {"data": {"ids": []}})
LOOKING: dict[str, Any] = {"parts": ["reconciler"], "partnerapi_reconcile_seconds": 0.1}


def refused(errors: Any) -> Answer:
    return Answer(200, {"status": "error", "errors": errors})


# --- cancels ----------------------------------------------------------------------------------------------------


def test_repeated_cancel_succeeds_after_a_lost_response(service: Service, query: Query) -> None:
    service.post(order())
    service.partner.answer("cancel", LOST)
    assert service.delete(CANCEL).json()["result"] == "transient_error"
    assert query(STATE) == [("cancel_unknown",)]
    assert service.delete(CANCEL).json() == SUCCESS  # the partner would refuse a second cancel
    assert query(EVENTS) == [("8-10-accepted",), ("8-10-cancelled",)]
    assert service.metric("order_changing_status_counter_total", service="PartnerAPI") == 1


def test_refused_cancel_with_an_unknown_status_stays_unresolved(service: Service, query: Query) -> None:
    """An unknown status may mean that an earlier cancel was carried out."""
    service.post(order())
    service.partner.answer("cancel", LOST)
    service.delete(CANCEL)
    service.partner.answer("status", Answer(200, {"status": "ok", "data": {"777": {"status": "archived"}}}))
    assert service.delete(CANCEL).json()["result"] == "transient_error"
    assert query(STATE) == [("cancel_unknown",)]
    assert service.delete(CANCEL).json() == SUCCESS


def test_refused_cancel_with_a_missing_status_stays_unresolved(service: Service, query: Query) -> None:
    """An order that the partner does not list may have been cancelled by the earlier cancel."""
    service.post(order())
    service.partner.answer("cancel", LOST)
    service.delete(CANCEL)
    service.partner.answer("status", Answer(200, {"status": "ok", "data": {}}))
    assert service.delete(CANCEL).json()["result"] == "transient_error"
    assert query(STATE) == [("cancel_unknown",)]
    assert service.delete(CANCEL).json() == SUCCESS


def test_cancel_of_an_order_cancelled_by_the_partner_succeeds(service: Service, query: Query) -> None:
    service.post(order())
    service.partner.set_status(777, "cancelled")
    assert service.delete(CANCEL).json() == SUCCESS
    assert query(EVENTS) == [("8-10-accepted",), ("8-10-cancelled",)]


def test_cancel_of_an_unknown_order_uses_the_partner_status(service: Service) -> None:
    service.post(order())
    service.partner.set_status(777, "cancelled")
    assert service.delete({"order_id": 11, "their_order_id": "777"}).json() == SUCCESS


def test_a_refused_cancel_leaves_the_order_open(service: Service, query: Query) -> None:
    service.post(order())
    service.partner.answer("cancel", Answer(200, NOT_ALLOWED))
    assert service.delete(CANCEL).json() == REJECTED
    assert query(STATE) == [("accepted",)]
    assert service.partner.seen["status"] == 1
    assert service.delete(CANCEL).json() == SUCCESS


@pytest.mark.parametrize(
    ("errors", "message"),
    [
        (["try later"], "['try later']"),
        ("busy", "busy"),
        ({"777": "locked"}, "{'777': 'locked'}"),
        ([], "HTTP response error"),
        (None, "HTTP response error"),
        ("", "HTTP response error"),
        ([""], "HTTP response error"),
    ],
)
def test_cancel_refused_for_another_reason_is_unresolved(
    service: Service, query: Query, errors: Any, message: str
) -> None:
    service.post(order())
    service.partner.answer("cancel", refused(errors))
    assert service.delete(CANCEL).json() == {"result": "transient_error", "message": message}
    assert query(STATE) == [("cancel_unknown",)]
    assert service.delete({"order_id": 5, "their_order_id": "5"}).json() == REJECTED


@pytest.mark.parametrize("errors", ["Cancellation not allowed.", {"777": ["cancellation is not allowed"]}])
def test_refused_cancel_is_recognized_in_every_shape(service: Service, errors: Any) -> None:
    service.post(order())
    service.partner.answer("cancel", refused(errors))
    assert service.delete(CANCEL).json() == {"result": "order_cancel_rejected", "message": str(errors)}


def test_refused_cancel_without_a_status_is_a_transient_error(service: Service, query: Query) -> None:
    service.post(order())
    service.partner.answer("cancel", Answer(200, NOT_ALLOWED))
    service.partner.answer("status", Answer(404))
    assert service.delete(CANCEL).json() == {"result": "transient_error", "message": "HTTP response error"}
    assert query(STATE) == [("cancel_unknown",)]


@pytest.mark.parametrize("second", [Answer(200, NOT_ALLOWED), Answer(404), Answer(429), refused("try later")])
def test_a_later_cancel_that_fails_does_not_resolve_the_earlier_one(start: Start, query: Query, second: Answer) -> None:
    service = start(**LOOKING)
    service.post(order())
    service.partner.answer("cancel", Answer(500), second)
    service.delete(CANCEL)
    service.delete(CANCEL)
    assert query(STATE) == [("cancel_unknown",)]
    # The first cancel is carried out late.
    service.partner.set_status(777, "cancelled")
    until(lambda: query(EVENTS) == [("8-10-accepted",), ("8-10-cancelled",)])


def test_cancel_is_unresolved_if_any_attempt_may_have_been_carried_out(start: Start, query: Query) -> None:
    service = start(partnerapi_http_retries_count_order=2)
    service.post(order())
    service.partner.answer("cancel", Answer(500), Answer(429))
    assert service.delete(CANCEL).json()["result"] == "transient_error"
    assert query(STATE) == [("cancel_unknown",)]
    service.partner.answer("cancel", Answer(500), Answer(200, NOT_ALLOWED))
    assert service.delete(CANCEL).json() == REJECTED
    assert query(STATE) == [("cancel_unknown",)]


def test_cancel_rejected_with_429_leaves_the_order_open(service: Service, query: Query) -> None:
    service.post(order())
    service.partner.answer("cancel", Answer(429))
    assert service.delete(CANCEL).json()["result"] == "transient_error"
    assert query(STATE) == [("accepted",)]


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (Answer(delay=1), SUCCESS),
        (Answer(200, NOT_ALLOWED, delay=1), REJECTED),
        (Answer(500, delay=1), {"result": "transient_error", "message": "HTTP response error"}),
    ],
    ids=["cancelled", "rejected", "failed"],
)
@pytest.mark.parametrize("processes", [1, 2])
def test_concurrent_equal_cancels_make_one_call(start: Start, response: Answer, expected: Any, processes: int) -> None:
    services = [start()]
    if processes == 2:
        services.append(start(partnerapi_url=services[0].partner_url))
    partner = services[0].partner
    services[0].post(order())
    partner.answer("cancel", response)
    with ThreadPoolExecutor(6) as pool:
        responses = [one.json() for one in pool.map(lambda n: services[n % processes].delete(CANCEL), range(6))]
    assert responses == [expected] * 6
    assert partner.seen["cancel"] == 1


# --- creates ----------------------------------------------------------------------------------------------------


SECOND = {
    "unknown words": (NOT_LISTED, refused("order is being processed")),
    "items": (NOT_LISTED, refused({"58": "Wrong quantity"})),
    "4xx": (NOT_LISTED, Answer(404)),
    "429": (NOT_LISTED, Answer(429)),
    "search failed": (Answer(404), None),
}


@pytest.mark.parametrize(("find", "create"), SECOND.values(), ids=SECOND)
def test_a_later_create_that_fails_does_not_resolve_the_earlier_one(
    start: Start, query: Query, find: Answer, create: Answer | None
) -> None:
    service = start(partnerapi_reconcile_seconds=0.1)
    service.partner.answer("create", LOST)
    service.post(order())
    service.partner.answer("find", find)
    service.partner.answer("create", *([create] if create else []))
    assert service.post(order()).json()["result"] == "error"
    assert query(STATE) == [("unknown",)]
    start(partnerapi_url=service.partner_url, **LOOKING)
    until(lambda: query(EVENTS) == [("8-10-accepted",)])
    assert service.post(order()).json()["their_order_id"] == "777"
    assert service.partner.orders_of(10) == [777]


@pytest.mark.parametrize(("find", "create"), SECOND.values(), ids=SECOND)
def test_create_is_unresolved_if_any_attempt_may_have_been_carried_out(
    start: Start, query: Query, find: Answer, create: Answer | None
) -> None:
    service = start(partnerapi_http_retries_count_order=2)
    service.partner.answer("find", NOT_LISTED, find)
    service.partner.answer("create", Answer(500, done=True), *([create] if create else []))
    assert service.post(order()).json()["result"] == "error"
    assert query(STATE) == [("unknown",)]
    assert service.post(order()).json()["their_order_id"] == "777"
    assert service.partner.orders_of(10) == [777]


def test_item_errors_are_reported_while_an_earlier_create_is_unresolved(service: Service) -> None:
    service.partner.answer("create", Answer(500), refused({"58": "Item not found"}))
    service.post(order())
    assert service.post(order()).json()["data"] == {
        "partner_error": None,
        "service_error": None,
        "quantity_errors": {"items": [{"their_id": "58", "ordered": 10, "available": 0}]},
        "price_errors": None,
    }


def test_cancel_with_another_id_does_not_resolve_a_create(start: Start, query: Query) -> None:
    service = start(partnerapi_reconcile_seconds=0.1)
    service.partner.answer("create", LOST)
    service.post(order())
    assert service.delete({"order_id": 10, "their_order_id": "1"}).json() == REJECTED
    assert query("SELECT state, next_check_at IS NOT NULL FROM orders.partner_order") == [("unknown", True)]
    # Same with the correct id, which the service does not know yet: both events follow once the order is found.
    assert service.delete(CANCEL).json() == SUCCESS
    start(partnerapi_url=service.partner_url, **LOOKING)
    until(lambda: query(EVENTS) == [("8-10-accepted",), ("8-10-cancelled",)])


def test_status_request_resolves_an_unresolved_create(service: Service, query: Query) -> None:
    service.partner.answer("create", LOST)
    service.post(order())
    assert service.get("/v2/orders/10").json()["status_id"] == 0
    assert query(STATE) == [("accepted",)]
    assert query(EVENTS) == [("8-10-accepted",)]


# --- failures between the partner's response and the commit ------------------------------------------------------


@contextmanager
def failing_commits(query: Query) -> Iterator[None]:
    """Make every UPDATE that stores an outcome fail in the database."""
    query(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF NEW.claim IS NULL THEN RAISE EXCEPTION 'disk full'; END IF; RETURN NEW; END $$"
    )
    query("CREATE TRIGGER fail BEFORE UPDATE ON orders.partner_order FOR EACH ROW EXECUTE FUNCTION fail()")
    yield
    query("DROP FUNCTION fail CASCADE")


def test_create_whose_outcome_was_not_stored_is_resumed_at_once(service: Service, query: Query) -> None:
    with failing_commits(query):
        response = service.post(order())
        assert (response.status_code, response.json()["data"]["service_error"]) == (503, True)
        assert query(STATE) == [("creating",)]
    start_time = time.monotonic()
    assert service.post(order()).json()["their_order_id"] == "777"
    assert time.monotonic() - start_time < 5
    assert service.partner.orders_of(10) == [777]


def test_cancel_whose_outcome_was_not_stored_is_resumed_at_once(service: Service, query: Query) -> None:
    service.post(order())
    with failing_commits(query):
        assert service.delete(CANCEL).status_code == 503
        assert query(STATE) == [("cancelling",)]
    start_time = time.monotonic()
    assert service.delete(CANCEL).json() == SUCCESS
    assert time.monotonic() - start_time < 5
    assert query(EVENTS) == [("8-10-accepted",), ("8-10-cancelled",)]


def test_reconciler_resolves_a_cancel_of_a_dead_process(start: Start, query: Query) -> None:
    service = start()
    service.post(order())
    with failing_commits(query):
        service.delete(CANCEL)
    query("UPDATE orders.partner_order SET claimed_until = now()")
    start(partnerapi_url=service.partner_url, **LOOKING)
    until(lambda: query(EVENTS) == [("8-10-accepted",), ("8-10-cancelled",)])


def test_repeated_order_succeeds_at_once_after_a_database_restart(own_server: EmbeddedPostgres, start: Start) -> None:
    service = start(database_url=own_server.url("sales"))
    try:
        service.partner.answer("create", Answer(done=True, delay=1.5))
        with ThreadPoolExecutor(1) as pool:
            response = pool.submit(service.post, order())
            until(lambda: service.partner.seen["create"])
            own_server.stop()
            assert response.result().status_code == 503
        own_server.ensure_running()
        start_time = time.monotonic()
        assert service.post(order()).json()["their_order_id"] == "777"
        assert time.monotonic() - start_time < 5
        assert service.partner.orders_of(10) == [777]
    finally:
        own_server.stop()


# --- texts that can't be stored -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["a\x00b", "a\ud800b", "a\udfffc", "\x00", "\ud83d"],
    ids=["NUL", "high", "low", "NUL only", "half an emoji"],
)
def test_texts_that_can_not_be_stored_are_replaced(start: Start, query: Query, text: str) -> None:
    service = start()
    replaced = text.replace("\x00", "\ufffd").encode("utf-8", "surrogatepass")
    readable = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in replaced.decode("utf-8", "surrogatepass"))
    # In the reason of a refusal, and in the key of the reason.
    service.partner.answer("create", refused({text: text}), refused({"58": text}))
    body = service.post(order_v1(), "/SendOrder")
    assert (body.status_code, body.json()) == (
        200,
        {"Result": "order_rejected", "Message": str({readable: readable})},
    )
    assert service.post(order_v1(), "/SendOrder").json()["Result"] == "order_rejected"
    # In an id: it differs from the partner's id, so the order has to be searched for.
    service.partner.answer("create", Answer(200, {"status": "ok", "order_id": f"77{text}"}, done=True))
    assert service.post(order_v1(), "/SendOrder").json()["Result"] == "transient_error"
    assert query(STATE) == [("unknown",)]
    assert service.post(order_v1(), "/SendOrder").json()["TheirOrderId"] == "777"
    # In a status, and in the reason for a missing status.
    service.partner.answer("status", Answer(200, {"status": "ok", "data": {"777": {"status": text}}}), refused([text]))
    assert service.get("/v2/orders/10").json()["status_id"] == -1
    response = service.get("/v2/orders/10")
    assert (response.status_code, response.json()) == (200, {"result": "error", "message": str([readable])})
    service.partner.answer("cancel", refused(f"cancellation not allowed {text}"))
    response = service.delete(CANCEL)
    assert (response.status_code, response.json()["message"]) == (200, f"cancellation not allowed {readable}")
    # In the bought items.
    service.partner.set_status(777, "done", items=[{"their_item_id": text, "bought_count": 1}])
    assert service.get("/v2/orders/10").json()["their_items"] == [{"their_item_id": readable, "bought_count": 1}]


# --- polling ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["done", "cancelled"])
def test_open_orders_are_polled(start: Start, query: Query, status: str) -> None:
    service = start(**LOOKING)
    service.post(order())
    until(lambda: service.metric("orders_reconciled_total", result="open") >= 2)
    service.partner.set_status(777, status)
    until(lambda: query(EVENTS) == [("8-10-accepted",), (f"8-10-{status}",)])
    assert query("SELECT state, next_check_at FROM orders.partner_order") == [(status, None)]


def test_polling_slows_down_and_ends_after_the_configured_days(start: Start, query: Query) -> None:
    service = start(partnerapi_poll_days=2, **LOOKING)
    service.post(order())
    assert query("SELECT round(extract(epoch FROM check_until - updated_at)) FROM orders.partner_order") == [(172800,)]
    pauses = "SELECT checks, extract(epoch FROM next_check_at - now()) FROM orders.partner_order"
    query("UPDATE orders.partner_order SET next_check_at = now(), checks = 5")
    until(lambda: query("SELECT checks FROM orders.partner_order") == [(6,)])
    assert 2 < float(str(query(pauses)[0][1])) <= 3.2
    query("UPDATE orders.partner_order SET next_check_at = now(), checks = 25")
    until(lambda: query("SELECT checks FROM orders.partner_order") == [(26,)])
    assert 3500 < float(str(query(pauses)[0][1])) <= 3600
    query("UPDATE orders.partner_order SET next_check_at = now(), check_until = now()")
    until(lambda: query("SELECT state, next_check_at FROM orders.partner_order") == [("accepted", None)])


def test_polling_can_be_turned_off(start: Start, query: Query) -> None:
    service = start(partnerapi_poll_days=0, **LOOKING)
    service.post(order())
    assert query("SELECT state, next_check_at FROM orders.partner_order") == [("accepted", None)]


def test_slow_status_response_does_not_delay_other_orders(start: Start, query: Query) -> None:
    service = start(partnerapi_http_timeout=20, **LOOKING)
    service.partner.answer("status", Answer(delay=20))
    service.post(order(10))
    until(lambda: service.partner.seen["status"] == 1)
    service.post(order(11))
    service.partner.set_status(778, "done")
    until(lambda: ("8-11-done",) in query(EVENTS), seconds=10)
