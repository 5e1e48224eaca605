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
