"""Client of the service that sends messages: one call, one attempt.

Implements the sender's wire format and classifies its responses; ``dispatch`` decides about retries.

| response | meaning |
| --- | --- |
| 200 and ``{"code": 0, ...}`` | sent |
| 400, 413, 422 | the message is refused for good: the same request would be refused again |
| 401, 403 | the token is refused: not counted as an attempt; all messages wait |
| everything else: other codes, redirects, 404, 408, 429, 5xx, no JSON, over 64 KiB, timeouts, broken connections | a \
failed attempt |

404 counts as a failed attempt, since a wrong SENDER_URL or a sender during its deployment responds so.
"""

import asyncio
import datetime as dt
import email.utils
import json
import re
from dataclasses import dataclass
from enum import Enum

import aiohttp

from sales_assets.services.http.client import JsonClient, read_bounded

_MOST_BYTES = 1 << 16
_SECONDS = re.compile(r"\d{1,9}", re.ASCII)
_PERMANENT = frozenset((400, 413, 422))
_TOKEN_REFUSED = frozenset((401, 403))


class Verdict(Enum):
    """Result of an attempt to send a message."""

    SENT = "sent"
    FAILED = "failed"  # this attempt
    REFUSED = "refused"  # for good
    UNAUTHORIZED = "unauthorized"  # nothing is known of the message


@dataclass(frozen=True)
class Outcome:
    """Outcome of an attempt. `reason` holds no personal data; `retry_after`: seconds that the sender requested."""

    verdict: Verdict
    reason: str | None = None
    retry_after: float = 0.0


_SENT = Outcome(Verdict.SENT)


class SenderClient(JsonClient):
    """Client of the sender at one base URL, with at most `connections`. Use as an async context manager."""

    def __init__(self, url: str, token: str, *, timeout: float, connections: int) -> None:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        super().__init__(url, connections=connections, headers=headers)
        self._timeout = timeout

    async def send(self, message_id: int, phone: str, text: str, *, connect_within: float) -> Outcome:
        """Send a message in one attempt. `text` is JSON; `connect_within`: seconds after which it must not be sent."""
        body = f'{{"id":{message_id},"phone":{int(phone)},"text":{text}}}'.encode()
        timeout = aiohttp.ClientTimeout(total=self._timeout, connect=min(connect_within, self._timeout))
        try:
            async with self._session.post(
                f"{self._url}/v1/send/{message_id}", data=body, timeout=timeout, allow_redirects=False
            ) as response:
                return await _outcome(response)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            return Outcome(Verdict.FAILED, "unreachable")
        except TimeoutError:
            return Outcome(Verdict.FAILED, "timeout")
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError):
            return Outcome(Verdict.FAILED, "disconnected")
        except (aiohttp.ClientError, asyncio.LimitOverrunError, ValueError):  # the response is not HTTP
            return Outcome(Verdict.FAILED, "unreadable")


async def _outcome(response: aiohttp.ClientResponse) -> Outcome:
    status = response.status
    if status != 200:
        response.close() if (response.content_length or _MOST_BYTES) >= _MOST_BYTES else await response.read()
        reason = f"http_{status}"
        if status in _PERMANENT:
            return Outcome(Verdict.REFUSED, reason)
        if status in _TOKEN_REFUSED:
            return Outcome(Verdict.UNAUTHORIZED, reason)
        return Outcome(Verdict.FAILED, reason, retry_after(response.headers.get("Retry-After")))
    body = await read_bounded(response, _MOST_BYTES)
    try:
        answer = json.loads(body or b"")
    except (ValueError, RecursionError):
        return Outcome(Verdict.FAILED, "unreadable")
    match answer:
        case {"code": int() as code} if not isinstance(code, bool):
            return _SENT if code == 0 else Outcome(Verdict.FAILED, f"code_{str(code)[:20]}")
    return Outcome(Verdict.FAILED, "unreadable")


def retry_after(header: str | None, now: dt.datetime | None = None) -> float:
    """Parse a Retry-After header (seconds or an HTTP date) to seconds; 0 for a missing or malformed one."""
    text = (header or "").strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        until = email.utils.parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return 0.0
    if until.tzinfo is None:
        until = until.replace(tzinfo=dt.UTC)
    return max(0.0, (until - (now or dt.datetime.now(dt.UTC))).total_seconds())
