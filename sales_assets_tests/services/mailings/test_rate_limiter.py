"""RateLimiter: which messages get a rate slot, which get none, and how long they wait, with a simulated clock."""

import asyncio
import itertools
from collections.abc import Callable, Iterator, Sequence

import pytest

from sales_assets.services.mailings import rate_limiter as module
from sales_assets.services.mailings.rate_limiter import RateLimiter, Reservation

FOREVER = 1e9


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self.now = max(self.now, self._scheduled[0].when())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    loop = Loop()
    monkeypatch.setattr(module, "time", loop)
    yield loop
    loop.close()


class Rate:
    """Scripted callbacks of `RateLimiter`: return the given results, the last one repeatedly, and record the calls."""

    def __init__(
        self,
        loop: Loop,
        *takes: Reservation | Exception,
        sendable: Callable[[list[str]], Sequence[bool]] = lambda checked: [True] * len(checked),
        rate: float = 1.0,
        lease: float = 80.0,
    ) -> None:
        self.checked: list[list[str]] = []
        self.taken: list[tuple[float, int, float]] = []
        self.stopped = asyncio.Event()
        responses = itertools.chain(takes, itertools.repeat(takes[-1])) if takes else iter(())

        async def check_sendable(checked: list[str]) -> Sequence[bool]:
            self.checked.append(list(checked))
            return sendable(checked)

        async def take(count: int, ahead: float) -> Reservation:
            self.taken.append((loop.now, count, ahead))
            await asyncio.sleep(0)  # lets other messages arrive meanwhile
            response = next(responses)
            if isinstance(response, Exception):
                raise response
            return response

        self.turns = RateLimiter[str](rate, lease, sendable=check_sendable, take=take, stopped=self.stopped)

    async def all(self, *messages: str, until: float = FOREVER) -> list[bool]:
        return await asyncio.gather(*(self.turns.take(message, until) for message in messages))


def test_rate_slot_that_is_due_is_taken(loop: Loop) -> None:
    rate = Rate(loop, Reservation(True, 0.3))
    assert loop.run_until_complete(rate.all("a")) == [True]
    assert loop.now == pytest.approx(1000.3)
    assert (rate.checked, rate.taken) == ([["a"]], [(1000.0, 1, 0.5)])
    assert loop.run_until_complete(rate.all("b")) == [True]
    assert rate.checked[1] == ["b"]


def test_overdue_rate_slot_is_taken_without_waiting(loop: Loop) -> None:
    assert loop.run_until_complete(Rate(loop, Reservation(True, -5)).all("a")) == [True]
    assert loop.now == 1000.0


@pytest.mark.parametrize(("rate", "together"), [(1, 1), (39, 1), (40, 2), (100, 5), (1e9, 1000)])
def test_rate_slots_within_50_ms_are_taken_together(loop: Loop, rate: float, together: int) -> None:
    limiter = Rate(loop, Reservation(True, 0), rate=rate)
    messages = [str(number) for number in range(together + 1)]
    assert loop.run_until_complete(limiter.all(*messages)) == [True] * len(messages)
    assert [count for _, count, _ in limiter.taken] == [together, 1]
    assert limiter.checked == [messages, messages[together:]]


def test_message_that_must_not_be_sent_takes_no_rate_slot(loop: Loop) -> None:
    rate = Rate(loop, Reservation(True, 0), sendable=lambda checked: [message != "b" for message in checked], rate=40)
    assert loop.run_until_complete(rate.all("a", "b", "c")) == [True, False, True]
    assert [count for _, count, _ in rate.taken] == [2]
    nothing = Rate(loop, sendable=lambda checked: [False] * len(checked))
    assert loop.run_until_complete(nothing.all("a", "b")) == [False, False]
    assert nothing.taken == []


@pytest.mark.parametrize(
    ("lease", "wait", "pause"),
    [
        (80.0, 0.75, 0.25),  # checks again half a second before the slot is due
        (80.0, 0.4, 0.01),
        (80.0, 60.0, 1.0),  # checks once a second
        (4.0, 60.0, 0.5),  # checks eight times per lease
        (2.0, 0.45, 0.2),  # takes the slot a quarter of a second before it is due
    ],
)
def test_rate_slot_that_is_not_due_is_requested_again(loop: Loop, lease: float, wait: float, pause: float) -> None:
    rate = Rate(loop, Reservation(False, wait), Reservation(True, 0), lease=lease)
    assert loop.run_until_complete(rate.all("a")) == [True]
    assert rate.checked == [["a"], ["a"]]
    assert [moment for moment, _, _ in rate.taken] == pytest.approx([1000, 1000 + pause])
    assert rate.taken[0][2] == min(0.5, lease / 8)


def test_message_is_refused_when_no_rate_slot_is_due_in_time(loop: Loop) -> None:
    rate = Rate(loop, Reservation(False, 5), Reservation(True, 0))

    async def both() -> list[bool]:
        return list(await asyncio.gather(rate.turns.take("a", 1004.75), rate.turns.take("b", 1005.0)))

    assert not rate.turns.has_no_slot_before(0)
    assert loop.run_until_complete(both()) == [False, True]
    assert not rate.turns.has_no_slot_before(0)


def test_time_of_the_next_rate_slot_is_known(loop: Loop) -> None:
    rate = Rate(loop, Reservation(False, 5))
    assert loop.run_until_complete(rate.all("a", until=1001)) == [False]
    assert rate.turns.has_no_slot_before(1004.9)
    assert not rate.turns.has_no_slot_before(1005)


def test_stop_ends_the_wait_at_once(loop: Loop) -> None:
    rate = Rate(loop, Reservation(False, 60), sendable=lambda checked: [not rate.stopped.is_set()] * len(checked))

    async def stop_later() -> list[bool]:
        loop.call_later(0.25, rate.stopped.set)
        return await rate.all("a", "b")

    assert loop.run_until_complete(stop_later()) == [False, False]
    assert loop.now == pytest.approx(1000.25)


def test_wrong_number_of_results_is_an_error(loop: Loop) -> None:
    rate = Rate(loop, Reservation(True, 0), sendable=lambda checked: [True] * (len(checked) - 1))
    with pytest.raises(ValueError, match="zip"):
        loop.run_until_complete(rate.all("a", "b"))


def test_error_is_raised_for_all_waiting_messages_only(loop: Loop) -> None:
    rate = Rate(loop, ZeroDivisionError(), Reservation(True, 0))

    async def failing() -> None:
        waiting = [asyncio.ensure_future(rate.turns.take(message, FOREVER)) for message in "ab"]
        done, _ = await asyncio.wait(waiting)
        assert [type(one.exception()) for one in done] == [ZeroDivisionError] * 2

    loop.run_until_complete(failing())
    assert loop.run_until_complete(rate.all("c")) == [True]


def test_message_arriving_during_a_check_is_checked_next(loop: Loop) -> None:
    late: list[asyncio.Future[bool]] = []

    def sendable(checked: list[str]) -> list[bool]:
        if not late:
            late.append(asyncio.ensure_future(rate.turns.take("late", FOREVER)))
        return [True] * len(checked)

    rate = Rate(loop, ZeroDivisionError(), Reservation(True, 0), sendable=sendable)

    async def run() -> bool:
        with pytest.raises(ZeroDivisionError):
            await rate.turns.take("a", FOREVER)
        return await late[0]

    assert loop.run_until_complete(run())
    assert rate.checked == [["a"], ["late"]]


def test_cancelled_message_takes_no_rate_slot(loop: Loop) -> None:
    rate = Rate(loop, Reservation(False, 0.6), Reservation(True, 0))

    async def run() -> bool:
        gone = asyncio.ensure_future(rate.turns.take("gone", FOREVER))
        stays = asyncio.ensure_future(rate.turns.take("stays", FOREVER))
        loop.call_later(0.05, gone.cancel)
        return await stays

    assert loop.run_until_complete(run())
    assert rate.checked == [["gone", "stays"], ["stays"]]
