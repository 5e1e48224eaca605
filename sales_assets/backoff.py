"""Compute retry pauses: doubled with each failure and capped. Callers add jitter."""

from typing import Final

# 2.0 ** 1024 overflows; the cap applies long before.
_MOST_DOUBLINGS: Final = 64


def doubling_pause(failures: int, *, first: float, longest: float) -> float:
    """Return the pause in seconds: `first` after one failure, doubled with each further one, at most `longest`."""
    return min(longest, first * 2.0 ** min(failures - 1, _MOST_DOUBLINGS)) if failures > 0 else 0.0
