"""Sending windows in the client's time zone: within a day, over midnight, and on nights with clock changes."""

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sales_assets.services.mailings.windows import Window, known_zone

BERLIN = ZoneInfo("Europe/Berlin")  # 2024-03-31: 02:00 to 03:00 is skipped; 2024-10-27: 02:00 to 03:00 occurs twice
ZONES = ["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"]


def window(start: str, until: str) -> Window:
    return Window(dt.time.fromisoformat(start), dt.time.fromisoformat(until))


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("start", "until", "now", "opens"),
    [
        ("09:00", "21:00", "2024-06-01 06:59:59", "2024-06-01 07:00"),  # summer: two hours ahead
        ("09:00", "21:00", "2024-06-01 07:00", "2024-06-01 07:00"),
        ("09:00", "21:00", "2024-06-01 18:59:59.999999", "2024-06-01 18:59:59.999999"),
        ("09:00", "21:00", "2024-06-01 19:00", "2024-06-02 07:00"),
        ("09:00", "21:00", "2024-01-31 20:30", "2024-02-01 08:00"),
        ("22:00", "06:00", "2024-01-31 20:59", "2024-01-31 21:00"),  # over midnight
        ("22:00", "06:00", "2024-01-31 23:30", "2024-01-31 23:30"),
        ("22:00", "06:00", "2024-02-01 04:59", "2024-02-01 04:59"),
        ("22:00", "06:00", "2024-02-01 05:00", "2024-02-01 21:00"),
        # Skipped hour: the local time 02:30 does not exist on that day.
        ("02:30", "02:45", "2024-03-31 00:50", "2024-04-01 00:30"),
        # The local time jumps from 01:59:59 to 03:00.
        ("02:30", "04:00", "2024-03-31 00:50", "2024-03-31 01:00"),
        ("01:30", "02:30", "2024-03-31 01:00", "2024-03-31 23:30"),
        # Repeated hour: 02:30 occurs at 00:30 and at 01:30 UTC.
        ("02:30", "02:45", "2024-10-27 00:00", "2024-10-27 00:30"),
        ("02:30", "02:45", "2024-10-27 00:45", "2024-10-27 01:30"),
        ("02:30", "02:45", "2024-10-27 01:45", "2024-10-28 01:30"),
        # The clock is set back into a window that had already closed.
        ("01:00", "02:30", "2024-10-27 00:30", "2024-10-27 01:00"),
    ],
)
def test_next_opening_in_berlin(start: str, until: str, now: str, opens: str) -> None:
    assert window(start, until).next_opening(utc(now), BERLIN) == utc(opens)


def test_next_opening_of_an_open_window_is_now_in_utc() -> None:
    now = utc("2024-06-01 08:00")
    opens = window("09:00", "21:00").next_opening(now.astimezone(BERLIN), BERLIN)
    assert opens == now
    assert opens.tzinfo is dt.UTC


def test_window_of_this_evening_when_the_utc_date_is_already_tomorrow() -> None:
    opens = window("23:00", "23:30").next_opening(utc("2024-06-02 00:30"), ZoneInfo("America/St_Johns"))
    assert opens == utc("2024-06-02 01:30")
    assert opens.tzinfo is dt.UTC


def test_clock_change_of_half_an_hour() -> None:
    lord_howe = ZoneInfo("Australia/Lord_Howe")  # 2024-10-06: 02:00 becomes 02:30
    assert window("02:10", "02:20").next_opening(utc("2024-10-05 15:25"), lord_howe) == utc("2024-10-06 15:10")
    assert window("02:10", "02:40").next_opening(utc("2024-10-05 15:25"), lord_howe) == utc("2024-10-05 15:30")


def test_clock_change_one_minute_after_midnight() -> None:
    st_johns = ZoneInfo("America/St_Johns")  # 2010-03-14: 00:01 becomes 01:01; 2010-11-07: 00:01 becomes 23:01
    assert window("00:30", "01:05").next_opening(utc("2010-03-14 03:00"), st_johns) == utc("2010-03-14 03:31")
    assert window("23:00", "23:30").next_opening(utc("2010-11-07 02:15"), st_johns) == utc("2010-11-07 02:31")


def test_skipped_calendar_day() -> None:
    apia = ZoneInfo("Pacific/Apia")  # 2011-12-30 was skipped
    assert window("09:00", "10:00").next_opening(utc("2011-12-29 20:30"), apia) == utc("2011-12-30 19:00")


minutes = st.integers(0, 24 * 60 - 1).map(lambda number: dt.time(number // 60, number % 60))
seconds = st.floats(utc("2011-12-28").timestamp(), utc("2025-12-31").timestamp())
moments = seconds.map(lambda number: dt.datetime.fromtimestamp(number, dt.UTC))


@given(start=minutes, until=minutes, now=moments, name=st.sampled_from(ZONES), share=st.floats(0, 1))
def test_next_opening_is_open_and_no_earlier_moment_is(
    start: dt.time, until: dt.time, now: dt.datetime, name: str, share: float
) -> None:
    if start == until:
        return
    one, zone = Window(start, until), ZoneInfo(name)
    opens = one.next_opening(now, zone)
    assert opens >= now
    assert one.is_open(opens, zone)
    if opens > now:
        assert not one.is_open(opens - dt.timedelta(microseconds=1), zone)
        assert not one.is_open(now + (opens - now) * share * 0.999999, zone)


@pytest.mark.parametrize(
    "name", ["timezone", "", "../../etc/passwd", "/etc/localtime", "America", "europe", "a\x00b", "é"]
)
def test_unknown_time_zone_is_none(name: str) -> None:
    assert known_zone(name) is None


def test_known_time_zone_is_found_by_its_name() -> None:
    assert known_zone("Europe/Berlin") == BERLIN
