"""Calendar numbers of the tables: days as YYYYMMDD, ISO weeks as YYYYWW."""

import datetime as dt


def date_id(day: dt.date) -> int:
    """Convert a day to the number used in tables, YYYYMMDD."""
    return day.year * 10_000 + day.month * 100 + day.day


def day_of(number: int) -> dt.date:
    """Convert a YYYYMMDD number to a day."""
    return dt.date(number // 10_000, number // 100 % 100, number % 100)


def monday_of(day: dt.date) -> dt.date:
    """Return the Monday of the day's ISO week."""
    return day - dt.timedelta(days=day.weekday())


def week_id(monday: dt.date) -> int:
    """Convert a Monday to the number of its ISO week, ISO year * 100 + week: 2024-12-30 begins 202501."""
    year, week, _ = monday.isocalendar()
    return year * 100 + week
