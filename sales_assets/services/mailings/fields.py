"""The kinds of field that clients and mailings have: what is accepted, what it becomes, and how the rest is refused.

The rules and texts are Django REST framework's (CharField, DateTimeField, TimeField, IntegerField), whose answers are
part of docs/data-contracts/mailings.md. Belongs here: one value at a time. Does not belong here: which fields there are
(``domain``).
"""

import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sales_assets.services.http.numbers import SpelledFloat, parse_integer
from sales_assets.services.mailings.bodies import Form
from sales_assets.services.mailings.errors import Invalid

REQUIRED = "This field is required."
NULL = "This field may not be null."
BLANK = "This field may not be blank."
WRONG_MOMENT = (
    "Datetime has wrong format. Use one of these formats instead: YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z]."
)
WRONG_TIME = "Time has wrong format. Use one of these formats instead: hh:mm[:ss[.uuuuuu]]."

# What fromisoformat does not take and Django does: one-digit months and hours, blanks before the zone, a last newline.
_MOMENT = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})[T ](\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:[.,](\d{1,6})\d{0,6})?)?"
    r"\s*(Z|[+-]\d{2}(?::?\d{2})?)?\n?",
    re.ASCII,
)


class Wrong(ValueError):
    """A value is not accepted; `texts` say why."""

    def __init__(self, *texts: str) -> None:
        super().__init__(*texts)
        self.texts = texts


class Field(Protocol):
    """A field of a body."""

    @property
    def name(self) -> str: ...
    @property
    def required(self) -> bool: ...
    @property
    def nullable(self) -> bool: ...
    def read(self, value: Any) -> Any:
        """The value as it is kept. Raises `Wrong`."""


@dataclass(frozen=True)
class Text:
    """A text without blanks around it; numbers become text as they are spelled, unless that is with an exponent.

    `check` validates the stripped text and raises `Wrong`.
    """

    name: str
    most: int | None = None
    required: bool = True
    nullable: bool = False
    check: Callable[[str], None] = lambda _text: None

    def read(self, value: Any) -> str:
        text = _spelled(value).strip()
        if not text:
            raise Wrong(BLANK)
        wrong = []
        if self.most is not None and len(text) > self.most:
            wrong.append(f"Ensure this field has no more than {self.most} characters.")
        if "\x00" in text:
            wrong.append("Null characters are not allowed.")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            wrong.append(f"Surrogate characters are not allowed: U+{ord(text[error.start]):X}.")
        if wrong:
            raise Wrong(*wrong)
        self.check(text)
        return text


def _spelled(value: Any) -> str:
    match value:
        case str():
            return value
        case SpelledFloat() if "e" not in value.spelling.lower():
            return value.spelling
        case int() if not isinstance(value, bool):
            return str(value)
    raise Wrong("Not a valid string.")


@dataclass(frozen=True)
class Moment:
    """A point in time, in UTC. A date alone is its midnight, and what names no zone is UTC."""

    name: str
    required: bool = True
    nullable: bool = False

    def read(self, value: Any) -> dt.datetime:
        # Some milliseconds since 1970 would pass for a date with the hours behind it.
        if not isinstance(value, str) or (value.isdigit() and len(value) != len("20281120")):
            raise Wrong(WRONG_MOMENT)
        try:
            found = _moment(value)
        except ValueError:
            raise Wrong(WRONG_MOMENT) from None
        try:
            return found.replace(tzinfo=dt.UTC) if found.tzinfo is None else found.astimezone(dt.UTC)
        except OverflowError:
            raise Wrong("Datetime value out of range.") from None


def _moment(text: str) -> dt.datetime:
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError:
        match = _MOMENT.fullmatch(text)
        if match is None:
            raise
    *numbers, fraction, zone = match.groups()
    year, month, day, hour, minute, second = (int(number or 0) for number in numbers)
    microsecond = int((fraction or "0").ljust(6, "0"))
    tzinfo: dt.timezone | None = None
    if zone == "Z":
        tzinfo = dt.UTC
    elif zone:
        minutes = int(zone[1:3]) * 60 + (int(zone[-2:]) if len(zone) > 3 else 0)
        tzinfo = dt.timezone(dt.timedelta(minutes=-minutes if zone[0] == "-" else minutes))
    return dt.datetime(year, month, day, hour, minute, second, microsecond, tzinfo)


@dataclass(frozen=True)
class Clock:
    """A time of day, such as 09:00."""

    name: str
    required: bool = False
    nullable: bool = True

    def read(self, value: Any) -> dt.time:
        if not isinstance(value, str) or not re.fullmatch(r"\d{1,2}:\d{2}(:\d{2}(\.\d{1,6})?)?", value, re.ASCII):
            raise Wrong(WRONG_TIME)
        try:
            return dt.time.fromisoformat(value.zfill(5) if len(value) < 5 else value)
        except ValueError:
            raise Wrong(WRONG_TIME) from None


@dataclass(frozen=True)
class Number:
    """A whole number within bounds."""

    name: str
    least: int
    most: int
    required: bool = True
    nullable: bool = False

    def read(self, value: Any) -> int:
        try:
            number = parse_integer(value)
        except ValueError:
            raise Wrong("A valid integer is required.") from None
        if number < self.least:
            raise Wrong(f"Ensure this value is greater than or equal to {self.least}.")
        if number > self.most:
            raise Wrong(f"Ensure this value is less than or equal to {self.most}.")
        return number


def read_fields(fields: Sequence[Field], body: Mapping[str, Any], *, partial: bool = False) -> dict[str, Any]:
    """The values of a body's fields, without those that it leaves out. Raises `Invalid` with all that is wrong."""
    values: dict[str, Any] = {}
    errors: dict[str, Sequence[str]] = {}
    for field in fields:
        try:
            if _given(field, body, partial=partial):
                values[field.name] = _read(field, body)
        except Wrong as wrong:
            errors[field.name] = wrong.texts
    if errors:
        raise Invalid(errors)
    return values


def _given(field: Field, body: Mapping[str, Any], *, partial: bool) -> bool:
    if field.name in body:
        return True
    if field.required and not partial:
        raise Wrong(REQUIRED)
    return False


def _read(field: Field, body: Mapping[str, Any]) -> Any:
    value = body[field.name]
    if value == "" and field.nullable and isinstance(body, Form):
        return None
    if value is None:
        if not field.nullable:
            raise Wrong(NULL)
        return None
    return field.read(value)
