"""Repository of orders: rows stored in one batch do not wait for each other's locks."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg

from sales_assets.simulators.partner_api import Answer
from sales_assets_tests.services.partner_orders.conftest import Start
from sales_assets_tests.services.partner_orders.fixtures import order, until

Query = Callable[..., list[tuple[object, ...]]]


def test_locked_order_does_not_block_other_orders(start: Start, query: Query, warehouse_url: str) -> None:
    service = start()
    service.partner.answer("create", Answer(404))
    service.post(order(1))  # failed, so it may be retried
    with psycopg.connect(warehouse_url) as somebody, ThreadPoolExecutor(8) as pool:
        somebody.execute("SELECT FROM orders.partner_order WHERE order_id = 1 FOR UPDATE")
        locked = pool.submit(service.post, order(1))
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        until(lambda: query(waits) != [(0,)])
        others = [pool.submit(service.post, order(number)) for number in range(2, 7)]
        assert {other.result().json()["result"] for other in others} == {"success"}
        response = locked.result()
    assert (response.status_code, response.json()["data"]["service_error"]) == (503, True)
    assert service.post(order(1)).json()["result"] == "success"


def test_answers_about_an_erased_order_are_stored_without_messages(start: Start, query: Query) -> None:
    """The partner may answer after `sales-assets forget`, and quote the name or the phone."""
    service = start()
    service.partner.answer("create", Answer(404))
    service.post(order(1))
    query("UPDATE orders.partner_order SET phone = 'erased:' || repeat('0', 64), refusal = NULL RETURNING 1")
    message = "Test, 79997772211 is blocked"
    service.partner.answer("create", Answer(200, {"status": "error", "errors": message}))
    assert service.post(order(1)).json()["result"] == "error"
    assert query("SELECT phone LIKE 'erased:%', refusal ->> 'message' FROM orders.partner_order") == [(True, "erased")]
