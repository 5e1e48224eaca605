"""Micro-batching: how items are grouped, and that a failing item does not affect the others of its batch."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from sales_assets.services.http.micro_batch import MicroBatch

Row = dict[str, Any]


class RefusedRowError(Exception):
    """A row makes the statement fail."""


class UnreachableDatabaseError(Exception):
    """The database is unreachable."""


class Database:
    """Recorder of batches; a `bad` or `away` row raises an error for its batch, a `taken` row results in None."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    async def execute(self, rows: Sequence[Row]) -> Sequence[int | None]:
        self.batches.append([row["order_id"] for row in rows])
        await asyncio.sleep(0)
        if any(row.get("bad") for row in rows):
            raise RefusedRowError("bad row")
        if any(row.get("away") for row in rows):
            raise UnreachableDatabaseError("away")
        return [None if row.get("taken") else row["n"] for row in rows]


def micro_batch(database: Database) -> MicroBatch[Row, int | None]:
    return MicroBatch(database.execute, most=200, key=lambda row: row["order_id"], alone_after=RefusedRowError)


def run(database: Database, *rows: Row) -> list[Any]:
    async def all_at_once() -> list[Any]:
        batches = micro_batch(database)
        return await asyncio.gather(*(batches(row) for row in rows), return_exceptions=True)

    return asyncio.run(all_at_once())


def test_concurrent_rows_share_a_batch_and_each_gets_its_own_result() -> None:
    database = Database()
    results = run(database, *({"order_id": n % 3, "n": n} for n in range(4)), {"order_id": 9, "n": 9, "taken": True})
    assert results == [0, 1, 2, 3, None]
    # One statement can't update a row twice: a second item with the same order_id goes into the next batch.
    assert database.batches == [[0, 1, 2, 9], [0]]


def test_a_bad_row_fails_alone() -> None:
    database = Database()
    results = run(database, {"order_id": 1, "n": 1}, {"order_id": 2, "n": 2, "bad": True}, {"order_id": 3, "n": 3})
    assert isinstance(results[1], RefusedRowError)
    assert [results[0], results[2]] == [1, 3]


def test_batch_is_not_retried_row_by_row_when_the_database_is_unreachable() -> None:
    database = Database()
    results = run(database, {"order_id": 1, "n": 1}, {"order_id": 2, "n": 2, "away": True})
    assert [type(result) for result in results] == [UnreachableDatabaseError, UnreachableDatabaseError]
    assert database.batches == [[1, 2]]


def test_cancelled_caller_does_not_affect_the_other_results() -> None:
    database = Database()

    async def one_leaves() -> list[Any]:
        batches = micro_batch(database)
        leaving, staying = (asyncio.create_task(batches({"order_id": n, "n": n})) for n in (1, 2))
        await asyncio.sleep(0)
        leaving.cancel()
        later = asyncio.create_task(batches({"order_id": 3, "n": 3}))
        return [await staying, await later]

    assert asyncio.run(one_leaves()) == [2, 3]


def test_batches_have_a_maximum_size_and_a_pause_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    async def execute(numbers: list[int]) -> list[int]:
        sizes.append(len(numbers))
        return [-number for number in numbers]

    async def all_of_them() -> list[int]:
        paused, over = asyncio.Event(), asyncio.Event()

        async def pause(seconds: float) -> None:
            assert seconds == 7
            paused.set()
            await over.wait()

        monkeypatch.setattr(asyncio, "sleep", pause)
        batches = MicroBatch(execute, most=3, pause=7)
        first = asyncio.gather(*(batches(n) for n in range(4)))
        await paused.wait()  # the first batch is done
        more = asyncio.gather(*(batches(n) for n in (4, 5)))
        over.set()
        return [*await more, *await first]

    assert asyncio.run(all_of_them()) == [-4, -5, 0, -1, -2, -3]
    assert sizes == [3, 3]
