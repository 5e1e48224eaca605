"""Signed links to files, in the form of S3's presigned URLs, valid for an hour.

Like the real ones they have a secret in the query string, so that tests can detect a client that logs its links.
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

VALID_SECONDS = 3600
_TIME_FORMAT = "%Y%m%dT%H%M%SZ"


class LinkRefusedError(Exception):
    """The link is not signed by this simulator, or has expired; the message is the reason."""


def sign(path: str, key: str, signed_at: datetime) -> str:
    """Return the path with its signature parameters. With the same key, links stay valid after a restart."""
    stamp = signed_at.astimezone(UTC).strftime(_TIME_FORMAT)
    query = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(VALID_SECONDS),
        "X-Amz-Signature": _signature(path, key, stamp),
    }
    return f"{path}?{urlencode(query)}"


def verify(path: str, query: Mapping[str, str], key: str, now: datetime) -> None:
    """Raise LinkRefusedError unless the query signs this path and is still valid."""
    stamp = query.get("X-Amz-Date", "")
    expected = _signature(path, key, stamp)
    if not hmac.compare_digest(expected.encode(), query.get("X-Amz-Signature", "").encode()):
        raise LinkRefusedError("The request signature does not match")
    signed_at = datetime.strptime(stamp, _TIME_FORMAT).replace(tzinfo=UTC)
    if now >= signed_at + timedelta(seconds=VALID_SECONDS):
        raise LinkRefusedError("Request has expired")


def _signature(path: str, key: str, stamp: str) -> str:
    return hmac.new(key.encode(), f"{path}\n{stamp}\n{VALID_SECONDS}".encode(), hashlib.sha256).hexdigest()
