"""Micro-batching: combine the items of concurrent callers into one call, and so one statement and one commit.

A commit costs the server a sync of its disk, and a statement costs this process more than the row in it. Items that
arrive during a batch form the next one; an item that arrives alone runs at once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class MicroBatch(Generic[Item, Result]):
    """Run the waiting items one batch at a time, and return to each caller the result of its item.

    A batch holds only items that came before it began: no result is older than its item. If a batch fails, each of its
    callers gets the exception.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], Awaitable[Sequence[Result]]],
        *,
        most: int,
        pause: float = 0.0,
        key: Callable[[Item], Hashable] | None = None,
        alone_after: type[Exception] | None = None,
    ) -> None:
        """Batch the calls of `run`, which returns one result per item, in their order.

        Args:
            run: Runs a batch.
            most: Maximum number of items in a batch.
            pause: Seconds after each batch in which the next one fills.
            key: Items with equal keys never share a batch.
            alone_after: Exception after which the items of a batch are run one by one, so that a bad one fails alone.
        """
        self._run_items = run
        self._most = most
        self._pause = pause
        self._key = key
        self._alone_after = alone_after
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._running: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Result:
        """Wait for the item's result. Raises what `run` raised."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._run_batch(self._next_batch())
                if self._pause:
                    await asyncio.sleep(self._pause)
        finally:
            self._running = None

    def _next_batch(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        batch, later = self._waiting[: self._most], self._waiting[self._most :]
        if self._key is not None:
            batch, later = [], []
            taken: set[Hashable] = set()
            for entry in self._waiting:
                key = self._key(entry[0])
                (later if key in taken or len(batch) == self._most else batch).append(entry)
                taken.add(key)
        self._waiting = later
        return batch

    async def _run_batch(self, batch: Sequence[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._run_items([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - raised to the callers
            if self._alone_after and isinstance(error, self._alone_after) and len(batch) > 1:
                await asyncio.gather(*(self._run_batch([entry]) for entry in batch))
                return
            for _, future in batch:
                if not future.done():  # its caller was cancelled
                    future.set_exception(error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)
