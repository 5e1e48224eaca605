"""Options shared by several commands."""

import datetime as dt
from typing import Any

import typer


def day_option(name: str, meaning: str) -> Any:
    """Declare an option whose value is a calendar date, for `Annotated[dt.date, ...]`."""
    return typer.Option(name, parser=dt.date.fromisoformat, metavar="YYYY-MM-DD", help=meaning)
