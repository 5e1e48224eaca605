"""Client of the report API: request reports and increments, and download their files.

Calls have time-outs and retries; failures are transient or permanent. The downloader trusts neither addresses nor
sizes.
"""

import contextlib
import datetime as dt
import ipaddress
import json
import math
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urljoin, urlsplit, urlunsplit

import requests
from pydantic import BaseModel, ValidationError
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

from sales_assets.schemas.report_api import (
    Increment,
    IncrementAnswer,
    Report,
    ReportAnswer,
    TaskAnswer,
    links_by_file,
)
from sales_assets.settings import Settings, settings

_JSON_LIMIT = 1024 * 1024
_CHUNK = 1024 * 1024
_REDIRECTS = 5
_TRANSIENT_STATUSES = frozenset({408, 429})

A = TypeVar("A", bound=BaseModel)
T = TypeVar("T")


class ReportApiError(Exception):
    """A call or download failed. The message contains the call, but never the key or a signed query."""


class TransientError(ReportApiError):
    """A failure worth a retry: refused connections, time-outs, 408, 429, 5xx, a body that ended early."""


class PermanentError(ReportApiError):
    """A failure that a retry would repeat: access refused, a response to another request, a forbidden address."""


class UnknownReport(PermanentError):
    """The service rejects the report_id (400 or 404): a new report is needed."""


class LinkExpired(PermanentError):
    """A file's link is refused (403): request a fresh link."""


class FileMissing(PermanentError):
    """A listed file is missing (404). This concerns that file's table only."""


@dataclass(frozen=True)
class Content:
    """Metadata of a file in storage, without its body."""

    etag: str | None
    last_modified: str | None


@dataclass(frozen=True)
class Download:
    """An open download. `chunks` raises `TransientError` when the body ends before its announced length."""

    content: Content
    chunks: Iterator[bytes]


def without_query(url: str) -> str:
    """Strip a URL to what may be logged and stored: signed parameters and user names are removed."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(a malformed URL)"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


class ReportApi:
    """Client of the report API, by default with the settings in effect.

    Thread-safe, with a session per thread.
    """

    def __init__(self, given: Settings | None = None) -> None:
        self._given = given
        self._local = threading.local()

    @property
    def _settings(self) -> Settings:
        return self._given or settings()

    # --- requests -----------------------------------------------------------------------------------------

    def make_report(self, progress: Callable[[str], None] = lambda _: None) -> Report:
        """Request a report and wait for it, at most REPORT_API_REPORT_DEADLINE seconds."""
        task_id = self._call("POST", "/generate_report", {}, TaskAnswer).task_id
        deadline = time.monotonic() + self._settings.report_api_report_deadline
        started, pause = time.monotonic(), 0.2
        while True:
            answer = self._report_answer(task_id)
            if answer.status == "SUCCESS":
                return self._finished(answer)
            if answer.status != "RUNNING":
                raise PermanentError(f"GET /get_report: unknown status {answer.status[:40]!r}")
            waited = time.monotonic() - started
            if time.monotonic() + pause > deadline:
                raise TransientError(f"GET /get_report: still RUNNING after {waited:.0f} s")
            progress(f"the report is being generated, {waited:.0f} s so far")
            # Reports take 63 to 80 s at the real service and 1 s at the simulator: poll with pauses that grow to 5 s.
            time.sleep(pause)
            pause = min(pause * 1.5, 5)

    def require_access(self) -> None:
        """Raise `PermanentError` if the key is refused. Asks for a report that doesn't exist, without retries."""
        call = "GET /get_report"
        url = f"{self._settings.report_api_url}/get_report"
        with self._request("GET", url, call, params={"task_id": "none"}, signed=True) as response:
            self._require_key(response, call)

    def report_again(self, report: Report) -> Report:
        """Request a finished report again, for fresh links."""
        answer = self._report_answer(report.task_id)
        again = self._finished(answer) if answer.status == "SUCCESS" else None
        if again is None or again.model_copy(update={"links": report.links}) != report:
            raise PermanentError("GET /get_report: the response is for another report than before")
        return again

    def _report_answer(self, task_id: str) -> ReportAnswer:
        answer = self._call("GET", "/get_report", {"task_id": task_id}, ReportAnswer)
        if answer.task_id != task_id:
            raise PermanentError("GET /get_report: the response is for another task_id")
        return answer

    @staticmethod
    def _finished(answer: ReportAnswer) -> Report:
        data = answer.data
        if data is None or not data.report_id or data.start_day is None or data.end_date is None:
            raise PermanentError("GET /get_report: SUCCESS without report_id, start_day or end_date")
        if data.end_date < data.start_day:
            raise PermanentError(f"GET /get_report: the period {data.start_day}..{data.end_date} is reversed")
        return Report(
            task_id=answer.task_id,
            report_id=data.report_id,
            first_day=data.start_day,
            last_day=data.end_date,
            links=links_by_file(data.s3_path, increment=False),
        )

    def increment(self, report_id: str, day: dt.date) -> Increment:
        """Request the increment of a day. Raises `UnknownReport` if the service does not accept the report_id."""
        question = {"report_id": report_id, "date": f"{day.isoformat()}T00:00:00"}
        answer = self._call("GET", "/get_increment", question, IncrementAnswer, unknown=UnknownReport)
        if (answer.report_id, answer.date) != (report_id, day):
            raise PermanentError(
                f"GET /get_increment for {day}: the response is for another report or day ({answer.date})"
            )
        if answer.status == "NOT FOUND":
            reason = answer.debug_info or "NOT FOUND without a reason"
            return Increment(report_id=report_id, day=day, increment_id=None, links={}, reason=reason)
        if not answer.data.increment_id:
            raise PermanentError(f"GET /get_increment for {day}: SUCCESS without increment_id")
        return Increment(
            report_id=report_id,
            day=day,
            increment_id=answer.data.increment_id,
            links=links_by_file(answer.data.s3_path, increment=True),
        )

    def _call(
        self,
        method: str,
        path: str,
        question: Mapping[str, str],
        shape: type[A],
        unknown: type[PermanentError] = PermanentError,
    ) -> A:
        call = f"{method} {path}"

        def attempt() -> A:
            with self._request(method, self._settings.report_api_url + path, call, params=question, signed=True) as r:
                self._require_key(r, call)
                if r.status_code in (400, 404, 422):
                    raise unknown(f"{call}: refused with {r.status_code}")
                self._require_success(r, call)
                body = b"".join(self._body(r, call, _JSON_LIMIT))
            try:
                answer = json.loads(body)
            except (ValueError, RecursionError) as error:  # bytes that are not UTF-8 are another ValueError
                # A proxy's HTML page instead of the response was seen to be transient.
                raise TransientError(f"{call}: the response is not JSON ({r.headers.get('Content-Type')})") from error
            try:
                return shape.model_validate(answer)
            except ValidationError as error:
                faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
                raise PermanentError(f"{call}: invalid response: {faults}") from error

        return self._with_retries(attempt)

    @contextlib.contextmanager
    def patient_for(self, seconds: float) -> Iterator[None]:
        """Limit the retries of this thread's calls to fewer seconds than REPORT_API_PATIENCE."""
        before: float = getattr(self._local, "patience", math.inf)
        self._local.patience = seconds
        try:
            yield
        finally:
            self._local.patience = before

    def _with_retries(self, attempt: Callable[[], T]) -> T:
        patience: float = getattr(self._local, "patience", math.inf)
        retrying = Retrying(
            retry=retry_if_exception_type(TransientError),
            stop=stop_after_delay(min(patience, self._settings.report_api_patience)),
            wait=wait_exponential_jitter(multiplier=0.2, max=5, jitter=0.3),
            reraise=True,
        )
        return retrying(attempt)

    # --- downloading --------------------------------------------------------------------------------------

    def content(self, url: str) -> Content:
        """Return ETag and Last-Modified of a file, without its body.

        Sends a GET and closes it after the headers: signed links are signed for GET, and storage refuses HEAD.
        """

        def attempt() -> Content:
            with self._open_file(url) as response:
                return self._content(response)

        return self._with_retries(attempt)

    @contextlib.contextmanager
    def download(self, url: str) -> Iterator[Download]:
        """Open a file for one streamed read. The caller retries, with a new file."""
        with self._open_file(url) as response:
            call = f"GET {without_query(url)}"
            yield Download(self._content(response), self._body(response, call, self._settings.raw_files_max_bytes))

    @staticmethod
    def _content(response: requests.Response) -> Content:
        # An unprintable ETag is ignored: the contents are compared instead.
        etag, modified = (
            mark if mark and mark.isprintable() else None
            for mark in (response.headers.get("ETag"), response.headers.get("Last-Modified"))
        )
        return Content(etag, modified)

    @contextlib.contextmanager
    def _open_file(self, url: str) -> Iterator[requests.Response]:
        for _ in range(_REDIRECTS):
            call = f"GET {without_query(url)}"
            self._require_allowed(url, call)
            with self._request("GET", url, call) as response:
                if response.is_redirect:
                    url = urljoin(url, response.headers["Location"])
                    continue
                if response.status_code == 403:
                    raise LinkExpired(f"{call}: the link is refused (403)")
                if response.status_code in (404, 410):
                    raise FileMissing(f"{call}: there is no such file ({response.status_code})")
                self._require_success(response, call)
                yield response
                return
        raise PermanentError(f"GET {without_query(url)}: more than {_REDIRECTS} redirects")

    def _require_allowed(self, url: str, call: str) -> None:
        try:
            parts = urlsplit(url)
        except ValueError:
            raise PermanentError(f"{call}: not a URL") from None
        own = urlsplit(self._settings.report_api_url).hostname
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise PermanentError(f"{call}: files come over http or https only")
        if parts.hostname == own or parts.hostname in self._settings.report_api_file_hosts:
            return
        raise PermanentError(f"{call}: the host {parts.hostname} is neither the API's own nor in REPORT_API_FILE_HOSTS")

    # --- HTTP ---------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _request(
        self, method: str, url: str, call: str, params: Mapping[str, str] | None = None, signed: bool = False
    ) -> Iterator[requests.Response]:
        _refuse_link_local(url, call)
        try:
            response = self._session().request(
                method,
                url,
                params=params,
                headers=self._headers() if signed else {"Accept-Encoding": b"identity"},
                timeout=(min(5.0, self._settings.report_api_timeout), self._settings.report_api_timeout),
                stream=True,
                allow_redirects=False,
            )
        except (requests.ConnectionError, requests.Timeout) as error:
            # The library's message repeats the whole URL with its query.
            raise TransientError(f"{call}: {_network_reason(error)}") from None
        except (requests.RequestException, ValueError) as error:  # ValueError: redirect to an invalid URL
            raise PermanentError(f"{call}: {type(error).__name__}") from None
        with response:
            yield response

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
        return session

    def _headers(self) -> dict[str, bytes]:
        values = {
            "X-Nickname": self._settings.report_api_nickname,
            "X-Cohort": self._settings.report_api_cohort,
            "X-Project": "True",
            "X-API-KEY": self._settings.report_api_key.get_secret_value(),
            "Accept-Encoding": "identity",
        }
        # As bytes: text is sent as latin-1, and a nickname in Cyrillic would end in a UnicodeEncodeError.
        return {name: value.encode() for name, value in values.items()}

    @staticmethod
    def _require_key(response: requests.Response, call: str) -> None:
        if response.status_code in (401, 403):
            raise PermanentError(f"{call}: access refused ({response.status_code}): check REPORT_API_KEY")

    @staticmethod
    def _require_success(response: requests.Response, call: str) -> None:
        status = response.status_code
        if status in _TRANSIENT_STATUSES or status >= 500:
            raise TransientError(f"{call}: answered {status}")
        if status != 200:
            raise PermanentError(f"{call}: answered {status}")

    def _body(self, response: requests.Response, call: str, limit: int) -> Iterator[bytes]:
        """Iterate over the decoded body: at most `limit` bytes, from as many sent, complete by the announced length."""
        # Identity is requested, but objects stored as gzip are sent as gzip anyway.
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding in ("gzip", "x-gzip"):
            return _unzipped(self._sent(response, call, limit), call, limit)
        if encoding not in ("identity", ""):
            raise PermanentError(f"{call}: sent with Content-Encoding {encoding[:20]!r}")
        return self._sent(response, call, limit)

    def _sent(self, response: requests.Response, call: str, limit: int) -> Iterator[bytes]:
        """Iterate over the bytes as sent, at most `limit`, complete by their announced length."""
        announced = response.headers.get("Content-Length")
        length = int(announced) if announced and announced.isdigit() else None
        if length is not None and length > limit:
            raise PermanentError(f"{call}: {length} bytes announced, at most {limit} are accepted")
        longest = self._settings.report_api_timeout * 60
        deadline = time.monotonic() + longest
        received = 0
        try:
            # read() would wait for a full chunk, for days if the sender trickles.
            while chunk := response.raw.read1(_CHUNK, decode_content=False):
                received += len(chunk)
                if received > limit:
                    raise PermanentError(f"{call}: more than {limit} bytes")
                if time.monotonic() > deadline:
                    raise TransientError(f"{call}: {received} bytes after {longest:.0f} s")
                yield chunk
        except (ReportApiError, GeneratorExit):
            raise
        except Exception as error:  # noqa: BLE001  urllib3 raises its own kinds below requests' wrappers
            raise TransientError(
                f"{call}: the body broke off after {received} bytes ({type(error).__name__})"
            ) from None
        if length is not None and received != length:
            raise TransientError(f"{call}: {received} bytes received, {length} announced")


def _unzipped(chunks: Iterator[bytes], call: str, limit: int) -> Iterator[bytes]:
    """Decompress a gzip stream a megabyte at a time: a small body may be a decompression bomb."""
    received = 0
    try:
        for plain in _inflated(chunks):
            received += len(plain)
            if received > limit:
                raise PermanentError(f"{call}: more than {limit} bytes, sent with Content-Encoding 'gzip'")
            yield plain
    except zlib.error:
        raise PermanentError(f"{call}: the body does not match its Content-Encoding 'gzip'") from None
    except EOFError:
        raise TransientError(f"{call}: the body broke off, sent with Content-Encoding 'gzip'") from None


def _inflated(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Inflate consecutive gzip members. Raises `zlib.error`, and `EOFError` for a truncated member."""
    decoder = None
    for chunk in chunks:
        rest = chunk
        while rest:
            if decoder is None or decoder.eof:
                decoder = zlib.decompressobj(wbits=31)
            plain = decoder.decompress(rest, _CHUNK)
            rest = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
            if plain:
                yield plain
    while decoder is not None and not decoder.eof:
        # All input may be consumed with output left over, because the output of a call is bounded.
        plain = decoder.decompress(b"", _CHUNK)
        if not plain and not decoder.eof:
            raise EOFError
        if plain:
            yield plain


def _refuse_link_local(url: str, call: str) -> None:
    """Reject a name that resolves to 169.254.x.x: the cloud's metadata service, never a report.

    Called before anything is sent, because calls carry the key.
    """
    parts = urlsplit(url)
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
    except (OSError, ValueError):
        return  # the request raises the error of the name
    for *_, address in found:
        ip = ipaddress.ip_address(str(address[0]).partition("%")[0])
        if (getattr(ip, "ipv4_mapped", None) or ip).is_link_local:
            raise PermanentError(f"{call}: link-local addresses are refused")


def _network_reason(error: requests.RequestException) -> str:
    """Describe an error by its innermost cause, without the URL that requests puts into its messages."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionRefusedError):
            return "connection refused"
        if isinstance(cause, socket.gaierror):
            return "the host name is unknown"
        reason = getattr(cause, "reason", None)
        inner = reason if isinstance(reason, BaseException) else cause.__cause__ or cause.__context__
        if inner is None and cause.args and isinstance(cause.args[-1], BaseException):
            inner = cause.args[-1]
        cause = inner
    return "timed out" if isinstance(error, requests.Timeout) else f"the connection failed ({type(error).__name__})"
