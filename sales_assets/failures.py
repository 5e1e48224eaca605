"""What a person at a terminal reads of an exception: one sentence, without secrets; the traceback only on request.

Every exception gets one. There is no list of expected ones, which would miss the next library's: what the platform
raises itself says what is wrong and is printed as it is; what comes from the world outside (files, servers, encodings,
the libraries that speak to them) is named by its own first line; everything else is reported as a mistake of ours.
"""

import csv
import re
import traceback
from types import TracebackType

from sales_assets.settings import secrets_in_force

# Packages whose exceptions are about the world outside, also where they raise a plain ValueError or ImportError.
_OUTSIDE = {
    *("psycopg", "psycopg2", "sqlalchemy", "alembic", "dagster", "dagster_postgres"),
    *("fsspec", "s3fs", "gcsfs", "adlfs", "botocore", "aiobotocore", "boto3", "google", "azure", "pyarrow"),
    *("requests", "urllib3", "aiohttp", "aio_pika", "aiormq", "pamqp", "amqp", "kombu", "celery", "ssl", "socket"),
}

_USERINFO = re.compile(r"(\w://)[^\s/@'\"]*@")
_QUERY = re.compile(r"\?[\w.~%-]+=[^\s'\")]*")
_PASSWORD = re.compile(r"(?i)\b((?:ssl)?password\s*=\s*)('(?:[^'\\]|\\.)*'|\S+)")


def sentence(error: BaseException) -> str:
    """Describe for a person what went wrong; several lines only where the platform itself wrote them."""
    error = _innermost(error)
    text = str(error).strip()
    if _is_ours(error) and text:
        return scrub(text)
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return scrub(f"{error.filename}: {error.strerror}")
    first = _database_message(error) or next(iter(text.splitlines()), "")
    if isinstance(error, UnicodeError):
        first = f"text that can't be encoded or decoded: {first}"
    elif not isinstance(error, OSError) and _package(type(error).__module__) not in ("psycopg", "psycopg2"):
        first = f"{type(error).__name__}: {first}" if first else type(error).__name__
    if not first:
        first = type(error).__name__
    if is_bug(error):
        first = (
            f"unexpected error, probably a mistake in sales_assets: {first} (`sales-assets --debug ...` shows where)"
        )
    return scrub(first)


def is_bug(error: BaseException) -> bool:
    """Whether an exception is neither about the outside world nor one that the platform raises on purpose."""
    error = _innermost(error)
    if _is_ours(error) or isinstance(error, (OSError, UnicodeError, csv.Error, MemoryError)):
        return False
    return not {_package(type(error).__module__), _raised_in(error.__traceback__)} & _OUTSIDE


def details(error: BaseException) -> str:
    """Format the traceback, without secrets."""
    return scrub("".join(traceback.format_exception(error)))


def scrub(text: str) -> str:
    """Remove what may be secret from another library's text: our own secrets, and what URLs carry beside an address."""
    for secret in secrets_in_force():
        text = text.replace(secret, "***")
    return _PASSWORD.sub(r"\1***", _QUERY.sub("?***", _USERINFO.sub(r"\1***@", text)))


def _innermost(error: BaseException) -> BaseException:
    """Find the exception itself: the first of a group, the driver's of those that SQLAlchemy wraps."""
    while True:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        elif isinstance(wrapped := getattr(error, "orig", None), BaseException):
            error = wrapped
        else:
            return error


def _database_message(error: BaseException) -> str | None:
    """PostgreSQL's own message and hint, which libpq's text repeats with the statement and a caret."""
    diagnosis = getattr(error, "diag", None)
    told = (getattr(diagnosis, part, None) for part in ("message_primary", "message_detail", "message_hint"))
    return "; ".join(" ".join(part.split()) for part in told if part) or None


def _is_ours(error: BaseException) -> bool:
    return _package(type(error).__module__) == "sales_assets"


def _raised_in(frames: TracebackType | None) -> str:
    package = ""
    while frames is not None:
        package = _package(frames.tb_frame.f_globals.get("__name__", ""))
        frames = frames.tb_next
    return package


def _package(module: str) -> str:
    return module.partition(".")[0]
