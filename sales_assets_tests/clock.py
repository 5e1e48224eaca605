"""The current day, for tests that depend on it."""

import datetime as dt
import time


def today_lasting(seconds: float) -> dt.date:
    """Return the current day in UTC; if it ends within `seconds`, wait for midnight and return the next day."""
    now = dt.datetime.now(dt.UTC)
    later = now + dt.timedelta(seconds=seconds)
    if later.date() == now.date():
        return now.date()
    midnight = dt.datetime.combine(later.date(), dt.time(), dt.UTC)
    while (left := (midnight - dt.datetime.now(dt.UTC)).total_seconds()) > 0:
        time.sleep(left)
    return later.date()
