"""A cache before the report API that treats files as storage in the field does."""

import gzip
import itertools
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sales_assets.services.http.server import running

_OWN = {"content-length", "transfer-encoding", "connection", "date", "server", "host"}


@contextmanager
def cached(origin: str, *, flapping: bool = False, zipped: bool = False) -> Iterator[str]:
    """A server before `origin`; gives its URL.

    Args:
        origin: URL of the report API.
        flapping: The ETag of a file gets one of two endings in turn, as of two backends; the contents are the same.
        zipped: Files come with Content-Encoding gzip, whatever was asked for, as objects that were stored so.
    """
    turn = itertools.count()

    def forward(path: str, method: str, headers: dict[str, str], host: str) -> Response:
        asked = urllib.request.Request(origin + path, headers=headers, method=method)
        try:
            with urllib.request.urlopen(asked) as answer:
                status, told, data = answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            status, told, data = error.code, dict(error.headers), error.read()
        kept = {name.lower(): value for name, value in told.items() if name.lower() not in _OWN}
        if ".csv" not in path:
            return Response(data.replace(urlsplit(origin).netloc.encode(), host.encode()), status, kept)
        if flapping and "etag" in kept:
            kept["etag"] = f'{kept["etag"].rstrip(chr(34))}-{"ab"[next(turn) % 2]}"'
        if zipped and status == 200:
            data, kept["content-encoding"] = gzip.compress(data), "gzip"
        return Response(data, status, kept)

    async def answer(request: Request) -> Response:
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        headers = {name: value for name, value in request.headers.items() if name not in _OWN}
        return await run_in_threadpool(forward, path, request.method, headers, request.headers["host"])

    with running(Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])) as url:
        yield url
