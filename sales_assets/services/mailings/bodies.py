"""Reading a request's body: JSON, or a form of either kind, by its Content-Type.

Belongs here: bytes to a dictionary, and what is said of bytes that are none. Does not belong here: what the values may
be (``fields``).
"""

import codecs
import json
from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.exceptions import HTTPException

from sales_assets.services.mailings.answers import NON_FIELD, Invalid, Malformed, UnsupportedMediaType

JSON_TYPE = "application/json"
FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")

_JSON_TYPES = (JSON_TYPE, "application/*", "*/*")

_MOST_FIELDS = 1000


class Form(dict[str, Any]):
    """A dictionary that came as a form: an empty string is the only way in which it can say "nothing"."""


async def read_body(request: Request) -> Mapping[str, Any]:
    """The body as a dictionary; without one it is empty. Raises `Malformed`, `UnsupportedMediaType`, `Invalid`."""
    # Without the header it is what the seed's server takes it for; requests of the library `requests` with a string for
    # a body are such.
    header = request.headers.get("content-type", "text/plain")
    kind, options = parse_options_header(header.encode("latin-1", errors="replace"))
    media_type = kind.decode("latin-1").strip()
    raw = await request.body()
    if not raw:
        return Form() if media_type in FORM_TYPES else {}
    if media_type in _JSON_TYPES:
        value = _json(raw, _charset(options))
    elif media_type == FORM_TYPES[0]:
        value = _urlencoded(raw, _charset(options))
    elif media_type == FORM_TYPES[1]:
        if not options.get(b"boundary"):
            raise Malformed("Multipart form parse error - Invalid boundary in multipart: None")
        value = await _multipart(request)
    else:
        raise UnsupportedMediaType(header)
    if value is None:
        raise Invalid({NON_FIELD: ["No data provided"]})
    if not isinstance(value, dict):
        kind_found = type(value).__name__
        raise Invalid({NON_FIELD: [f"Invalid data. Expected a dictionary, but got {kind_found}."]})
    return value


def _charset(options: Mapping[bytes, bytes]) -> str:
    try:
        return codecs.lookup(options.get(b"charset", b"utf-8").decode("latin-1")).name
    except LookupError:
        return "utf-8"


def _json(raw: bytes, charset: str) -> Any:
    try:
        return json.loads(raw.decode(charset), parse_constant=_no_constant)
    except RecursionError:
        raise Malformed("JSON parse error - the nesting is too deep") from None
    except (ValueError, LookupError) as error:  # also: bytes of another encoding, numbers of 5000 digits
        raise Malformed(f"JSON parse error - {error}") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"Out of range float values are not JSON compliant: {name!r}")


def _urlencoded(raw: bytes, charset: str) -> Form:
    try:
        pairs = parse_qsl(
            raw.decode("latin-1"), keep_blank_values=True, encoding=charset, errors="replace",
            max_num_fields=_MOST_FIELDS,
        )  # fmt: skip
    except ValueError:
        raise Malformed("Form parse error - too many fields") from None
    return Form(pairs)  # of a repeated field the last one counts


async def _multipart(request: Request) -> Form:
    try:
        form = await request.form(max_files=_MOST_FIELDS, max_fields=_MOST_FIELDS)
    except (HTTPException, FormParserError, KeyError, ValueError, LookupError) as error:
        told = error.detail if isinstance(error, HTTPException) else "the parts can't be told apart"
        raise Malformed(f"Multipart form parse error - {told}") from None
    return Form(form.multi_items())
