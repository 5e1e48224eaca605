"""HTTP application of the simulated report API: its three calls and the file links, served from a folder.

It keeps no state between requests: a report_id, task_id or link that an earlier process issued stays valid. Only the
fault `expired_links` keeps counts.
"""

import asyncio
import hmac
import os
import random
from collections import Counter, deque
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, time, timedelta
from email.utils import formatdate
from pathlib import Path
from typing import BinaryIO, NamedTuple

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sales_assets.simulators.report_api import ids, links
from sales_assets.simulators.report_api.faults import Faults
from sales_assets.simulators.report_api.folder import PRICES, ReportFolder, file_version

_CHUNK_BYTES = 1 << 20
_TRICKLE_PIECES = 8
_LOG_LENGTH = 100_000


class Seen(NamedTuple):
    """One received request."""

    method: str
    path: str
    query: dict[str, str]


class ReportApi:
    """ASGI application of the simulated report API, over one folder.

    Attributes:
        seen: The latest requests, oldest first, failed ones included.
        faults: Faults to inject; may be replaced while the server runs.
    """

    def __init__(
        self,
        folder: Path,
        *,
        api_key: str,
        report_seconds: float = 1.0,
        faults: Faults | None = None,
    ) -> None:
        """Serve `folder` to callers with the key `api_key`.

        Args:
            folder: Files in the layout of ``ReportFolder``.
            api_key: The only accepted X-API-KEY; an empty one accepts any.
            report_seconds: Seconds for which a report is RUNNING (the real API: 63 to 80).
            faults: Faults to inject; none by default.

        Raises:
            NotADirectoryError: the folder does not exist.
        """
        self._folder = ReportFolder(folder)
        self._api_key = api_key
        self._report_seconds = report_seconds
        self.faults = faults or Faults()
        self._random = random.Random(self.faults.seed)  # noqa: S311 - picks which answers fail, not used for security
        self._handed_out_expired: Counter[str] = Counter()
        self.seen: deque[Seen] = deque(maxlen=_LOG_LENGTH)
        self._routes = Starlette(
            routes=[
                Route("/generate_report", self._generate_report, methods=["POST"]),
                Route("/get_report", self._get_report),
                Route("/get_increment", self._get_increment),
                Route("/s3/{report}/{name}.csv", self._download),
                Route("/s3/{folder}/{day}/{name}.csv", self._download),
            ],
            exception_handlers={HTTPException: _error},
        )

    def count(self, path: str) -> int:
        """Return how many requests for a path, such as `/get_increment`, have arrived."""
        return sum(request.path == path for request in list(self.seen))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Record the request, then inject a fault or pass the request on to the routes."""
        path = scope["path"]
        self.seen.append(Seen(scope["method"], path, dict(QueryParams(scope["query_string"]))))
        if self.faults.slow:
            await asyncio.sleep(self.faults.slow)
        answer: ASGIApp = self._routes
        if self._hit(self.faults.bad_gateway):
            answer = HTMLResponse("<html><body><h1>502 Bad Gateway</h1></body></html>", status_code=502)
        elif not path.startswith("/s3/") and self._hit(self.faults.html):
            answer = HTMLResponse("<!DOCTYPE html><html><body>Scheduled maintenance</body></html>")
        await answer(scope, receive, send)

    def _hit(self, rate: float) -> bool:
        return rate > 0 and self._random.random() < rate

    def _generate_report(self, request: Request) -> Response:
        self._check_headers(request)
        return JSONResponse({"task_id": ids.new_task()})

    def _get_report(self, request: Request) -> Response:
        self._check_headers(request)
        task_id = _parameter(request, "task_id")
        try:
            age = ids.task_age(task_id)
        except ids.UnknownIdError:
            raise HTTPException(404, "unknown task_id") from None
        if age < self._report_seconds or self.faults.never_ready:
            data: dict[str, object] = {"report_id": None, "start_day": None, "end_date": None, "s3_path": {}}
            return JSONResponse({"task_id": task_id, "status": "RUNNING", "data": data})
        report_id = ids.report_of(task_id)
        period = self._folder.period()
        place = ids.payload_of(ids.Kind.REPORT, report_id).hex()
        paths = {name: f"/s3/{place}/{name}.csv" for name in self._folder.report()}
        data = {
            "report_id": report_id,
            "start_day": _with_time(period.start),
            "end_date": _with_time(period.end),
            "s3_path": self._links(request, report_id, paths),
        }
        return JSONResponse({"task_id": task_id, "status": "SUCCESS", "data": data})

    def _get_increment(self, request: Request) -> Response:
        self._check_headers(request)
        report_id = _parameter(request, "report_id")
        day = _asked_day(_parameter(request, "date"))
        try:
            increment_id = ids.increment_of(report_id, day)
        except ids.UnknownIdError:
            raise HTTPException(404, "unknown report_id") from None
        answer = {"report_id": report_id, "date": _with_time(day)}
        files = self._folder.increment(day)
        if files is None:
            none = answer | {"status": "NOT FOUND", "data": {"increment_id": None}}
            period = self._folder.period()
            if day <= period.end:
                none["debug_info"] = f"no increments on or before {period.end}, the last day of the report"
            return JSONResponse(none)
        of_report = ids.payload_of(ids.Kind.REPORT, report_id).hex()
        of_day = ids.payload_of(ids.Kind.INCREMENT, increment_id).hex()
        paths = {name: f"/s3/{of_report if name == f'{PRICES}_inc' else of_day}/{day}/{name}.csv" for name in files}
        data = {"increment_id": increment_id, "s3_path": self._links(request, increment_id, paths)}
        return JSONResponse(answer | {"status": "SUCCESS", "data": data})

    def _links(self, request: Request, owner: str, paths: dict[str, str]) -> dict[str, str]:
        signed_at = datetime.now(UTC)
        if self._handed_out_expired[owner] < self.faults.expired_links:
            self._handed_out_expired[owner] += 1
            signed_at -= timedelta(seconds=links.VALID_SECONDS)
        base = str(request.base_url).rstrip("/")
        return {name: base + links.sign(path, self._api_key, signed_at) for name, path in paths.items()}

    def _download(self, request: Request) -> Response:
        try:
            links.verify(request.url.path, request.query_params, self._api_key, datetime.now(UTC))
        except links.LinkRefusedError as refusal:
            return _s3_error(403, "AccessDenied", str(refusal))
        name = request.path_params["name"]
        day = request.path_params.get("day")
        if day is None:
            files = self._folder.report()
        else:
            files = self._folder.increment(date.fromisoformat(day)) or {}
        try:
            if name == self.faults.lost_file:
                raise FileNotFoundError(name)
            file = files[name].open("rb")
        except (KeyError, FileNotFoundError):
            return _s3_error(404, "NoSuchKey", "The specified key does not exist.")
        return self._file_answer(request, file)

    def _file_answer(self, request: Request, file: BinaryIO) -> Response:
        # Use the open file, not its path: if a rename replaces it meanwhile, the old version is still delivered
        # completely, with its ETag.
        stat = os.fstat(file.fileno())
        mtime, size, inode = file_version(stat)
        headers = {
            "ETag": f'"{mtime:x}-{size:x}-{inode:x}"',
            "Last-Modified": formatdate(stat.st_mtime, usegmt=True),
        }
        known = request.headers.get("If-None-Match", "").split(",")
        if headers["ETag"] in [tag.strip().removeprefix("W/") for tag in known]:
            file.close()
            return Response(status_code=304, headers=headers)
        sent = size // 2 if self._hit(self.faults.cut) else size
        declared = max(0, size + self.faults.wrong_length)
        piece = max(1, sent // _TRICKLE_PIECES) if self.faults.trickle else _CHUNK_BYTES
        body = _pieces(file, min(sent, declared), piece, self.faults.trickle)
        return _Download(body, headers=headers, declared=declared)

    def _check_headers(self, request: Request) -> None:
        key = request.headers.get("X-API-KEY")
        if key is None:
            raise HTTPException(401, "header X-API-KEY is missing")
        if self._api_key and not hmac.compare_digest(key.encode(), self._api_key.encode()):
            raise HTTPException(403, "access denied: wrong X-API-KEY")
        for name in ("X-Nickname", "X-Cohort"):
            if not request.headers.get(name):
                raise HTTPException(400, f"header {name} is missing")
        if request.headers.get("X-Project") != "True":
            raise HTTPException(400, "header X-Project must be True")


class _Download(StreamingResponse):
    """Response with the bytes of a file; the connection ends early if they are fewer than Content-Length.

    A plain StreamingResponse would complete the response, which the server refuses while bytes are missing.
    """

    def __init__(self, body: AsyncIterator[bytes], *, headers: dict[str, str], declared: int) -> None:
        super().__init__(body, headers=headers | {"Content-Length": str(declared)}, media_type="text/csv")
        self._owed = declared

    async def stream_response(self, send: Send) -> None:
        async def counting(message: Message) -> None:
            if message["type"] == "http.response.body":
                self._owed -= len(message["body"])
                if not message["more_body"] and self._owed:
                    return
            await send(message)

        await super().stream_response(counting)


async def _pieces(file: BinaryIO, length: int, piece: int, pause: float) -> AsyncIterator[bytes]:
    with file:
        while length and (chunk := await run_in_threadpool(file.read, min(piece, length))):
            length -= len(chunk)
            yield chunk
            if pause:
                await asyncio.sleep(pause)


def _parameter(request: Request, name: str) -> str:
    value = request.query_params.get(name)
    if not value:
        raise HTTPException(400, f"parameter {name} is missing")
    return value


def _asked_day(text: str) -> date:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    # Formatting the parsed date again rejects other ISO spellings (a space, no dashes, a zone, fractions).
    if moment is None or moment.isoformat() != text or moment.time() != time.min:
        raise HTTPException(400, "date must look like 2020-01-22T00:00:00")
    return moment.date()


def _with_time(day: date) -> str:
    return f"{day} 00:00:00"


def _error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, status_code=error.status_code, headers=error.headers)


def _s3_error(status: int, code: str, message: str) -> Response:
    xml = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Response(xml, status_code=status, media_type="application/xml")
