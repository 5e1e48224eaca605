"""Errors of the mailings' API: Django REST framework's statuses and texts (docs/data-contracts/mailings.md).

Error responses, and the texts for pydantic's error types. ``schemas`` and ``domain`` decide which values are invalid.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.routing import BaseRoute, Match

from sales_assets.services.http.bodies import JSON_TYPE, MAX_BODY_TEXT

NON_FIELD = "non_field_errors"
REQUIRED = "This field is required."
NULL = "This field may not be null."
ERASED = "The person of this phone was erased"
PHONE_FORMAT = "The phone must have '7XXXXXXXXXX' format"
NOT_FOUND = "Not found."
UNAVAILABLE = "Service temporarily unavailable, try again later."

# By pattern of pydantic's error types; an error of any other type has its text already.
_TEXTS: tuple[tuple[str, str], ...] = (
    (r"missing", REQUIRED),
    (r"int_.*", "A valid integer is required."),
    (r"date_.*", "Date has wrong format. Use one of these formats instead: YYYY-MM-DD."),
    (r"greater_than_equal", "Ensure this value is greater than or equal to {ge}."),
    (r"less_than_equal", "Ensure this value is less than or equal to {le}."),
    (r"literal_error|enum", '"{input}" is not a valid choice.'),
    (r"string_too_short", "This field may not be blank."),
    (r"string_too_long", "Ensure this field has no more than {max_length} characters."),
    (r"string_pattern_mismatch", PHONE_FORMAT),  # no other field has a pattern
)

_EXAMPLES = {
    "empty": {"phone": [REQUIRED], "operator_code": [REQUIRED], "timezone": [REQUIRED]},
    "phone": {"phone": [PHONE_FORMAT]},
    "list": {NON_FIELD: ["Invalid data. Expected a dictionary, but got list."]},
    "json": {"detail": "JSON parse error - Expecting ',' delimiter: line 4 column 5 (char 60)"},
}


class Detail(BaseModel):
    """An error that does not belong to a single field."""

    detail: str


# Error responses in the OpenAPI document: of every endpoint, and of those with a body, a parameter or an id.
ERRORS: dict[int | str, dict[str, Any]] = {
    405: {"model": Detail, "description": "The path lacks the method."},
    503: {"model": Detail, "description": "The database is unavailable."},
}
PARAMETER_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": dict[str, list[str]], "description": "Invalid values, by parameter."}
}
BODY_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {
        "model": Detail | dict[str, list[str]],
        "description": "Invalid values, by field, or an unreadable body.",
        "content": {JSON_TYPE: {"examples": {name: {"value": value} for name, value in _EXAMPLES.items()}}},
    },
    413: {"model": Detail, "description": f"The body is larger than {MAX_BODY_TEXT}."},
    415: {"model": Detail, "description": "The body is neither JSON nor a form, or its charset is not supported."},
}
ID_ERRORS: dict[int | str, dict[str, Any]] = {404: {"model": Detail, "description": "There is nothing with this id."}}


class Invalid(HTTPException):
    """400: invalid values, by field."""

    def __init__(self, errors: Mapping[str, Sequence[str]]) -> None:
        super().__init__(400, dict(errors))
        self.errors = errors


class NotFound(HTTPException):
    """404: there is no such client or mailing."""

    def __init__(self) -> None:
        super().__init__(404)


class Unavailable(HTTPException):
    """503: the database is unavailable."""

    def __init__(self) -> None:
        super().__init__(503, UNAVAILABLE)


def field_errors(errors: Iterable[Any]) -> dict[str, list[str]]:
    """Return the texts of pydantic's errors, by field."""
    texts: dict[str, list[str]] = {}
    for error in errors:
        texts.setdefault(str(error["loc"][-1]) if error["loc"] else NON_FIELD, []).append(_text(error))
    return texts


def _text(error: Mapping[str, Any]) -> str:
    if error["input"] is None and error["loc"]:
        return NULL
    text = next((text for types, text in _TEXTS if re.fullmatch(types, error["type"])), None)
    if text is None:
        return str(error["msg"])
    # The input may be a whole body.
    shown = str(error["input"])[:100].encode(errors="replace").decode() if "{input}" in text else ""
    return text.format(**error.get("ctx", {}), input=shown)


def error_response(
    request: Request, error: StarletteHTTPException | RequestValidationError, routes: Iterable[BaseRoute]
) -> Response:
    """Return the response to any error below the service's paths; `routes` are all routes of the service."""
    if isinstance(error, RequestValidationError):
        errors = error.errors()
        if any(fault["loc"][0] == "path" for fault in errors):
            return JSONResponse({"detail": NOT_FOUND}, 404)
        return JSONResponse(field_errors(errors), 400)
    if isinstance(error, Invalid):
        return JSONResponse(error.errors, 400)
    headers, detail = dict(error.headers or {}), error.detail
    if error.status_code == 404:
        detail = NOT_FOUND
    elif error.status_code == 405:
        detail = f'Method "{request.method}" not allowed.'
        headers["Allow"] = ", ".join(sorted(_methods(request, routes)))
    return JSONResponse({"detail": detail}, error.status_code, headers)


def _methods(request: Request, routes: Iterable[BaseRoute]) -> set[str]:
    """Return the methods of all routes with the request's path; Starlette reports those of a single route."""
    return {
        method
        for route in routes
        if route.matches(request.scope)[0] is not Match.NONE
        for method in getattr(route, "methods", None) or ()
    }
