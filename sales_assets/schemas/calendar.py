"""Calendar numbers of the tables: days as YYYYMMDD, ISO weeks as YYYYWW."""

import datetime as dt


def date_id(day: dt.date) -> int:
    """The calendar day as the number that the tables use: YYYYMMDD."""
    return day.year * 10_000 + day.month * 100 + day.day


def day_of(number: int) -> dt.date:
    """The calendar day of a YYYYMMDD number."""
    return dt.date(number // 10_000, number // 100 % 100, number % 100)


def monday_of(day: dt.date) -> dt.date:
    """The first day of the ISO week that the day belongs to."""
    return day - dt.timedelta(days=day.weekday())


def week_id(monday: dt.date) -> int:
    """The ISO week as the number that the tables use: ISO year * 100 + week; 2024-12-30 begins 202501."""
    year, week, _ = monday.isocalendar()
    return year * 100 + week
