"""What a person at a terminal reads of an exception: one sentence, without secrets; the traceback only on request.

Every exception gets one. There is no list of expected ones, which would miss the next library's: what the platform
raises itself says what is wrong and is printed as it is; what comes from the world outside (files, servers, encodings,
the libraries that speak to them) is named by its own first line; everything else is reported as a mistake of ours.
"""

import csv
import traceback
from types import TracebackType

from sales_assets.postgres.errors import server_message
from sales_assets.scrubbing import scrubbed, without_secrets
from sales_assets.settings import secrets_in_force

# Packages whose exceptions are about the world outside, also where they raise a plain ValueError or ImportError.
_OUTSIDE = {
    *("psycopg", "psycopg2", "sqlalchemy", "alembic", "dagster", "dagster_postgres"),
    *("fsspec", "s3fs", "gcsfs", "adlfs", "botocore", "aiobotocore", "boto3", "google", "azure", "pyarrow"),
    *("requests", "urllib3", "aiohttp", "aio_pika", "aiormq", "pamqp", "amqp", "kombu", "celery", "ssl", "socket"),
}


def sentence(error: BaseException) -> str:
    """Describe for a person what went wrong; several lines only where the platform itself wrote them."""
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
        first = (
            f"unexpected error, probably a mistake in sales_assets: {first} (`sales-assets --debug ...` shows where)"
        )
    return scrubbed(first, secrets_in_force())


def is_bug(error: BaseException) -> bool:
    """Whether an exception is neither about the outside world nor one that the platform raises on purpose."""
    error = _innermost(error)
    if _is_ours(error) or isinstance(error, (OSError, UnicodeError, csv.Error, MemoryError)):
        return False
    return not {_package(type(error).__module__), _raised_in(error.__traceback__)} & _OUTSIDE


def details(error: BaseException) -> str:
    """Format the traceback, without secrets."""
    return scrubbed("".join(traceback.format_exception(error)), secrets_in_force())


def _innermost(error: BaseException) -> BaseException:
    """Find the exception itself: the first of a group, the driver's of those that SQLAlchemy wraps."""
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
