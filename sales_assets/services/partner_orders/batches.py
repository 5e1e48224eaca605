"""Rows of callers that come at the same time, in one statement and so in one commit.

A commit costs the server a sync of its disk, and a statement costs this process more than the row in it. While a batch
is under way the next rows gather; a row that comes alone goes alone, and at once.

Belongs here: gathering, handing out the results, and keeping one row's failure from the others. Does not belong here:
statements (``store``).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from sales_assets.services.partner_orders.orders import ServiceError

_MOST = 200

Row = Mapping[str, Any]
Entry = tuple[Row, asyncio.Future[Row | None]]


class StatementRefused(ServiceError):
    """The database is there, and a row kept it from running the statement."""


class Batches:
    """Runs `execute` with the rows that are waiting, one batch at a time.

    `execute` is given rows whose order_ids differ, and gives back rows that have an order_id each, in any order; it
    raises `ServiceError`, and `StatementRefused` where a single row may be at fault: then they are run one by one, each
    to its own end.
    """

    def __init__(self, execute: Callable[[Sequence[Row]], Awaitable[Sequence[Row]]]) -> None:
        self._execute = execute
        self._waiting: list[Entry] = []
        self._running: asyncio.Task[None] | None = None

    async def run(self, row: Row) -> Row | None:
        """What `execute` gave back for the row's order_id, or None where it gave nothing. Raises `ServiceError`."""
        result: asyncio.Future[Row | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((row, result))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await result

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch: list[Entry] = []
                later: list[Entry] = []
                taken: set[int] = set()
                for entry in self._waiting:
                    order_id = entry[0]["order_id"]
                    (later if order_id in taken or len(batch) == _MOST else batch).append(entry)
                    taken.add(order_id)
                self._waiting = later
                await self._run_batch(batch)
        finally:
            self._running = None

    async def _run_batch(self, batch: Sequence[Entry]) -> None:
        try:
            rows = await self._execute([row for row, _ in batch])
        except StatementRefused as error:
            if len(batch) > 1:
                await asyncio.gather(*(self._run_batch([entry]) for entry in batch))
            else:
                _end(batch[0][1], error=error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what the callers asked for
            for _, result in batch:
                _end(result, error=error)
        else:
            found = {row["order_id"]: row for row in rows}
            for row, result in batch:
                _end(result, found.get(row["order_id"]))


def _end(result: asyncio.Future[Row | None], row: Row | None = None, *, error: Exception | None = None) -> None:
    if result.done():  # whoever asked was cancelled
        return
    if error is None:
        result.set_result(row)
    else:
        result.set_exception(error)
