"""Rate limiter shared by all workers: a message takes a rate slot ("turn") in the database before it is sent.

A slot that is taken and not used is lost to every worker: for minutes, at a slow rate. So a slot is taken shortly
before it is due, and only for messages that may still be sent: claimed, with a lease that outlasts the send, of a
running mailing. Nothing is reserved while waiting: a pause, an end, a deletion or a stop is noticed within a second.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

# Interval at which waiting messages are checked.
_LOOK_SECONDS = 1.0
# How early a slot may be taken. If it were 0, many workers would request slots at the same moment.
_AHEAD_SECONDS = 0.5
# Slots of this many seconds are taken in one statement.
STEP_SECONDS = 0.05
_SHORTEST_PAUSE = 0.01
_MOST_TOGETHER = 1000

M = TypeVar("M")


@dataclass(frozen=True)
class Reservation:
    """The outcome of one attempt to take slots: whether they were taken, and the seconds until they are due."""

    taken: bool
    wait: float


class RateLimiter(Generic[M]):
    """Queue of one process's messages that wait for a slot, first come, first served.

    Args:
        rate: Slots per second of all processes together; above 0.
        lease_seconds: How long a claim lasts beyond a send; waiting messages are checked several times in it.
        sendable: Returns which of the messages may be sent; renews leases that are about to lapse.
        take: Reserves a number of slots if the next one is due within a number of seconds.
        stopped: Set on shutdown: nothing further may be sent, and `sendable` is called at once.
    """

    def __init__(
        self,
        rate: float,
        lease_seconds: float,
        *,
        sendable: Callable[[list[M]], Awaitable[Sequence[bool]]],
        take: Callable[[int, float], Awaitable[Reservation]],
        stopped: asyncio.Event,
    ) -> None:
        self._together = max(1, int(min(rate * STEP_SECONDS, _MOST_TOGETHER)))
        self._interval = min(_LOOK_SECONDS, lease_seconds / 8)
        self._ahead = min(_AHEAD_SECONDS, lease_seconds / 8)
        self._sendable = sendable
        self._take = take
        self._stopped = stopped
        self._waiting: list[tuple[M, float, asyncio.Future[bool]]] = []
        self._running: asyncio.Task[None] | None = None
        self._none_before = 0.0

    async def take(self, message: M, until: float) -> bool:
        """Wait for a slot; False if the message may not be sent, or no slot is due before `until` (monotonic)."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((message, until, future))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await future

    def has_no_slot_before(self, until: float) -> bool:
        """Return whether the next slot is known to be due after `until`, so that claiming messages is useless."""
        return until < self._none_before

    async def _run(self) -> None:
        try:
            while self._waiting:
                asked = len(self._waiting)
                try:
                    await self._serve([message for message, _, _ in self._waiting])
                except Exception as error:  # noqa: BLE001 - raised to the callers
                    for _, _, future in self._waiting[:asked]:
                        if not future.done():
                            future.set_exception(error)
                # Answered, or cancelled by the caller.
                self._waiting = [one for one in self._waiting if not one[2].done()]
        finally:
            self._running = None

    async def _serve(self, asked: list[M]) -> None:
        """Take slots for the first messages, or wait briefly if no slot is due."""
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
            # Not cut short by a stop: these slots are taken.
            await asyncio.sleep(max(0.0, turn.wait))
            _answer(True, first)
            return
        self._none_before = now + turn.wait
        _answer(False, [one for one in waiting if one[1] < self._none_before])
        pause = min(max(turn.wait - self._ahead, _SHORTEST_PAUSE), self._interval)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), pause)


def _answer(answer: bool, waiting: Sequence[tuple[M, float, asyncio.Future[bool]]]) -> None:
    for _, _, future in waiting:
        if not future.done():
            future.set_result(answer)
