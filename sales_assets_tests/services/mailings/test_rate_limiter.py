"""RateLimiter at the shared rate: who gets one, who gets none, and how long anybody waits. The clock is the test's."""

import asyncio
import itertools
from collections.abc import Callable, Iterator, Sequence

import pytest

from sales_assets.services.mailings import rate_limiter as module
from sales_assets.services.mailings.rate_limiter import RateLimiter, Taken

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
    """What `RateLimiter` asks for: answers given beforehand, the last one again and again; records the questions."""

    def __init__(
        self,
        loop: Loop,
        *takes: Taken | Exception,
        sendable: Callable[[list[str]], Sequence[bool]] = lambda asked: [True] * len(asked),
        rate: float = 1.0,
        lease: float = 80.0,
    ) -> None:
        self.asked: list[list[str]] = []
        self.taken: list[tuple[float, int, float]] = []
        self.stopped = asyncio.Event()
        answers = itertools.chain(takes, itertools.repeat(takes[-1])) if takes else iter(())

        async def ask(asked: list[str]) -> Sequence[bool]:
            self.asked.append(list(asked))
            return sendable(asked)

        async def take(count: int, ahead: float) -> Taken:
            self.taken.append((loop.now, count, ahead))
            await asyncio.sleep(0)  # others may come meanwhile
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

        self.turns = RateLimiter[str](rate, lease, sendable=ask, take=take, stopped=self.stopped)

    async def all(self, *messages: str, until: float = FOREVER) -> list[bool]:
        return await asyncio.gather(*(self.turns.take(message, until) for message in messages))


def test_a_turn_that_is_due_is_taken(loop: Loop) -> None:
    rate = Rate(loop, Taken(True, 0.3))
    assert loop.run_until_complete(rate.all("a")) == [True]
    assert loop.now == pytest.approx(1000.3)
    assert (rate.asked, rate.taken) == ([["a"]], [(1000.0, 1, 0.5)])
    assert loop.run_until_complete(rate.all("b")) == [True]
    assert rate.asked[1] == ["b"]


def test_a_turn_that_was_due_is_not_waited_for(loop: Loop) -> None:
    assert loop.run_until_complete(Rate(loop, Taken(True, -5)).all("a")) == [True]
    assert loop.now == 1000.0


@pytest.mark.parametrize(("rate", "together"), [(1, 1), (39, 1), (40, 2), (100, 5), (1e9, 1000)])
def test_the_turns_of_a_twentieth_of_a_second_are_taken_together(loop: Loop, rate: float, together: int) -> None:
    asked = Rate(loop, Taken(True, 0), rate=rate)
    messages = [str(number) for number in range(together + 1)]
    assert loop.run_until_complete(asked.all(*messages)) == [True] * len(messages)
    assert [count for _, count, _ in asked.taken] == [together, 1]
    assert asked.asked == [messages, messages[together:]]


def test_what_may_not_be_sent_takes_no_turn(loop: Loop) -> None:
    rate = Rate(loop, Taken(True, 0), sendable=lambda asked: [message != "b" for message in asked], rate=40)
    assert loop.run_until_complete(rate.all("a", "b", "c")) == [True, False, True]
    assert [count for _, count, _ in rate.taken] == [2]
    nothing = Rate(loop, sendable=lambda asked: [False] * len(asked))
    assert loop.run_until_complete(nothing.all("a", "b")) == [False, False]
    assert nothing.taken == []


@pytest.mark.parametrize(
    ("lease", "wait", "pause"),
    [
        (80.0, 0.75, 0.25),  # until half a second before it is due
        (80.0, 0.4, 0.01),
        (80.0, 60.0, 1.0),  # looked at once a second
        (4.0, 60.0, 0.5),  # and eight times in a lease
        (2.0, 0.45, 0.2),  # a turn is then taken a quarter of a second before it is due
    ],
)
def test_a_turn_that_is_not_due_is_asked_for_again(loop: Loop, lease: float, wait: float, pause: float) -> None:
    rate = Rate(loop, Taken(False, wait), Taken(True, 0), lease=lease)
    assert loop.run_until_complete(rate.all("a")) == [True]
    assert rate.asked == [["a"], ["a"]]
    assert [moment for moment, _, _ in rate.taken] == pytest.approx([1000, 1000 + pause])
    assert rate.taken[0][2] == min(0.5, lease / 8)


def test_no_turn_in_time(loop: Loop) -> None:
    rate = Rate(loop, Taken(False, 5), Taken(True, 0))

    async def both() -> list[bool]:
        return list(await asyncio.gather(rate.turns.take("a", 1004.75), rate.turns.take("b", 1005.0)))

    assert not rate.turns.is_none_before(0)
    assert loop.run_until_complete(both()) == [False, True]
    assert not rate.turns.is_none_before(0)


def test_the_next_turn_is_known(loop: Loop) -> None:
    rate = Rate(loop, Taken(False, 5))
    assert loop.run_until_complete(rate.all("a", until=1001)) == [False]
    assert rate.turns.is_none_before(1004.9)
    assert not rate.turns.is_none_before(1005)


def test_a_stop_is_noticed_at_once(loop: Loop) -> None:
    rate = Rate(loop, Taken(False, 60), sendable=lambda asked: [not rate.stopped.is_set()] * len(asked))

    async def stop_later() -> list[bool]:
        loop.call_later(0.25, rate.stopped.set)
        return await rate.all("a", "b")

    assert loop.run_until_complete(stop_later()) == [False, False]
    assert loop.now == pytest.approx(1000.25)


def test_an_answer_about_other_messages_is_an_error(loop: Loop) -> None:
    rate = Rate(loop, Taken(True, 0), sendable=lambda asked: [True] * (len(asked) - 1))
    with pytest.raises(ValueError, match="zip"):
        loop.run_until_complete(rate.all("a", "b"))


def test_an_error_belongs_to_those_who_wait(loop: Loop) -> None:
    rate = Rate(loop, ZeroDivisionError(), Taken(True, 0))

    async def failing() -> None:
        waiting = [asyncio.ensure_future(rate.turns.take(message, FOREVER)) for message in "ab"]
        done, _ = await asyncio.wait(waiting)
        assert [type(one.exception()) for one in done] == [ZeroDivisionError] * 2

    loop.run_until_complete(failing())
    assert loop.run_until_complete(rate.all("c")) == [True]


def test_who_comes_during_a_question_is_asked_about_next(loop: Loop) -> None:
    late: list[asyncio.Future[bool]] = []

    def sendable(asked: list[str]) -> list[bool]:
        if not late:
            late.append(asyncio.ensure_future(rate.turns.take("late", FOREVER)))
        return [True] * len(asked)

    rate = Rate(loop, ZeroDivisionError(), Taken(True, 0), sendable=sendable)

    async def run() -> bool:
        with pytest.raises(ZeroDivisionError):
            await rate.turns.take("a", FOREVER)
        return await late[0]

    assert loop.run_until_complete(run())
    assert rate.asked == [["a"], ["late"]]


def test_who_waits_no_more_takes_no_turn(loop: Loop) -> None:
    rate = Rate(loop, Taken(False, 0.6), Taken(True, 0))

    async def run() -> bool:
        gone = asyncio.ensure_future(rate.turns.take("gone", FOREVER))
        stays = asyncio.ensure_future(rate.turns.take("stays", FOREVER))
        loop.call_later(0.05, gone.cancel)
        return await stays

    assert loop.run_until_complete(run())
    assert rate.asked == [["gone", "stays"], ["stays"]]
