"""Turns at the shared sending rate: wait for one without holding it, take it only for a message that may be sent.

A turn that is taken and not used is lost to every worker: for minutes, where the rate is slow. So a turn is taken when
it is nearly due, and only for messages that are still claimed, under a lease that outlasts the send, of a mailing that
runs. Nothing is reserved while waiting: a pause, an end, a deletion or a stop is noticed within a second.

Belongs here: the queue of a process and the order of the questions. Does not belong here: the statements
(``sql/mailings/message.sql``), and the send (``dispatch``).
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

# What waits is looked at so often, however far away the next turn is.
_LOOK_SECONDS = 1.0
# A turn may be taken so long before it is due: with many workers, they would all ask at the same moment otherwise.
_AHEAD_SECONDS = 0.5
# So many seconds' worth of turns are taken in one statement.
STEP_SECONDS = 0.05
_SHORTEST_PAUSE = 0.01
_MOST_TOGETHER = 1000

M = TypeVar("M")


@dataclass(frozen=True)
class Taken:
    """The outcome of one attempt to take turns: whether they were taken, and the seconds until they are due."""

    taken: bool
    wait: float


class RateLimiter(Generic[M]):
    """The messages of one process that wait for a turn, first come, first served.

    Args:
        rate: Turns per second of all processes together; above 0.
        lease_seconds: How long a claim lasts beyond a send; what waits is looked at several times in it.
        sendable: Which of the messages may be sent; renews the leases of those that are about to lapse.
        take: Takes so many turns, if the next is due within so many seconds.
        stopped: Set when `sendable` is to be asked at once, because nothing further may be sent.
    """

    def __init__(
        self,
        rate: float,
        lease_seconds: float,
        *,
        sendable: Callable[[list[M]], Awaitable[Sequence[bool]]],
        take: Callable[[int, float], Awaitable[Taken]],
        stopped: asyncio.Event,
    ) -> None:
        self._together = max(1, int(min(rate * STEP_SECONDS, _MOST_TOGETHER)))
        self._look = min(_LOOK_SECONDS, lease_seconds / 8)
        self._ahead = min(_AHEAD_SECONDS, lease_seconds / 8)
        self._sendable = sendable
        self._take = take
        self._stopped = stopped
        self._waiting: list[tuple[M, float, asyncio.Future[bool]]] = []
        self._running: asyncio.Task[None] | None = None
        self._none_before = 0.0

    async def take(self, message: M, until: float) -> bool:
        """Wait for a turn; False where the message may not be sent, or there is none before `until` (monotonic)."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((message, until, future))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await future

    def is_none_before(self, until: float) -> bool:
        """Whether the next turn is known to come later than this, so that claiming messages for it is in vain."""
        return until < self._none_before

    async def _run(self) -> None:
        try:
            while self._waiting:
                asked = len(self._waiting)
                try:
                    await self._look_at([message for message, _, _ in self._waiting])
                except Exception as error:  # noqa: BLE001 - it belongs to those who wait
                    for _, _, future in self._waiting[:asked]:
                        if not future.done():
                            future.set_exception(error)
                # Answered, or cancelled by whoever waited.
                self._waiting = [one for one in self._waiting if not one[2].done()]
        finally:
            self._running = None

    async def _look_at(self, asked: list[M]) -> None:
        """Take turns for the first of the messages, or wait a moment for them."""
        waiting = self._waiting[: len(asked)]
        may_be_sent = await self._sendable(asked)
        _answer(False, [one for one, may in zip(waiting, may_be_sent, strict=True) if not may])
        first = [one for one, may in zip(waiting, may_be_sent, strict=True) if may][: self._together]
        if not first:
            return
        turn = await self._take(len(first), self._ahead)
        now = time.monotonic()
        if turn.taken:
            self._none_before = 0.0
            # Not cut short by a stop: these turns are theirs.
            await asyncio.sleep(max(0.0, turn.wait))
            _answer(True, first)
            return
        self._none_before = now + turn.wait
        _answer(False, [one for one in waiting if one[1] < self._none_before])
        pause = min(max(turn.wait - self._ahead, _SHORTEST_PAUSE), self._look)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), pause)


def _answer(answer: bool, waiting: Sequence[tuple[M, float, asyncio.Future[bool]]]) -> None:
    for _, _, future in waiting:
        if not future.done():
            future.set_result(answer)
