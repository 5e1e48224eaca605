"""The one computation of retry pauses: doubled with each failure, capped, safe for any number of failures.

Does not belong here: jitter, and what counts as a failure (each caller's own).
"""

from typing import Final

# 2.0 ** 1024 overflows; long before that the cap decides.
_MOST_DOUBLINGS: Final = 64


def doubling_pause(failures: int, *, first: float, longest: float) -> float:
    """Seconds to wait after consecutive failures: `first` after one, twice that after two, at most `longest`."""
    return min(longest, first * 2.0 ** min(failures - 1, _MOST_DOUBLINGS)) if failures > 0 else 0.0
