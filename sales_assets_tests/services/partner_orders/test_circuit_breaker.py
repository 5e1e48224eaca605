"""Circuit breaker: when it opens, which calls it lets through, and when it closes."""

import pytest

from sales_assets.services.partner_orders import circuit_breaker as module
from sales_assets.services.partner_orders.circuit_breaker import CircuitBreaker, CircuitOpen


class Clock:
    """A clock that the test sets."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def down(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.enter()
        breaker.note(down=True)


def test_circuit_opens_after_consecutive_failures(clock: Clock) -> None:
    breaker = CircuitBreaker(3, 10)
    down(breaker, 2)
    breaker.note(down=False)
    down(breaker, 2)
    before = breaker.is_open
    down(breaker)
    assert (before, breaker.is_open) == (False, True)
    with pytest.raises(CircuitOpen, match=r"^the partner was down 3 times in a row$"):
        breaker.enter()


def test_one_trial_call_passes_after_the_pause(clock: Clock) -> None:
    breaker = CircuitBreaker(1, 10)
    down(breaker)
    clock.now += 9.75
    with pytest.raises(CircuitOpen):
        breaker.enter()
    clock.now += 0.25
    breaker.enter()
    with pytest.raises(CircuitOpen):
        breaker.enter()
    clock.now += 9.75
    with pytest.raises(CircuitOpen):
        breaker.enter()
    breaker.note(down=True)
    with pytest.raises(CircuitOpen, match="down 2 times"):
        breaker.enter()
    clock.now += 10
    breaker.enter()
    breaker.note(down=False)
    assert not breaker.is_open
    breaker.enter()


def test_unfinished_trial_call_allows_another_after_the_pause(clock: Clock) -> None:
    breaker = CircuitBreaker(1, 10)
    down(breaker)
    clock.now += 10
    breaker.enter()
    clock.now += 10
    breaker.enter()
