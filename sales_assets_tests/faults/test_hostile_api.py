"""A report API with every known fault at once, in one real load of days that were loaded before.

Each fault has a separate day and fails only that day, in bounded time, with a message that names the call and contains
no secret. The day keeps its rows, and the next load without faults replaces them.
"""

import datetime as dt
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from sales_assets import settings as settings_module
from sales_assets.pipeline import extract
from sales_assets_tests.builders import Order, fetch_report, order_file
from sales_assets_tests.conftest import KEY
from sales_assets_tests.fixtures import Shop, failure_of
from sales_assets_tests.resources.servers import Server, http_response, serving

FIRST = dt.date(2024, 10, 1)
SIGNATURE = "X-Amz-Signature=c0ffee"
LIMIT = 100_000  # maximum bytes of a file
SECONDS = 120  # for the whole load, on a machine that is busy with other tests
BAD_GATEWAY = http_response("<html>", status="502 Bad Gateway")

Chunks = Iterator[bytes] | list[bytes]
# Returns the response of a faulty API, given the valid response and the number of requests before; None: the valid one.
Behaviour = Callable[[str, int], Chunks | None]


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> list[bytes]:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return [head, *(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces), end]


def silent(good: str, _times: int) -> Iterator[bytes]:
    """Announce a body, send the beginning of the body, and stop."""
    yield b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + good[:10].encode()
    time.sleep(4)  # longer than the client's timeout


def endless(_good: str, _times: int) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    while True:
        yield b"10000\r\n" + b"x" * 0x10000 + b"\r\n"


def moved(target: str) -> Behaviour:
    return lambda _good, _times: http_response(status="302 Found", Location=target)


def edited(**changes: object) -> Behaviour:
    def edit(good: str, _times: int) -> list[bytes]:
        changed_body = {name: value for name, value in (json.loads(good) | changes).items() if value != "absent"}
        return http_response(json.dumps(changed_body))

    return edit


def linked(url: str) -> Behaviour:
    return edited(data={"increment_id": "i", "s3_path": {"user_orders_log_inc": f"{url}?{SIGNATURE}"}})


BODIES: dict[str, tuple[Behaviour, str]] = {
    "502 for ever": (lambda *_: BAD_GATEWAY, "answered 502"),
    "503": (lambda *_: http_response(status="503 Slow Down"), "answered 503"),
    "a teapot": (lambda *_: http_response(status="418 I'm a teapot"), "answered 418"),
    "cut, with a length": (
        lambda good, _: http_response(good[: len(good) // 2], length=len(good)),
        r"\d+ bytes received|broke off after \d+",
    ),
    "cut, without": (lambda good, _: chunked(good[:20].encode(), end=b""), "broke off"),
    "silent": (silent, "broke off after 10 bytes"),
    "no answer": (lambda *_: [], "the connection failed"),
    "no HTTP": (lambda *_: [b"hello\r\n\r\n"], "the connection failed"),
    "gzip bomb": (lambda *_: http_response(b"\x1f\x8b" * 10, Content_Encoding="gzip"), "Content-Encoding 'gzip'"),
    "five gigabytes": (lambda good, _: http_response(good, length=5 * 1024**3), "5368709120 bytes announced"),
    "endless": (endless, r"more than \d+ bytes"),
}
RESPONSES: dict[str, tuple[Behaviour, str]] = {
    **BODIES,
    "HTML": (lambda *_: http_response("<html>", Content_Type="text/html"), r"the response is not JSON \(text/html\)"),
    "too short a length": (lambda good, _: http_response(good, length=len(good) - 5), "the response is not JSON"),
    "no status": (edited(status="absent"), "invalid response: status"),
    "no data": (edited(data="absent"), "invalid response: data"),
    "another report": (edited(report_id="another"), "for another report or day"),
    "another day": (edited(date="2024-09-01 00:00:00"), "for another report or day"),
    "a NUL": (edited(report_id="r\0"), "unprintable characters"),
    "access refused": (lambda *_: http_response("{}", status="403 Forbidden"), "check REPORT_API_KEY"),
    "a redirect": (moved("http://evil.example/"), "answered 302"),
    "a link elsewhere": (linked("http://evil.example/a.csv"), "the host evil.example is neither"),
    "a link to the metadata service": (linked("http://169.254.169.254/latest"), "link-local addresses are refused"),
    "a link to a file": (linked("file:///etc/passwd"), "http or https only"),
}
FILES: dict[str, tuple[Behaviour, str]] = {
    **BODIES,
    "HTML": (lambda *_: http_response("<html></html>\n"), "header|lacks the column"),
    "no file of orders": (lambda *_: http_response("a,b\n1,2\n"), "header|lacks the column"),
    "a redirect loop": (
        lambda _good, times: http_response(status="302 Found", Location=f"?{times}"),
        "more than 5 redirects",
    ),
    "a redirect elsewhere": (moved("http://evil.example/a"), "the host evil.example is neither"),
    "a redirect to the metadata service": (moved("http://169.254.169.254/"), "link-local addresses are refused"),
    "links that expire for ever": (lambda *_: http_response(status="403 Forbidden"), r"the link is refused \(403\)"),
}
# These faults fail no day: they are temporary or irrelevant.
TRANSIENT_FAULTS: dict[str, tuple[str, Behaviour]] = {
    "502 now and then": ("response", lambda _good, times: BAD_GATEWAY if times < 2 else None),
    "further keys": ("response", edited(news=[1])),
    "a cut file, once": ("file", lambda good, times: http_response(good, length=len(good) + 9) if times == 0 else None),
    "a link that expired": ("file", lambda _good, times: http_response(status="403 Forbidden") if times == 0 else None),
}


class Hostile:
    """An API with a configured behaviour for the response and the file of each day."""

    def __init__(self, report_id: str) -> None:
        self.behaviours: dict[tuple[str, str], Behaviour] = {}  # by ("response" or "file", day)
        self.contents: dict[str, str] = {}
        self.server: Server | None = None
        self._report_id = report_id
        self._asked: Counter[tuple[str, str]] = Counter()

    def respond(self, path: str) -> Chunks:
        parts = urlsplit(path)
        assert self.server is not None
        if parts.path == "/get_increment":
            day = parse_qs(parts.query)["date"][0][:10]
            url = f"{self.server.url}/{day}.csv?{SIGNATURE}"
            good = json.dumps(
                {
                    "report_id": self._report_id,
                    "date": f"{day} 00:00:00",
                    "status": "SUCCESS",
                    "data": {"increment_id": "i", "s3_path": {"user_orders_log_inc": url}},
                }
            )
            place = "response", day
        else:
            day = parts.path.strip("/").removesuffix(".csv")
            good, place = self.contents[day], ("file", day)
        times = self._asked[place]
        self._asked[place] += 1
        body = self.behaviours[place](good, times) if place in self.behaviours else None
        return http_response(good) if body is None else body


@pytest.fixture
def _fewer_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up on permanent failures sooner, by fewer attempts and short timeouts."""
    monkeypatch.setattr(extract, "_DOWNLOAD_ATTEMPTS", 2)
    for name, value in (
        ("REPORT_API_PATIENCE", "1.5"),
        ("REPORT_API_TIMEOUT", "2"),
        ("REPORT_API_REPORT_DEADLINE", "1"),
        ("RAW_FILES_MAX_BYTES", str(LIMIT)),
        ("REPORT_API_FILE_HOSTS", "169.254.169.254"),
    ):
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("_fewer_attempts")
def test_each_fault_fails_only_its_day_and_the_next_load_repairs_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected: dict[str, str | None] = {}
    behaviours: dict[tuple[str, str], Behaviour] = {}

    def next_day(pattern: str | None) -> str:
        day = (FIRST + dt.timedelta(days=len(expected))).isoformat()
        expected[day] = pattern
        return day

    for place, cases in (("response", RESPONSES), ("file", FILES)):
        for behaviour, pattern in cases.values():
            behaviours[place, next_day(pattern)] = behaviour
    for place, behaviour in TRANSIENT_FAULTS.values():
        behaviours[place, next_day(None)] = behaviour
    lost = next_day(None)
    behaviours["file", lost] = lambda *_: http_response(status="404 Not Found")
    next_day(None)  # a day without a fault
    last = max(expected)

    for day in expected:
        shop.reports.increment(day, [Order(f"old {day}", day=day)])
    shop.load(FIRST.isoformat(), last)
    old = shop.sales()
    ((report_id,),) = shop.query("SELECT report_id FROM raw.delivery WHERE kind = 'report'")
    good_url = settings_module.settings().report_api_url

    hostile = Hostile(report_id)
    hostile.behaviours = behaviours
    hostile.contents = {day: order_file([Order(f"new {day}", day=day)], statuses=True) for day in expected}
    with serving(hostile.respond) as hostile.server:
        monkeypatch.setenv("REPORT_API_URL", hostile.server.url)
        settings_module.settings.cache_clear()
        started = time.monotonic()
        failure = shop.fail_to_load(FIRST.isoformat(), last)
        assert time.monotonic() - started < SECONDS
        heads = hostile.server.heads

    outcomes = shop.query(
        "SELECT d.first_day::text, concat_ws('; ', d.reason, r.reason) FROM raw.delivery AS d"
        " LEFT JOIN raw.fetch AS f USING (delivery_id) LEFT JOIN staging.fetch_reading AS r USING (fetch_id)"
        " WHERE d.kind = 'increment' AND d.delivery_id > %s",
        len(expected) + 1,
    )
    messages = dict(outcomes)
    unlike = {
        day: (pattern, messages[day])
        for day, pattern in expected.items()
        if pattern and not re.search(pattern, messages[day])
    }
    assert unlike == {}
    assert "no order file delivered" in messages[lost]
    broken = {day for day, pattern in expected.items() if pattern}
    assert f"{len(broken)} of {len(expected)} days failed" in failure
    new = {day for day in expected if day not in broken and day != lost}
    assert shop.sales() == [
        (f"new {day}" if day in new else name, amount) for (name, amount), day in zip(old, expected, strict=True)
    ]
    for day in broken:
        if "header" not in messages[day]:  # a completely received file is named by its path
            assert re.match(r"GET (https?://|file:///|/get_increment: |/get_increment for )", messages[day])
    all_messages = [failure, *messages.values()]
    assert not [text for text in all_messages if KEY in text or "c0ffee" in text]
    assert not [head for head in heads if ".csv" in head and KEY in head]

    monkeypatch.setenv("REPORT_API_URL", good_url)
    settings_module.settings.cache_clear()
    for day in expected:
        shop.reports.increment(day, [Order(f"healed {day}", day=day)])
    shop.load(FIRST.isoformat(), last)
    assert [name for name, _ in shop.sales()] == [f"healed {day}" for day in expected]


REPORT = {"report_id": "r", "start_day": "2024-09-01 00:00:00", "end_date": "2024-09-02 00:00:00", "s3_path": {}}


@pytest.mark.usefixtures("_fewer_attempts")
def test_a_faulty_report_is_rejected_with_a_reason_and_changes_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.reports.increment("2024-10-01", [Order("a")])
    shop.load("2024-10-01")
    before = shop.contents(), shop.query("SELECT * FROM raw.delivery ORDER BY 1")
    good_url = settings_module.settings().report_api_url

    def ready(**data: object) -> list[bytes]:
        return http_response(json.dumps({"task_id": "t", "status": "SUCCESS", "data": REPORT | data}))

    cases: dict[str, list[bytes]] = {
        "still RUNNING after": http_response('{"task_id": "t", "status": "RUNNING", "data": {"report_id": null}}'),
        "for another task_id": http_response('{"task_id": "another", "status": "RUNNING"}'),
        "unknown status": http_response('{"task_id": "t", "status": "MADE"}'),
        "invalid response": http_response("[]"),
        "SUCCESS without": ready(report_id=None),
        "is reversed": ready(end_date="2024-08-01 00:00:00"),
        "answered 502": BAD_GATEWAY,
        "is not JSON": http_response("<html>"),
        "check REPORT_API_KEY": http_response(status="401 Unauthorized"),
        "broke off|received": http_response("{", length=100),
        "http or https only": ready(s3_path={"price_log": "/file"}),
    }
    for pattern, body in cases.items():

        def respond(path: str, body: list[bytes] = body) -> list[bytes]:
            if path == "/generate_report":
                return http_response('{"task_id": "t"}')
            return body

        with serving(respond) as server:
            monkeypatch.setenv("REPORT_API_URL", server.url)
            settings_module.settings.cache_clear()
            run = fetch_report(shop.instance)
        assert not run.success
        assert re.search(pattern, failure_of(run)), pattern
        assert KEY not in failure_of(run)
        assert (shop.contents(), shop.query("SELECT * FROM raw.delivery ORDER BY 1")) == before
    monkeypatch.setenv("REPORT_API_URL", good_url)
    settings_module.settings.cache_clear()
    shop.fetch_report()
