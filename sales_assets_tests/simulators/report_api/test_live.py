"""Live generated folder: its days follow the calendar, or optionally appear one by one."""

import threading
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

from sales_assets.simulators.report_api.folder import ReportFolder
from sales_assets.simulators.report_api.generate import Shop
from sales_assets.simulators.report_api.live import live, utc_today

SHOP = Shop(lines_per_day=20)


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def days_of(folder: Path) -> list[int]:
    return [day.day for day in ReportFolder(folder).increment_days()]


def test_window_of_a_day(tmp_path: Path) -> None:
    with live(tmp_path, SHOP, today=lambda: date(2024, 10, 31)):
        period = ReportFolder(tmp_path).period()
        assert (period.start, period.end) == (date(2024, 10, 1), date(2024, 10, 23))
        assert days_of(tmp_path) == [24, 25, 27, 28, 29, 30]


def test_window_moves_with_the_calendar(tmp_path: Path) -> None:
    day = date(2024, 10, 31)
    with live(tmp_path, SHOP, today=lambda: day):
        day = date(2024, 11, 1)
        wait_for(lambda: days_of(tmp_path) == [25, 26, 28, 29, 30, 31])
        assert ReportFolder(tmp_path).period().end == date(2024, 10, 24)


def test_days_appear_one_by_one_and_the_newest_is_replaced(tmp_path: Path) -> None:
    newest = tmp_path / "inc" / "2024-10-30" / "user_orders_log_inc.csv"
    with live(tmp_path, SHOP, today=lambda: date(2024, 10, 31), every=0.2):
        assert days_of(tmp_path) == [24, 25, 27]
        wait_for(lambda: days_of(tmp_path) == [24, 25, 27, 28])
        wait_for(newest.exists)
        for _ in range(2):
            before = newest.read_bytes()
            wait_for(lambda before=before: newest.read_bytes() != before)  # type: ignore[misc]
        assert days_of(tmp_path) == [24, 25, 27, 28, 29, 30]
    assert not [thread for thread in threading.enumerate() if thread.name == "report-api-live"]


def test_default_clock_is_utc(tmp_path: Path) -> None:
    before = utc_today()
    with live(tmp_path, SHOP):
        last = ReportFolder(tmp_path).increment_days()[-1]
    assert 1 <= (utc_today() - last).days <= 1 + (utc_today() - before).days
