"""Daily send windows in the client's local time, including time zones and daylight saving changes.

A window refers to wall-clock time. On the night that skips 02:00 to 03:00 a window from 02:30 to 02:45 does not open,
and the message waits for the next day. On the night that has 02:30 twice it opens twice; a message is sent once.
"""

import datetime as dt
import functools
import itertools
from dataclasses import dataclass
from zoneinfo import ZoneInfo

_DAY = dt.timedelta(days=1)
_HOUR = dt.timedelta(hours=1)
_SECOND = dt.timedelta(seconds=1)
# A window that opens on a skipped hour opens on the day after at the latest.
_DAYS_AHEAD = 4

Zone = dt.tzinfo


@functools.lru_cache(maxsize=4096)
def known_zone(name: str) -> Zone | None:
    """Return the zone of the IANA database by this name; None for any other text."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown; not a relative path; a folder of the database
        return None


@dataclass(frozen=True)
class Window:
    """Half-open interval of times of day; `until` before `start` spans midnight."""

    start: dt.time
    until: dt.time

    def is_open(self, now: dt.datetime, zone: Zone) -> bool:
        """Return whether the local time in the zone is within the window."""
        shown = now.astimezone(zone).time()
        if self.start <= self.until:
            return self.start <= shown < self.until
        return shown >= self.start or shown < self.until

    def next_opening(self, now: dt.datetime, zone: Zone) -> dt.datetime:
        """Return the first UTC time from `now` on at which the window is open; `now` if it is open."""
        now = now.astimezone(dt.UTC)
        if self.is_open(now, zone):
            return now
        # It opens when the clock reaches the start, or when the clock jumps.
        first = now.astimezone(zone).date()
        for number in range(_DAYS_AHEAD):
            date = first + number * _DAY
            moments = {
                dt.datetime.combine(date, self.start, zone).replace(fold=fold).astimezone(dt.UTC) for fold in (0, 1)
            }
            openings = [
                moment
                for moment in (*moments, *_clock_changes(date, zone))
                if moment >= now and self.is_open(moment, zone)
            ]
            if openings:
                return min(openings)
        raise AssertionError(f"a window that never opens: {self}")


@functools.lru_cache(maxsize=4096)
def _clock_changes(date: dt.date, zone: Zone) -> tuple[dt.datetime, ...]:
    """Return the UTC times of the zone's offset changes on a local day."""
    start = dt.datetime.combine(date, dt.time(), zone).astimezone(dt.UTC) - _HOUR
    hours = [start + number * _HOUR for number in range(28)]
    return tuple(
        _first_after(before, after, zone)
        for before, after in itertools.pairwise(hours)
        if before.astimezone(zone).utcoffset() != after.astimezone(zone).utcoffset()
    )


def _first_after(before: dt.datetime, after: dt.datetime, zone: Zone) -> dt.datetime:
    """Find by bisection the second from which the zone has the offset of `after`."""
    offset = after.astimezone(zone).utcoffset()
    while after - before > _SECOND:
        middle = before + (after - before) // 2
        middle = middle.replace(microsecond=0)
        if middle.astimezone(zone).utcoffset() == offset:
            after = middle
        else:
            before = middle
    return after
