"""HTTP client sessions of the services: JSON over pooled connections, with bounded responses."""

from collections.abc import Mapping
from types import TracebackType
from typing import Self

import aiohttp

_MAX_BYTES = 1 << 20
# Shorter than the timeouts of uvicorn and nginx, so that the server never closes a connection during a request.
_KEEP_ALIVE_SECONDS = 4


class JsonClient:
    """A client of the API at one base URL. Use as an async context manager."""

    def __init__(self, url: str, *, connections: int, headers: Mapping[str, str] | None = None) -> None:
        self._url = url
        self._connections = connections
        self._headers = {"Accept": "application/json", "Accept-Encoding": "identity", **(headers or {})}

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=_KEEP_ALIVE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers=self._headers,
        )
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self._session.close()


async def read_bounded(response: aiohttp.ClientResponse, max_bytes: int = _MAX_BYTES) -> bytes | None:
    """Return the body; None, after closing the connection, if it has more than `max_bytes`."""
    parts, size = [], 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > max_bytes:
            response.close()
            return None
        parts.append(part)
    return b"".join(parts)
