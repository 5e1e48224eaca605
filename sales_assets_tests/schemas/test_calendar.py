"""Conversion of days and weeks to numbers."""

import datetime as dt

from sales_assets.schemas.calendar import date_id, day_of, monday_of, week_id


def test_a_day_is_converted_to_a_number_and_back() -> None:
    assert date_id(dt.date(2024, 10, 2)) == 20241002
    assert day_of(20241002) == dt.date(2024, 10, 2)
    assert day_of(99991231) == dt.date(9999, 12, 31)


def test_a_week_begins_on_monday() -> None:
    assert [monday_of(dt.date(2024, 12, day)) for day in (29, 30, 31)] == [
        dt.date(2024, 12, 23),
        dt.date(2024, 12, 30),
        dt.date(2024, 12, 30),
    ]


def test_a_week_belongs_to_the_year_of_its_thursday() -> None:
    assert week_id(dt.date(2024, 12, 23)) == 202452
    assert week_id(dt.date(2024, 12, 30)) == 202501
    assert week_id(dt.date(2020, 12, 28)) == 202053
