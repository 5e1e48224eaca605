"""Reading a request's body: JSON, or a form of either kind, by its Content-Type.

Belongs here: bytes to a dictionary, and what is said of bytes that are none. Does not belong here: what the values may
be (``fields``).
"""

from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from fastapi import Request
from python_multipart.exceptions import FormParserError
from starlette.exceptions import HTTPException

from sales_assets.services.http.bodies import (
    FORM_TYPES,
    JSON_TYPE,
    MAX_FIELDS,
    MULTIPART,
    URLENCODED,
    content_type,
    parse_json,
)
from sales_assets.services.mailings.errors import NON_FIELD, Invalid, Malformed, UnsupportedMediaType

_JSON_TYPES = (JSON_TYPE, "application/*", "*/*")


class Form(dict[str, Any]):
    """A dictionary that came as a form: an empty string is the only way in which it can say "nothing"."""


async def read_body(request: Request) -> Mapping[str, Any]:
    """The body as a dictionary; without one it is empty. Raises `Malformed`, `UnsupportedMediaType`, `Invalid`."""
    # Without the header it counts as text/plain, as in the service that docs/data-contracts/mailings.md describes;
    # the library `requests` sends none with a string for a body.
    header = request.headers.get("content-type", "text/plain")
    declared = content_type(header)
    raw = await request.body()
    if not raw:
        return Form() if declared.media_type in FORM_TYPES else {}
    if declared.media_type in _JSON_TYPES:
        value = _json(raw, declared.codec)
    elif declared.media_type == URLENCODED:
        value = _urlencoded(raw, declared.codec or "utf-8")
    elif declared.media_type == MULTIPART:
        if not declared.has_boundary:
            raise Malformed("Multipart form parse error - Invalid boundary in multipart: None")
        value = await _multipart(request)
    else:
        raise UnsupportedMediaType(header)
    if value is None:
        raise Invalid({NON_FIELD: ["No data provided"]})
    if not isinstance(value, dict):
        kind_found = "float" if isinstance(value, float) else type(value).__name__
        raise Invalid({NON_FIELD: [f"Invalid data. Expected a dictionary, but got {kind_found}."]})
    return value


def _json(raw: bytes, codec: str | None) -> Any:
    try:
        return parse_json(raw, codec, parse_constant=_no_constant)
    except ValueError as error:  # also: bytes of another encoding, numbers of 5000 digits
        raise Malformed(f"JSON parse error - {error}") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"Out of range float values are not JSON compliant: {name!r}")


def _urlencoded(raw: bytes, codec: str) -> Form:
    pairs = parse_qsl(raw.decode("latin-1"), keep_blank_values=True, encoding=codec, errors="replace")
    return Form(pairs)  # of a repeated field the last one counts


async def _multipart(request: Request) -> Form:
    try:
        form = await request.form(max_files=MAX_FIELDS, max_fields=MAX_FIELDS)
    except (HTTPException, FormParserError, KeyError, ValueError, LookupError) as error:
        told = error.detail if isinstance(error, HTTPException) else "the parts can't be told apart"
        raise Malformed(f"Multipart form parse error - {told}") from None
    return Form(form.multi_items())
