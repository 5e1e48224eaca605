"""Models of the mailings' API: bodies, parameters and responses. FastAPI generates the OpenAPI document from them.

Fields accept the values that Django REST framework accepts (docs/data-contracts/mailings.md). Rules between fields of a
mailing are in ``domain``, texts of errors in ``errors``.
"""

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Generic, Literal, TypeVar, get_args

from fastapi import Path, Query
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from sales_assets.services.http.bodies import FORM_TYPES, JSON_TYPE
from sales_assets.services.http.numbers import Integer, LiteralFloat
from sales_assets.services.mailings.errors import Invalid, field_errors

INT32 = 2**31 - 1
INT64 = 2**63 - 1

DATETIME_FORMAT = (
    "Datetime has wrong format. Use one of these formats instead: YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z]."
)
TIME_FORMAT = "Time has wrong format. Use one of these formats instead: hh:mm[:ss[.uuuuuu]]."

# What fromisoformat rejects and Django accepts: one-digit months and hours, blanks before the zone, a last newline.
_DATETIME = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})[T ](\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:[.,](\d{1,6})\d{0,6})?)?"
    r"\s*(Z|[+-]\d{2}(?::?\d{2})?)?\n?",
    re.ASCII,
)
_TIME = re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d{1,6})?)?", re.ASCII)
_SURROGATE = re.compile("[\ud800-\udfff]")


# --- field types ----------------------------------------------------------------------------------------------------


def _to_text(value: object) -> str:
    """Read a string without blanks around it, or a number as it is spelled."""
    if isinstance(value, LiteralFloat) and "e" not in value.spelling.lower():
        value = value.spelling
    elif isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise PydanticCustomError("string_type", "Not a valid string.")
    return _storable(value.strip())


def _storable(text: str) -> str:
    # PostgreSQL's text has no NUL, and UTF-8 has no lone surrogates; JSON can spell both.
    if "\x00" in text:
        raise PydanticCustomError("null_character", "Null characters are not allowed.")
    if surrogate := _SURROGATE.search(text):
        raise PydanticCustomError(
            "surrogate", "Surrogate characters are not allowed: U+{code}.", {"code": f"{ord(surrogate[0]):X}"}
        )
    return text


def _to_datetime(value: object) -> dt.datetime:
    """Read a date and time as UTC. A date is its midnight; without a zone it is UTC."""
    # Milliseconds since 1970 would pass for a date followed by hours.
    if not isinstance(value, str) or (value.isdigit() and len(value) != len("20281120")):
        raise PydanticCustomError("datetime_format", DATETIME_FORMAT)
    try:
        moment = _parse_datetime(value)
    except ValueError:
        raise PydanticCustomError("datetime_format", DATETIME_FORMAT) from None
    try:
        return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)
    except OverflowError:
        raise PydanticCustomError("datetime_range", "Datetime value out of range.") from None


def _parse_datetime(text: str) -> dt.datetime:
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError:
        if (match := _DATETIME.fullmatch(text)) is None:
            raise
    year, month, day, hour, minute, second, fraction, zone = (part or "" for part in match.groups())
    return dt.datetime.fromisoformat(
        f"{year}-{month:0>2}-{day:0>2}T{hour:0>2}:{minute:0>2}:{second:0>2}.{fraction:0<6}{zone}"
    )


def _to_time(value: object) -> dt.time:
    try:
        if isinstance(value, str) and _TIME.fullmatch(value):
            return dt.time.fromisoformat(value.zfill(5))
    except ValueError:
        pass
    raise PydanticCustomError("time_format", TIME_FORMAT)


def _to_day(value: object) -> object:
    # pydantic also reads digits as seconds since 1970.
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", str(value)):
        raise PydanticCustomError("date_parsing", "Input should be a date, YYYY-MM-DD")
    return value


def _shown(time: dt.time) -> str:
    return time.isoformat("auto" if time.second or time.microsecond else "minutes")


Text = Annotated[str, Field(min_length=1), BeforeValidator(_to_text)]
Phone = Annotated[str, Field(min_length=1, max_length=11, pattern="^7[0-9]{10}$"), BeforeValidator(_to_text)]
OperatorCode = Annotated[str, Field(min_length=1, max_length=10), BeforeValidator(_to_text)]
Tag = Annotated[str, Field(min_length=1, max_length=50), BeforeValidator(_to_text)]
TimeZone = Annotated[
    str,
    Field(min_length=1, max_length=64, description="Of the IANA database; any other text counts as UTC"),
    BeforeValidator(_to_text),
]
DateTime = Annotated[dt.datetime, BeforeValidator(_to_datetime)]
Time = Annotated[dt.time, BeforeValidator(_to_time)]
ShownTime = Annotated[dt.time, PlainSerializer(_shown)]
LinkedBy = Literal["phone", "api"]
MailingState = Literal["scheduled", "running", "finished"]
MessageStatus = Literal["FAILED", "Pending", "SENT", "TIMEOUT"]


# --- parameters -----------------------------------------------------------------------------------------------------

Id = Annotated[Integer, Path(ge=0, le=INT64)]
Limit = Annotated[Integer, Query(ge=1, le=1000, description="Maximum number of entries in the page")]
Cursor = Annotated[Integer, Query(ge=0, le=INT64, description="`next` of the page before")]
Day = Annotated[dt.date, BeforeValidator(_to_day)]
Filter = Annotated[str, Field(max_length=100), AfterValidator(_storable)]


# --- bodies ---------------------------------------------------------------------------------------------------------


class FormData(dict[str, Any]):
    """The fields of a form, in which an empty string is the only way to write null."""


class Body(BaseModel):
    """A JSON object or form. The endpoint reads it itself, because an unknown id in the path is reported first."""

    @model_validator(mode="before")
    @classmethod
    def _from_object(cls, body: Any) -> Any:
        if body is None:
            raise PydanticCustomError("no_data", "No data provided")
        if not isinstance(body, dict):
            found = "float" if isinstance(body, float) else type(body).__name__
            raise PydanticCustomError(
                "dictionary", "Invalid data. Expected a dictionary, but got {found}.", {"found": found}
            )
        if isinstance(body, FormData):
            nullable = {name for name, field in cls.model_fields.items() if type(None) in get_args(field.annotation)}
            return {name: None if value == "" and name in nullable else value for name, value in body.items()}
        return body

    @classmethod
    def values(cls, body: Any) -> dict[str, Any]:
        """Return the values of the fields that the body has. Raises `Invalid`."""
        try:
            return cls.model_validate(body).model_dump(exclude_unset=True)
        except ValidationError as error:
            raise Invalid(field_errors(error.errors())) from None

    @classmethod
    def openapi(cls) -> dict[str, Any]:
        """Describe the body in the OpenAPI document, with the model's example."""
        schema = cls.model_json_schema()
        json_body = {"schema": schema, "example": schema.pop("example")}
        forms = {kind: {"schema": schema} for kind in FORM_TYPES}
        return {"requestBody": {"required": True, "content": {JSON_TYPE: json_body, **forms}}}


# A factory, unlike a default, is not part of the OpenAPI document; its value is never used.
_OMITTED: Any = Field(default_factory=lambda: None)


class ClientPatch(Body):
    """Fields of a client to change; omitted ones stay."""

    model_config = ConfigDict(json_schema_extra={"example": {"tag": "VIP"}})

    phone: Phone = _OMITTED
    operator_code: OperatorCode = _OMITTED
    tag: Annotated[Tag | None, Field(description="The client's tag; tags from the marts are kept apart")] = _OMITTED
    timezone: TimeZone = _OMITTED


class ClientBody(ClientPatch):
    """A client to create or replace."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"phone": "78218173218", "operator_code": "123", "timezone": "timezone"}}
    )

    phone: Phone
    operator_code: OperatorCode
    timezone: TimeZone


class SuppressionBody(Body):
    """A phone to exclude from mailings."""

    phone: Phone


class CustomerBody(Body):
    """The customer of the mart that a client is linked to."""

    model_config = ConfigDict(json_schema_extra={"example": {"customer_id": 5}})

    customer_id: Annotated[Integer, Field(ge=0, le=INT32)]


class MailingPatch(Body):
    """Fields of a mailing to change; omitted ones stay."""

    model_config = ConfigDict(json_schema_extra={"example": {"text": "hello again"}})

    start_time: DateTime = _OMITTED
    text: Text = _OMITTED
    client_operator_code_filter: Annotated[OperatorCode | None, Field(description="null: every operator")] = _OMITTED
    client_tag_filter: Annotated[Tag | None, Field(description="A client's tag or one from the marts")] = _OMITTED
    end_time: Annotated[DateTime, Field(description="Nothing is sent after it")] = _OMITTED
    send_from: Annotated[
        Time | None, Field(description="With send_until: the hours in which to send, in the client's time zone")
    ] = _OMITTED
    send_until: Time | None = _OMITTED


class MailingBody(MailingPatch):
    """A mailing to create or replace."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "start_time": "2022-12-02T16:50:00Z",
                "text": "hello",
                "client_tag_filter": "VIP",
                "end_time": "2028-11-20",
            }
        }
    )

    start_time: DateTime
    text: Text
    end_time: DateTime


# --- responses ------------------------------------------------------------------------------------------------------

Item = TypeVar("Item")
Next = Annotated[int | None, Field(description="The `cursor` of the next page; null at the end")]


class Page(BaseModel, Generic[Item]):
    """A page of a list, in the order of its cursor."""

    results: list[Item]
    next: Next


def page(rows: Sequence[Mapping[str, Any]], limit: int, *, key: str = "id") -> dict[str, Any]:
    """Return a `Page` of rows, at most `limit`, that are sorted by `key`."""
    return {"results": rows, "next": rows[-1][key] if len(rows) == limit else None}


class Client(BaseModel):
    """A client, as stored."""

    id: int
    phone: str
    operator_code: str
    tag: str | None
    timezone: str


class ClientDetail(Client):
    """A client with its linked customer and its tags from the marts."""

    customer_id: int | None
    linked_by: LinkedBy | None
    mart_tags: list[str]
    created_at: dt.datetime
    updated_at: dt.datetime


class LinkedCustomer(BaseModel):
    """The link from a client (`id`) to a customer of the mart: found by phone, or set through this API."""

    id: int
    customer_id: int
    linked_by: LinkedBy


class StatusCount(BaseModel):
    """Number of messages with a status."""

    status: MessageStatus
    count: int


class MailingStatistics(BaseModel):
    """Messages of a mailing by status; statuses without messages are omitted."""

    message_data: list[StatusCount]


class Statistics(MailingStatistics):
    """Messages by status over all mailings, and the number of mailings."""

    total_mailings: int


class DayStatistics(BaseModel):
    """Messages by status of the mailings that started on a day in SALES_TIMEZONE."""

    day: dt.date
    message_data: list[StatusCount]


class DailyStatistics(BaseModel):
    """Messages by day and status; days without messages are omitted."""

    days: list[DayStatistics]


class Mailing(BaseModel):
    """A mailing: its text, period and recipient filters."""

    id: int
    start_time: dt.datetime
    text: str
    client_operator_code_filter: str | None
    client_tag_filter: str | None
    end_time: dt.datetime


class ListedMailing(Mailing):
    """A mailing with its send window, in the client's time zone, and its state."""

    send_from: ShownTime | None
    send_until: ShownTime | None
    state: MailingState
    paused: bool


class MailingDetail(ListedMailing):
    """A mailing with all its times and its messages by status."""

    paused_at: dt.datetime | None
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    created_at: dt.datetime
    updated_at: dt.datetime
    message_data: list[StatusCount]


class Message(BaseModel):
    """A message to one client. `reason`: reason of its failure or last failed attempt."""

    id: int
    client_id: int
    status: MessageStatus
    attempts: int
    reason: str | None
    created_at: dt.datetime
    finished_at: dt.datetime | None
    next_attempt_at: dt.datetime | None


class Recipients(BaseModel):
    """Number of clients that a mailing goes to, and a page of their ids."""

    count: int
    client_ids: list[int]
    next: Next
