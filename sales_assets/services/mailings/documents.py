"""What the OpenAPI says of the mailings: bodies, answers and their examples.

Belongs here: descriptions, each true of what the routes answer. Does not belong here: the routes, and anything that is
run: bodies are read by ``bodies`` and ``fields``.
"""

from typing import Any

from sales_assets.services.http.bodies import FORM_TYPES, JSON_TYPE, MAX_BODY_TEXT
from sales_assets.services.mailings.domain import END_BEFORE_START, END_IN_THE_PAST, PHONE_FORMAT, STARTED
from sales_assets.services.mailings.fields import REQUIRED, WRONG_MOMENT

Schema = dict[str, Any]
Responses = dict[int | str, dict[str, Any]]

_NULLABLE_TEXT = {"anyOf": [{"type": "string"}, {"type": "null"}]}
_MOMENT = {"type": "string", "format": "date-time"}
_NULLABLE_MOMENT = {"anyOf": [_MOMENT, {"type": "null"}]}
_NULLABLE_TIME = {"anyOf": [{"type": "string", "pattern": "^[0-9]{2}:[0-9]{2}"}, {"type": "null"}]}
_ID = {"type": "integer"}
_STATUS = {"type": "string", "enum": ["FAILED", "Pending", "SENT", "TIMEOUT"]}

CLIENT_EXAMPLE = {"phone": "78218173218", "operator_code": "123", "timezone": "timezone"}
MAILING_EXAMPLE = {
    "start_time": "2022-12-02T16:50:00Z",
    "text": "hello",
    "client_tag_filter": "VIP",
    "end_time": "2028-11-20",
}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


CLIENT = _object(
    id=_ID, phone={"type": "string"}, operator_code={"type": "string"}, tag=_NULLABLE_TEXT, timezone={"type": "string"}
)
CLIENT_DETAIL = _object(
    **CLIENT["properties"],
    customer_id={"anyOf": [_ID, {"type": "null"}]},
    linked_by={"anyOf": [{"type": "string", "enum": ["phone", "api"]}, {"type": "null"}]},
    mart_tags={"type": "array", "items": {"type": "string"}},
    created_at=_MOMENT,
    updated_at=_MOMENT,
)
MAILING = _object(
    id=_ID,
    start_time=_MOMENT,
    text={"type": "string"},
    client_operator_code_filter=_NULLABLE_TEXT,
    client_tag_filter=_NULLABLE_TEXT,
    end_time=_MOMENT,
)
MAILING_LISTED = _object(
    **MAILING["properties"],
    send_from=_NULLABLE_TIME,
    send_until=_NULLABLE_TIME,
    state={"type": "string", "enum": ["scheduled", "running", "finished"]},
    paused={"type": "boolean"},
)
_MESSAGE_DATA = {"type": "array", "items": _object(status=_STATUS, count={"type": "integer", "minimum": 1})}
MAILING_DETAIL = _object(
    **MAILING_LISTED["properties"],
    paused_at=_NULLABLE_MOMENT,
    started_at=_NULLABLE_MOMENT,
    finished_at=_NULLABLE_MOMENT,
    created_at=_MOMENT,
    updated_at=_MOMENT,
    message_data=_MESSAGE_DATA,
)
STATISTICS = _object(message_data=_MESSAGE_DATA, total_mailings={"type": "integer"})
MAILING_STATISTICS = _object(message_data=_MESSAGE_DATA)
MESSAGE = _object(
    id=_ID,
    client_id=_ID,
    status=_STATUS,
    attempts={"type": "integer"},
    reason=_NULLABLE_TEXT,
    created_at=_MOMENT,
    finished_at=_NULLABLE_MOMENT,
    next_attempt_at=_NULLABLE_MOMENT,
)
CUSTOMER = _object(id=_ID, customer_id=_ID, linked_by={"type": "string", "enum": ["phone", "api"]})
_NEXT = {"anyOf": [_ID, {"type": "null"}], "description": "What to give as `cursor` for the next page; null at the end"}
RECIPIENTS = _object(count={"type": "integer"}, client_ids={"type": "array", "items": _ID}, next=_NEXT)
DAILY = _object(
    days={
        "type": "array",
        "items": _object(day={"type": "string", "format": "date"}, message_data=_MESSAGE_DATA),
    }
)


def page_of(item: Schema) -> Schema:
    """A page of a list."""
    return _object(results={"type": "array", "items": item}, next=_NEXT)


_DETAIL = _object(detail={"type": "string"})
_FIELD_ERRORS = {
    "anyOf": [
        _DETAIL,
        {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}, "minItems": 1}},
    ]
}


def _answer(description: str, schema: Schema, **examples: Any) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": schema}
    if examples:
        content["examples"] = {name: {"value": value} for name, value in examples.items()}
    return {"description": description, "content": {JSON_TYPE: content}}


_NOT_FOUND = _answer("There is no such thing, or not any more.", _DETAIL, unknown={"detail": "Not found."})
_UNAVAILABLE = _answer("The database can't be used at the moment.", _DETAIL)
_NOT_ALLOWED = _answer("The path has no such method.", _DETAIL, get={"detail": 'Method "GET" not allowed.'})
_UNSUPPORTED = _answer(
    "The body is neither JSON nor a form, or its charset is not one that is read.",
    _DETAIL,
    text={"detail": 'Unsupported media type "text/plain" in request.'},
)
_TOO_LARGE = _answer(f"The body is larger than {MAX_BODY_TEXT}.", _DETAIL)

CLIENT_ERRORS = {
    "empty": {"phone": [REQUIRED], "operator_code": [REQUIRED], "timezone": [REQUIRED]},
    "phone": {"phone": [PHONE_FORMAT]},
    "list": {"non_field_errors": ["Invalid data. Expected a dictionary, but got list."]},
    "json": {"detail": "JSON parse error - Expecting ',' delimiter: line 4 column 5 (char 60)"},
}
MAILING_ERRORS = {
    "end_first": {"end_time": [END_BEFORE_START]},
    "past": {"end_time": [END_IN_THE_PAST]},
    "started": {"start_time": [STARTED]},
    "moment": {"end_time": [WRONG_MOMENT]},
}


def answers(
    status: int,
    schema: Schema | None,
    *,
    body: dict[str, Any] | None = None,
    parameters: bool = False,
    found: bool = True,
    **examples: Any,
) -> Responses:
    """What a route answers. `body` are examples of a 400 where it reads one; `parameters`: it reads some of the query;
    `found`: it names something that may not be there."""
    good = _answer("Done.", schema, **examples) if schema else {"description": "Done."}
    told: Responses = {status: good, 405: _NOT_ALLOWED, 503: _UNAVAILABLE}
    if body is not None:
        told |= {
            400: _answer("What is wrong, by field.", _FIELD_ERRORS, **body),
            413: _TOO_LARGE,
            415: _UNSUPPORTED,
        }
    elif parameters:
        told[400] = _answer("What is wrong, by parameter.", _FIELD_ERRORS)
    if found:
        told[404] = _NOT_FOUND
    return told


def _text(most: int | None = None, *, nullable: bool = False, **more: Any) -> Schema:
    text: Schema = {"type": "string", "minLength": 1} | ({"maxLength": most} if most else {})
    return (text if not nullable else {"anyOf": [text, {"type": "null"}]}) | more


_CLIENT_BODY = {
    "phone": {"type": "string", "pattern": "^7[0-9]{10}$"},
    "operator_code": _text(10),
    "tag": _text(50, nullable=True, description="The client's own; tags from the marts stand beside it"),
    "timezone": _text(64, description="Of the IANA database; anything else counts as UTC"),
}
_MOMENT_BODY = {"type": "string", "description": "ISO 8601; a date alone is midnight, and without a zone it is UTC"}
_MAILING_BODY = {
    "start_time": _MOMENT_BODY | {"examples": ["2022-12-02T16:50:00Z"]},
    "text": _text(),
    "client_operator_code_filter": _text(10, nullable=True, description="null: every operator"),
    "client_tag_filter": _text(50, nullable=True, description="The client's own tag or one from the marts; null: all"),
    "end_time": _MOMENT_BODY | {"examples": ["2028-11-20"], "description": "Nothing is sent after it"},
    "send_from": {
        "anyOf": [{"type": "string"}, {"type": "null"}],
        "examples": ["09:00"],
        "description": "With send_until: the window of a day, in the client's zone, in which it may be sent",
    },
    "send_until": {"anyOf": [{"type": "string"}, {"type": "null"}], "examples": ["21:00"]},
}


def _body(properties: Schema, required: list[str], example: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": required}
    content: dict[str, Any] = {JSON_TYPE: {"schema": schema, "example": example}}
    content |= {form: {"schema": schema} for form in FORM_TYPES}
    return {"requestBody": {"required": True, "content": content}}


CLIENT_BODY = _body(_CLIENT_BODY, ["phone", "operator_code", "timezone"], CLIENT_EXAMPLE)
CLIENT_PATCH = _body(_CLIENT_BODY, [], {"tag": "VIP"})
MAILING_BODY = _body(_MAILING_BODY, ["start_time", "text", "end_time"], MAILING_EXAMPLE)
MAILING_PATCH = _body(_MAILING_BODY, [], {"text": "hello again"})
CUSTOMER_BODY = _body({"customer_id": {"type": "integer"}}, ["customer_id"], {"customer_id": 5})
