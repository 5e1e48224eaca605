"""Rows of concurrent callers in one statement: how they gather, and that none suffers for another."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg

from sales_assets.services.partner_orders.batches import Batches, Row, StatementRefused
from sales_assets.services.partner_orders.orders import ServiceError
from sales_assets.simulators.partner_api import Answer
from sales_assets_tests.services.partner_orders.conftest import Start
from sales_assets_tests.services.partner_orders.running import order, until

Query = Callable[..., list[tuple[object, ...]]]


class Database:
    """Notes the batches it is given; refuses those with a `bad` row, and gives nothing back for `taken` ones."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    async def execute(self, rows: Sequence[Row]) -> Sequence[Row]:
        self.batches.append([row["order_id"] for row in rows])
        await asyncio.sleep(0)
        if any(row.get("bad") for row in rows):
            raise StatementRefused("bad row")
        if any(row.get("away") for row in rows):
            raise ServiceError("away")
        return [{"order_id": row["order_id"], "n": row["n"]} for row in reversed(rows) if not row.get("taken")]


def run(database: Database, *rows: dict[str, Any]) -> list[Any]:
    async def all_at_once() -> list[Any]:
        batches = Batches(database.execute)
        return await asyncio.gather(*(batches.run(row) for row in rows), return_exceptions=True)

    return asyncio.run(all_at_once())


def test_rows_that_come_together_go_together_and_each_gets_its_own_result() -> None:
    database = Database()
    results = run(database, *({"order_id": n % 3, "n": n} for n in range(4)), {"order_id": 9, "n": 9, "taken": True})
    assert [result and result["n"] for result in results] == [0, 1, 2, 3, None]
    # A statement can't touch one row twice: the second of an order_id waits for the next.
    assert database.batches == [[0, 1, 2, 9], [0]]


def test_a_bad_row_fails_alone() -> None:
    database = Database()
    results = run(database, {"order_id": 1, "n": 1}, {"order_id": 2, "n": 2, "bad": True}, {"order_id": 3, "n": 3})
    assert isinstance(results[1], StatementRefused)
    assert [results[0]["n"], results[2]["n"]] == [1, 3]


def test_a_database_that_is_away_is_not_asked_row_by_row() -> None:
    database = Database()
    results = run(database, {"order_id": 1, "n": 1}, {"order_id": 2, "n": 2, "away": True})
    assert [type(result) for result in results] == [ServiceError, ServiceError]
    assert database.batches == [[1, 2]]


def test_a_caller_that_goes_away_leaves_the_others_their_results() -> None:
    database = Database()

    async def one_leaves() -> Any:
        batches = Batches(database.execute)
        leaving, staying = (asyncio.create_task(batches.run({"order_id": n, "n": n})) for n in (1, 2))
        await asyncio.sleep(0)
        leaving.cancel()
        later = asyncio.create_task(batches.run({"order_id": 3, "n": 3}))
        return await staying, await later

    assert [row["n"] for row in asyncio.run(one_leaves())] == [2, 3]


def test_an_order_that_somebody_has_locked_keeps_no_other_out(start: Start, query: Query, warehouse_url: str) -> None:
    service = start()
    service.partner.answer("create", Answer(404))
    service.post(order(1))  # failed, and may be tried again
    with psycopg.connect(warehouse_url) as somebody, ThreadPoolExecutor(8) as pool:
        somebody.execute("SELECT FROM orders.partner_order WHERE order_id = 1 FOR UPDATE")
        locked = pool.submit(service.post, order(1))
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        until(lambda: query(waits) != [(0,)])
        others = [pool.submit(service.post, order(number)) for number in range(2, 7)]
        assert {other.result().json()["result"] for other in others} == {"success"}
        answer = locked.result()
    assert (answer.status_code, answer.json()["data"]["service_error"]) == (503, True)
    assert service.post(order(1)).json()["result"] == "success"
