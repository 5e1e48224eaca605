"""A proxy in front of the report API, with the ETags and encodings of real file storage."""

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
    """Run a proxy in front of `origin`; yield its URL.

    Args:
        origin: URL of the report API.
        flapping: The ETag of a file alternates between two endings, as with two backends; the contents are the same.
        zipped: Files have Content-Encoding gzip, regardless of the request, like objects stored as gzip.
    """
    turn = itertools.count()

    def forward(path: str, method: str, headers: dict[str, str], host: str) -> Response:
        request_ = urllib.request.Request(origin + path, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request_) as response:
                status, reply_headers, data = response.status, dict(response.headers), response.read()
        except urllib.error.HTTPError as error:
            status, reply_headers, data = error.code, dict(error.headers), error.read()
        forwarded_headers = {name.lower(): value for name, value in reply_headers.items() if name.lower() not in _OWN}
        if ".csv" not in path:
            return Response(data.replace(urlsplit(origin).netloc.encode(), host.encode()), status, forwarded_headers)
        if flapping and "etag" in forwarded_headers:
            forwarded_headers["etag"] = f'{forwarded_headers["etag"].rstrip(chr(34))}-{"ab"[next(turn) % 2]}"'
        if zipped and status == 200:
            data, forwarded_headers["content-encoding"] = gzip.compress(data), "gzip"
        return Response(data, status, forwarded_headers)

    async def handle(request: Request) -> Response:
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        headers = {name: value for name, value in request.headers.items() if name not in _OWN}
        return await run_in_threadpool(forward, path, request.method, headers, request.headers["host"])

    with running(Starlette(routes=[Route("/{path:path}", handle, methods=["GET", "POST"])])) as url:
        yield url
