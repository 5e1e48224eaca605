"""Circuit breaker: stop calling a partner that is down."""

import time


class CircuitOpen(Exception):
    """No call is made for a while, because the last calls found the partner down."""


class CircuitBreaker:
    """Opens after `failures` calls in a row that found the partner down; then one call every `seconds` tries.

    A call counts once, however many attempts it made: the breaker never changes how often an attempt is repeated.
    """

    def __init__(self, failures: int, seconds: float) -> None:
        self._failures = failures
        self._seconds = seconds
        self._in_a_row = 0
        self._next_try: float | None = None

    @property
    def is_open(self) -> bool:
        return self._next_try is not None

    def enter(self) -> None:
        """Request permission for a call. Raises `CircuitOpen`; after the pause one call is let through as a trial."""
        if self._next_try is None:
            return
        now = time.monotonic()
        if now < self._next_try:
            raise CircuitOpen(f"the partner was down {self._in_a_row} times in a row")
        self._next_try = now + self._seconds

    def note(self, *, down: bool) -> None:
        """Record the result of a permitted call."""
        if not down:
            self._in_a_row = 0
            self._next_try = None
            return
        self._in_a_row += 1
        if self._in_a_row >= self._failures:
            self._next_try = time.monotonic() + self._seconds
