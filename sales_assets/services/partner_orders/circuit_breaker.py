"""Circuit breaker: stop calling a partner that is down."""

import time


class CircuitOpen(Exception):
    """The call was not made: the last calls found the partner down, and the pause has not ended."""


class CircuitBreaker:
    """Circuit breaker: opens after `failures` failed calls in a row; then allows one trial call every `seconds`.

    A call fails if it found the partner down. It counts once, regardless of its number of attempts: the breaker does
    not limit retries.
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
