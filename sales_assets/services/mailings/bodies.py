"""Read a request's body, JSON or a form of either type, by its Content-Type."""

from typing import Any, NoReturn
from urllib.parse import parse_qsl

from fastapi import HTTPException, Request
from python_multipart.exceptions import FormParserError
from starlette.exceptions import HTTPException as StarletteHTTPException

from sales_assets.services.http.bodies import (
    FORM_TYPES,
    JSON_TYPE,
    MAX_FIELDS,
    MULTIPART,
    URLENCODED,
    content_type,
    parse_json,
)
from sales_assets.services.mailings.schemas import FormData

_JSON_TYPES = (JSON_TYPE, "application/*", "*/*")


async def read_body(request: Request) -> Any:
    """Return the parsed body; an empty dictionary if there is none. Raises `HTTPException` for an unreadable body."""
    # A missing header counts as text/plain, as in the service that docs/data-contracts/mailings.md describes; the
    # library `requests` sends none with a string for a body.
    header = request.headers.get("content-type", "text/plain")
    declared = content_type(header)
    raw = await request.body()
    if not raw:
        return FormData() if declared.media_type in FORM_TYPES else {}
    if declared.media_type in _JSON_TYPES:
        return _json(raw, declared.codec)
    if declared.media_type == URLENCODED:
        # The last value of a repeated field counts.
        codec = declared.codec or "utf-8"
        return FormData(parse_qsl(raw.decode("latin-1"), keep_blank_values=True, encoding=codec, errors="replace"))
    if declared.media_type == MULTIPART:
        if not declared.has_boundary:
            raise HTTPException(400, "Multipart form parse error - Invalid boundary in multipart: None")
        return await _multipart(request)
    raise HTTPException(415, f'Unsupported media type "{header}" in request.')


def _json(raw: bytes, codec: str | None) -> Any:
    try:
        return parse_json(raw, codec, parse_constant=_reject_constant)
    except ValueError as error:  # also: bytes of another encoding, numbers of 5000 digits
        raise HTTPException(400, f"JSON parse error - {error}") from None


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"Out of range float values are not JSON compliant: {name!r}")


async def _multipart(request: Request) -> FormData:
    try:
        return FormData((await request.form(max_files=MAX_FIELDS, max_fields=MAX_FIELDS)).multi_items())
    except (StarletteHTTPException, FormParserError, KeyError, ValueError, LookupError) as error:
        reason = error.detail if isinstance(error, StarletteHTTPException) else "the parts can't be told apart"
        raise HTTPException(400, f"Multipart form parse error - {reason}") from None
