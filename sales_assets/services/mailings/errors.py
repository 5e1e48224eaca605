"""Error responses of the mailings: the status codes and bodies of Django REST framework, as listed in
docs/data-contracts/mailings.md.

Belongs here: refusals, and turning FastAPI's own into them. Does not belong here: what is refused, and why (``fields``,
``domain``, ``bodies``).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match

Errors = Mapping[str, Sequence[str]]

NON_FIELD = "non_field_errors"
NOT_FOUND = "Not found."
UNAVAILABLE = "Service temporarily unavailable, try again later."


class Refusal(HTTPException):
    """A request that is answered with an error; `body` is the answer's JSON."""

    def __init__(self, status_code: int, body: Mapping[str, Any]) -> None:
        super().__init__(status_code)
        self.body = body


class Invalid(Refusal):
    """400: what is wrong, by field."""

    def __init__(self, errors: Errors) -> None:
        super().__init__(400, {field: list(texts) for field, texts in errors.items()})
        self.errors = errors


class NotFound(Refusal):
    """404: there is no such client or mailing, or not any more."""

    def __init__(self) -> None:
        super().__init__(404, {"detail": NOT_FOUND})


class Malformed(Refusal):
    """400: the body can't be read at all."""

    def __init__(self, detail: str) -> None:
        super().__init__(400, {"detail": detail})


class UnsupportedMediaType(Refusal):
    """415: the body is of a type that is not read; `media_type` is the header as it came."""

    def __init__(self, media_type: str) -> None:
        super().__init__(415, {"detail": f'Unsupported media type "{media_type}" in request.'})


class Unavailable(Refusal):
    """503: the database can't be used at the moment."""

    def __init__(self) -> None:
        super().__init__(503, {"detail": UNAVAILABLE})


def answer(request: Request, error: HTTPException | RequestValidationError, routes: Iterable[BaseRoute]) -> Response:
    """The answer to any error below the service's paths; `routes` are those that the service has there."""
    if isinstance(error, RequestValidationError):
        return _malformed_parameters(error)
    if isinstance(error, Refusal):
        return JSONResponse(error.body, status_code=error.status_code)
    headers = dict(error.headers or {})
    detail = error.detail
    if error.status_code == 404:
        detail = NOT_FOUND
    elif error.status_code == 405:
        detail = f'Method "{request.method}" not allowed.'
        headers["Allow"] = ", ".join(sorted(_methods(request, routes)))
    return JSONResponse({"detail": detail}, status_code=error.status_code, headers=headers)


def _methods(request: Request, routes: Iterable[BaseRoute]) -> set[str]:
    """Which methods the path of the request has; its one route that Starlette tells of may not be all."""
    return {
        method
        for route in routes
        if route.matches(request.scope)[0] is not Match.NONE
        for method in getattr(route, "methods", None) or ()
    }


# pydantic's kinds of error, in the words of the framework.
_WORDS: tuple[tuple[str, str], ...] = (
    (r"int_.*", "A valid integer is required."),
    (r"date_.*", "Date has wrong format. Use one of these formats instead: YYYY-MM-DD."),
    (r"greater_than_equal", "Ensure this value is greater than or equal to {ge}."),
    (r"less_than_equal", "Ensure this value is less than or equal to {le}."),
    (r"literal_error|enum", '"{input}" is not a valid choice.'),
    (r"missing", "This field is required."),
    (r"string_too_long", "Ensure this field has no more than {max_length} characters."),
)


def _malformed_parameters(error: RequestValidationError) -> Response:
    told: dict[str, list[str]] = {}
    for fault in error.errors():
        place: Literal["path", "query"] | str = fault["loc"][0]
        if place == "path":
            return JSONResponse({"detail": NOT_FOUND}, status_code=404)
        words = next((text for kind, text in _WORDS if re.fullmatch(kind, fault["type"])), None)
        known = fault.get("ctx", {}) | {"input": str(fault.get("input", ""))[:100].encode(errors="replace").decode()}
        told.setdefault(str(fault["loc"][-1]), []).append(words.format(**known) if words else fault["msg"])
    return JSONResponse(told, status_code=400)
