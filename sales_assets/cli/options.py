"""Options shared by several commands."""

import datetime as dt
from typing import Any

import typer


def parse_day(text: str) -> dt.date:
    """Parse a date, or raise `typer.BadParameter`."""
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a date such as 2024-10-02") from None


def day_option(name: str, meaning: str) -> Any:
    """Declare an option whose value is a calendar date, for `Annotated[dt.date, ...]`."""
    return typer.Option(name, parser=parse_day, metavar="YYYY-MM-DD", help=meaning)
