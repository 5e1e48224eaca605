"""Describe an exception for the terminal in one sentence, without secrets.

The platform's own exceptions have a complete message. Errors of files, servers, encodings and client libraries are
shown by their first line. All other exceptions are reported as a bug.
"""

import csv
import traceback
from types import TracebackType

import psycopg

from sales_assets.postgres.errors import server_message
from sales_assets.scrubbing import scrubbed, without_secrets
from sales_assets.settings import secrets_in_force

# Client libraries: their exceptions concern external systems, even a plain ValueError or ImportError.
_OUTSIDE = {
    *("psycopg", "psycopg2", "sqlalchemy", "alembic", "dagster", "dagster_postgres"),
    *("fsspec", "s3fs", "gcsfs", "adlfs", "botocore", "aiobotocore", "boto3", "google", "azure", "pyarrow"),
    *("requests", "urllib3", "aiohttp", "aio_pika", "aiormq", "pamqp", "amqp", "kombu", "celery", "ssl", "socket"),
}


def sentence(error: BaseException) -> str:
    """Describe an exception in one line, or in several if it is the platform's own and its message has several."""
    error = _innermost(error)
    text = str(error).strip()
    if _is_ours(error) and text:
        return without_secrets(text, secrets_in_force())
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return scrubbed(f"{error.filename}: {error.strerror}", secrets_in_force())
    first = "; ".join(" ".join(part.split()) for part in server_message(error)) or next(iter(text.splitlines()), "")
    if isinstance(error, UnicodeError):
        first = f"text that can't be encoded or decoded: {first}"
    elif not isinstance(error, OSError) and _package(type(error).__module__) not in ("psycopg", "psycopg2"):
        first = f"{type(error).__name__}: {first}" if first else type(error).__name__
    if not first:
        first = type(error).__name__
    if is_bug(error):
        first = f"unexpected error, probably a bug in sales_assets: {first} (`sales-assets --debug ...` shows where)"
    return scrubbed(first, secrets_in_force())


def is_bug(error: BaseException) -> bool:
    """Return whether an exception is a bug: not raised by the platform on purpose, nor about an external system."""
    error = _innermost(error)
    if _is_ours(error) or isinstance(error, (OSError, UnicodeError, csv.Error, MemoryError)):
        return False
    return not {_package(type(error).__module__), _raised_in(error.__traceback__)} & _OUTSIDE


def is_unreachable(error: BaseException) -> bool:
    """Return whether a database could not be reached, refused the login, or closed the connection."""
    error = _innermost(error)
    return isinstance(error, psycopg.OperationalError) and error.sqlstate is None and not _is_ours(error)


def details(error: BaseException) -> str:
    """Format the traceback, without secrets."""
    return scrubbed("".join(traceback.format_exception(error)), secrets_in_force())


def _innermost(error: BaseException) -> BaseException:
    """Unwrap an exception: the first exception of a group, the driver's exception inside SQLAlchemy's."""
    while True:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        elif isinstance(wrapped := getattr(error, "orig", None), BaseException):
            error = wrapped
        else:
            return error


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
