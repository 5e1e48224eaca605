"""A generated folder that follows the calendar, like the data of the real API.

On day D the report covers D-30 .. D-8 and there are increments for D-7 .. D-1. For a demonstration the last days can
be released one by one, and the newest day then be replaced repeatedly.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from sales_assets.simulators.report_api.generate import Shop, generate, write_increment

REPORT_DAYS = 23
INCREMENT_DAYS = 7
_SHOWN_AT_FIRST = 4  # up to D-4
_CLOCK_SECONDS = 1.0


def utc_today() -> date:
    """Return the calendar date in UTC."""
    return datetime.now(UTC).date()


@contextmanager
def live(
    folder: Path, shop: Shop, *, today: Callable[[], date] = utc_today, every: float | None = None
) -> Iterator[None]:
    """Fill a folder for today, and keep it current in a background thread until the block ends.

    Args:
        folder: Target folder; see ``generate``.
        shop: Properties of the data.
        today: Returns the day D; when it changes, the window moves.
        every: None writes the whole window at once. A number of seconds starts with the increments up to D-4, adds one
            day at each step up to D-1, and then replaces D-1 with other contents.

    Raises:
        FileExistsError: the folder holds report files that were not generated.
    """
    window = _Window(folder, shop, today(), INCREMENT_DAYS if every is None else _SHOWN_AT_FIRST)
    stop = threading.Event()

    def keep_current() -> None:
        pause = _CLOCK_SECONDS if every is None else every
        while not stop.wait(pause):
            if today() != window.day:
                window.move(today())
            elif every is not None:
                window.step()

    thread = threading.Thread(target=keep_current, name="report-api-live", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


class _Window:
    def __init__(self, folder: Path, shop: Shop, day: date, shown: int) -> None:
        self._folder = folder
        self._shop = shop
        self._fill(day, shown)

    def _fill(self, day: date, shown: int) -> None:
        self.day = day
        self._shown = shown
        self._edition = 0
        first_day = day - timedelta(days=REPORT_DAYS + INCREMENT_DAYS)
        generate(self._folder, self._shop, first_day=first_day, days=REPORT_DAYS + shown, increments=shown)

    def move(self, day: date) -> None:
        self._fill(day, INCREMENT_DAYS)

    def step(self) -> None:
        if self._shown < INCREMENT_DAYS:
            self._shown += 1
        else:
            self._edition += 1
        position = self._shown - 1
        day = self.day - timedelta(days=INCREMENT_DAYS - position)
        write_increment(self._folder, self._shop, day, position=position, edition=self._edition)
