"""Request bodies: supported encodings, and JSON parsed in bounded time.

Decodes and parses bytes within limits; the services validate the values and respond to errors.
"""

import codecs
import itertools
import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from python_multipart.multipart import parse_options_header

from sales_assets.services.http.numbers import LiteralFloat

MAX_BODY_BYTES = 1 << 20
MAX_BODY_TEXT = "1 MiB"
# Far below every recursion limit between here and the database; real orders nest three levels.
MAX_DEPTH = 64
# Python's garbage collector visits each object repeatedly; the largest order has some thousand objects.
MAX_OBJECTS = 50_000

JSON_TYPE = "application/json"
URLENCODED, MULTIPART = FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")

# Decoding these takes linear time. Others do not: Python's punycode needs seconds for some hundred kB.
_CODECS = frozenset(
    ("utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "iso8859-1", "cp1251", "koi8-r")
)
_CHARSET_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,40}", re.ASCII)


_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
MAX_FIELDS = 1000


class TooComplex(ValueError):
    """The JSON exceeds the limit of nesting depth, or of objects and lists."""


class ContentType(NamedTuple):
    """A Content-Type header: media type in lower case, Python's codec or None, whether the charset is supported."""

    media_type: str
    codec: str | None
    readable: bool
    has_boundary: bool


def content_type(header: str) -> ContentType:
    """Parse a Content-Type header like Starlette's form parsers."""
    kind, options = parse_options_header(header)
    charset = options.get(b"charset", b"").decode("latin-1").strip()
    codec = _codec(charset) if charset else None
    return ContentType(
        kind.decode("latin-1").strip(), codec, readable=not charset or codec is not None,
        has_boundary=bool(options.get(b"boundary")),
    )  # fmt: skip


def is_bounded_form(raw: bytes) -> bool:
    """Return whether a form has few fields and few stray percent signs; each costs the decoders microseconds."""
    stray = sum(1 for _ in itertools.islice(_BAD_ESCAPE.finditer(raw), MAX_FIELDS + 1))
    return raw.count(b"&") < MAX_FIELDS and stray <= MAX_FIELDS


def _codec(charset: str) -> str | None:
    if not _CHARSET_NAME.fullmatch(charset):
        return None
    try:
        name = codecs.lookup(charset).name
    except LookupError:
        return None
    return name if name in _CODECS else None


def parse_json(raw: bytes, codec: str | None = None, *, parse_constant: Callable[[str], object] | None = None) -> Any:
    """Parse JSON, keeping the spelling of numbers. Without a codec, detect UTF-8, UTF-16 or UTF-32.

    Raises:
        TooComplex: it nests deeper than `MAX_DEPTH`, or has more than `MAX_OBJECTS` objects and lists, or fractions.
        json.JSONDecodeError: it is not JSON.
        ValueError: it is not in that encoding, or has a number of several thousand digits.
    """
    codec = codec or json.detect_encoding(raw)
    text = raw.decode("utf-8-sig" if codec == "utf-8" else codec)
    if _brackets(text) > MAX_OBJECTS and _brackets(_STRING.sub("", text)) > MAX_OBJECTS:
        raise TooComplex(f"more than {MAX_OBJECTS} objects and lists")
    try:
        value = json.loads(text, parse_float=_bounded_floats(), parse_constant=parse_constant)
    except RecursionError:
        raise TooComplex(_too_deep()) from None
    _require_shallow(value)
    return value


def _bounded_floats() -> Callable[[str], LiteralFloat]:
    numbers = itertools.count(1)

    def read(spelling: str) -> LiteralFloat:
        if next(numbers) > MAX_OBJECTS:
            raise TooComplex(f"more than {MAX_OBJECTS} numbers with a fraction or an exponent")
        return LiteralFloat(spelling)

    return read


def _brackets(text: str) -> int:
    return text.count("[") + text.count("{")


def _require_shallow(value: object) -> None:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
        level = [
            child
            for container in level
            for child in (container.values() if isinstance(container, dict) else container)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise TooComplex(_too_deep())


def _too_deep() -> str:
    return f"the nesting is too deep: over {MAX_DEPTH} levels"
