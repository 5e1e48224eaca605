"""Client of the report API, tested with the simulator's faults and with hostile servers."""

import datetime as dt
import gzip
import json
import socket
import time
from collections.abc import Callable, Iterator

import dagster as dg
import pytest

from sales_assets import settings as settings_module
from sales_assets.pipeline import extract
from sales_assets.resources.report_api import (
    Content,
    FileMissing,
    LinkExpired,
    PermanentError,
    ReportApi,
    ReportApiError,
    TransientError,
    UnknownReport,
)
from sales_assets.simulators.report_api.app import ReportApi as Simulator
from sales_assets.simulators.report_api.faults import Faults
from sales_assets_tests.builders import Order, ReportFolderBuilder, fetch_report, load_days
from sales_assets_tests.conftest import KEY
from sales_assets_tests.fixtures import stored_files
from sales_assets_tests.resources.servers import http_response, serving

pytestmark = pytest.mark.external

Query = Callable[..., list[tuple[object, ...]]]
SetUp = Callable[..., None]

DAY = dt.date(2024, 10, 1)
ORDERS = [Order(f"{number:032x}") for number in range(50)]
SIGNATURE = "X-Amz-Signature=c0ffee"


@pytest.fixture
def set_up(monkeypatch: pytest.MonkeyPatch) -> SetUp:
    """Return a function that changes settings of the test, such as set_up(report_api_timeout=0.2)."""

    def change(**values: object) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name.upper(), str(value))
        settings_module.settings.cache_clear()

    change(report_api_patience=0.5)
    return change


def read(api: ReportApi, url: str) -> bytes:
    with api.download(url) as download:
        return b"".join(download.chunks)


# --- the simulator and its faults --------------------------------------------------------------------------


def test_a_day_with_temporary_faults_is_loaded_completely(
    reports: ReportFolderBuilder, report_api: Simulator, instance: dg.DagsterInstance, query: Query, set_up: SetUp
) -> None:
    set_up(report_api_patience=20)
    reports.increment("2024-10-01", ORDERS, price_log="Milk,100\n", user_activity_log="id\n")
    report_api.faults = Faults(seed=3, bad_gateway=0.2, html=0.1, cut=0.3)
    assert fetch_report(instance).success
    assert load_days(instance, "2024-10-01").success is False  # user_activity_log lacks its columns
    assert query("SELECT count(*) FROM mart.f_sales") == [(50,)]


def test_a_report_that_is_never_ready_ends_at_the_deadline(report_api: Simulator, set_up: SetUp) -> None:
    set_up(report_api_report_deadline=0.5)
    report_api.faults = Faults(never_ready=True)
    with pytest.raises(TransientError, match="still RUNNING after"):
        ReportApi().make_report()


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        (Faults(html=1), "the response is not JSON .text/html"),
        (Faults(bad_gateway=1), "answered 502"),
        (Faults(slow=5), "timed out"),
    ],
)
def test_permanent_faults_are_transient_failures_after_the_patience(
    report_api: Simulator, set_up: SetUp, faults: Faults, message: str
) -> None:
    set_up(report_api_timeout=0.2)
    report_api.faults = faults
    with pytest.raises(TransientError, match=message):
        ReportApi().make_report()
    assert report_api.count("/generate_report") > 1


@pytest.fixture
def _two_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up on failing downloads after two attempts."""
    monkeypatch.setattr(extract, "_DOWNLOAD_ATTEMPTS", 2)


@pytest.mark.usefixtures("_two_attempts")
@pytest.mark.parametrize("faults", [Faults(cut=1), Faults(wrong_length=7), Faults(trickle=5)])
def test_an_incomplete_body_is_not_stored(
    reports: ReportFolderBuilder,
    report_api: Simulator,
    instance: dg.DagsterInstance,
    query: Query,
    set_up: SetUp,
    faults: Faults,
) -> None:
    assert fetch_report(instance).success
    reports.increment("2024-10-01", ORDERS)
    reports.increment("2024-10-02", None)
    set_up(report_api_timeout=0.3)
    report_api.faults = faults
    assert not load_days(instance, "2024-10-01", "2024-10-02").success
    assert stored_files() == {}
    assert query("SELECT first_day::text, outcome FROM raw.delivery WHERE kind = 'increment' ORDER BY 1") == [
        ("2024-10-01", "failed"),
        ("2024-10-02", "delivered"),
    ]


def test_a_missing_file_affects_only_its_table(
    reports: ReportFolderBuilder, report_api: Simulator, instance: dg.DagsterInstance, query: Query
) -> None:
    reports.increment("2024-10-01", ORDERS, price_log="Milk,100\n")
    report_api.faults = Faults(lost_file="price_log_inc")
    assert fetch_report(instance).success
    assert load_days(instance, "2024-10-01").success
    assert query("SELECT file FROM raw.fetch") == [("user_orders_log",)]


def test_an_expired_link_is_requested_again(
    reports: ReportFolderBuilder, report_api: Simulator, instance: dg.DagsterInstance, query: Query
) -> None:
    reports.increment("2024-10-01", ORDERS)
    assert fetch_report(instance).success
    report_api.faults = Faults(expired_links=1)
    assert load_days(instance, "2024-10-01").success
    assert report_api.count("/get_increment") == 2
    assert query("SELECT count(*) FROM mart.f_sales") == [(50,)]


def test_a_wrong_key_is_reported_with_the_name_of_its_setting(report_api: Simulator, set_up: SetUp) -> None:
    set_up(report_api_key="some-other-secret")
    with pytest.raises(PermanentError, match="check REPORT_API_KEY") as caught:
        ReportApi().make_report()
    assert "some-other-secret" not in str(caught.value)
    assert report_api.count("/generate_report") == 1


def test_an_unknown_report_id_is_a_separate_kind_of_failure(report_api: Simulator) -> None:
    with pytest.raises(UnknownReport):
        ReportApi().increment("bm9uc2Vuc2U=", DAY)


@pytest.mark.usefixtures("_two_attempts")
def test_signatures_stay_out_of_messages_manifests_and_the_warehouse(
    reports: ReportFolderBuilder, report_api: Simulator, instance: dg.DagsterInstance, query: Query
) -> None:
    reports.increment("2024-10-01", ORDERS)
    assert fetch_report(instance).success
    assert load_days(instance, "2024-10-01").success
    (manifest,) = [contents for path, contents in stored_files().items() if path.endswith(".csv.json")]
    assert json.loads(manifest)["url"].endswith(".csv")
    report_api.faults = Faults(cut=1)
    run = load_days(instance, "2024-10-01")
    texts = [str(event) for event in run.all_events]
    texts += [str(row) for row in query("SELECT reason, url FROM raw.fetch, raw.delivery")]
    assert any("broke off" in text for text in texts)
    assert not [text for text in [*texts, manifest.decode()] if "X-Amz" in text]


# --- responses that don't match the request -----------------------------------------------------------------


def increment_answer(**changes: object) -> str:
    good = {
        "report_id": "r",
        "date": "2024-10-01 00:00:00",
        "status": "SUCCESS",
        "data": {"increment_id": "i", "s3_path": {"user_order_log_inc": "http://127.0.0.1/a"}},
    }
    return json.dumps({name: value for name, value in (good | changes).items() if value != "absent"})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (increment_answer(report_id="another"), "for another report or day"),
        (increment_answer(date="2024-10-02 00:00:00"), "for another report or day"),
        (increment_answer(date="yesterday"), "invalid response: date"),
        (increment_answer(status="PENDING"), "invalid response: status"),
        (increment_answer(data="absent"), "invalid response: data"),
        (increment_answer(data={"increment_id": None}), "SUCCESS without increment_id"),
        (increment_answer(data={"increment_id": "i", "s3_path": {"user_order_log_inc": 7}}), "s3_path"),
        ("[]", "invalid response"),
    ],
)
def test_a_response_that_does_not_match_the_request_is_a_permanent_failure(
    set_up: SetUp, body: str, message: str
) -> None:
    with serving(lambda _path: http_response(body)) as server:
        set_up(report_api_url=server.url)
        with pytest.raises(PermanentError, match=message):
            ReportApi().increment("r", DAY)
        assert len(server.heads) == 1


def test_further_keys_and_both_spellings_are_accepted(set_up: SetUp) -> None:
    body = increment_answer(
        news=[1],
        data={
            "increment_id": "i",
            "x": 1,
            "s3_path": {
                "user_order_log_inc": "u",
                "customer_research_inc": "c",
                "price_log": "of a report",
                "other": "o",
            },
        },
    )
    with serving(lambda _path: http_response(body)) as server:
        set_up(report_api_url=server.url)
        assert ReportApi().increment("r", DAY).links == {"user_orders_log": "u", "custom_research": "c"}


@pytest.mark.parametrize(
    "body",
    [
        increment_answer(report_id="r\0"),
        increment_answer(data={"increment_id": "i\0", "s3_path": {}}),
        increment_answer(data={"increment_id": "i", "s3_path": {"user_order_log_inc": "http://127.0.0.1/\0a"}}),
    ],
)
def test_an_id_or_link_with_unprintable_characters_is_refused(set_up: SetUp, body: str) -> None:
    with serving(lambda _path: http_response(body)) as server:
        set_up(report_api_url=server.url)
        with pytest.raises(PermanentError, match="unprintable characters"):
            ReportApi().increment("r", DAY)


def test_a_reason_with_any_characters_is_stored(
    reports: ReportFolderBuilder, instance: dg.DagsterInstance, report_api: Simulator, query: Query, set_up: SetUp
) -> None:
    """A reason that the database can't store as it is must not fail the other days of its transaction."""
    assert fetch_report(instance).success
    ((report_id,),) = query("SELECT report_id FROM raw.delivery")
    reasons = iter(["a\0b \ud800 " + "x" * 10_000, "too early"])

    def respond(path: str) -> list[bytes]:
        parameters = dict(part.split("=") for part in path.partition("?")[2].split("&"))
        body = increment_answer(
            report_id=report_id,
            date=parameters["date"][:10],
            status="NOT FOUND",
            data={"increment_id": None},
            debug_info=next(reasons),
        )
        return http_response(body)

    with serving(respond) as server:
        set_up(report_api_url=server.url)
        assert load_days(instance, "2024-10-01", "2024-10-02").success
    stored_reasons = sorted(str(row[0]) for row in query("SELECT reason FROM raw.delivery WHERE kind = 'increment'"))
    assert stored_reasons[1] == "too early"
    assert stored_reasons[0].startswith("a\ufffdb \ufffd xxx")
    assert len(stored_reasons[0]) == 2000


def test_an_etag_with_unprintable_characters_is_ignored(set_up: SetUp) -> None:
    with serving(lambda _path: http_response("x", ETag="a\0b", Last_Modified="now")) as server:
        set_up(report_api_url=server.url)
        assert ReportApi().content(f"{server.url}/a") == Content(None, "now")


@pytest.mark.parametrize(
    "body", [b"\xff\xfe", b"[" * 100_000, b"", b"<html>"], ids=["no UTF-8", "deep", "empty", "html"]
)
def test_a_response_that_is_not_json_is_a_transient_failure(set_up: SetUp, body: bytes) -> None:
    with serving(lambda _path: http_response(body)) as server:
        set_up(report_api_url=server.url)
        with pytest.raises(TransientError, match="the response is not JSON"):
            ReportApi().increment("r", DAY)


@pytest.mark.parametrize(
    ("status", "kind", "tries_again"),
    [
        ("408 Request Timeout", TransientError, True),
        ("429 Too Many Requests", TransientError, True),
        ("500 Internal Server Error", TransientError, True),
        ("503 Service Unavailable", TransientError, True),
        ("302 Found", PermanentError, False),
        ("401 Unauthorized", PermanentError, False),
        ("400 Bad Request", UnknownReport, False),
        ("404 Not Found", UnknownReport, False),
        ("418 I'm a teapot", PermanentError, False),
        ("204 No Content", PermanentError, False),
    ],
)
def test_only_transient_failures_are_tried_again(
    set_up: SetUp, status: str, kind: type[ReportApiError], tries_again: bool
) -> None:
    with serving(lambda _path: http_response(status=status, Location="/elsewhere")) as server:
        set_up(report_api_url=server.url)
        with pytest.raises(ReportApiError) as caught:
            ReportApi().increment("r", DAY)
        assert type(caught.value) is kind
        assert (len(server.heads) > 1) is tries_again


def test_a_refused_connection_and_an_unknown_host_are_transient(set_up: SetUp) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    set_up(report_api_url=f"http://127.0.0.1:{port}")
    with pytest.raises(TransientError, match="POST /generate_report: connection refused"):
        ReportApi().make_report()
    set_up(report_api_url="http://no-such-host.invalid")
    with pytest.raises(TransientError, match=r"the host name is unknown|connection failed"):
        ReportApi().make_report()


def test_headers_accept_names_in_any_script(set_up: SetUp) -> None:
    body = increment_answer(report_id="r+/=", status="NOT FOUND", data={"increment_id": None}, debug_info="too early")
    with serving(lambda _path: http_response(body)) as server:
        set_up(report_api_url=server.url, report_api_nickname="саша")
        assert ReportApi().increment("r+/=", DAY).reason == "too early"
    (head,) = server.heads
    assert head.startswith("GET /get_increment?report_id=r%2B%2F%3D&date=2024-10-01T00%3A00%3A00 ")
    sent = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
    assert sent["X-Nickname"].encode("latin-1").decode() == "саша"
    assert (sent["X-Project"], sent["X-API-KEY"], sent["X-Cohort"]) == ("True", KEY, "1")


# --- downloads --------------------------------------------------------------------------------------------


def test_redirects_are_followed_within_the_host(set_up: SetUp) -> None:
    def respond(path: str) -> list[bytes]:
        moved = {"/a": "/b", "/b": "c?x=1", "/c?x=1": f"{server.url}/file"}
        return (
            http_response(status="302 Found", Location=moved[path])
            if path in moved
            else http_response("lines\n", ETag='"1"')
        )

    with serving(respond) as server:
        set_up(report_api_url=server.url)
        assert read(ReportApi(), f"{server.url}/a") == b"lines\n"
        assert ReportApi().content(f"{server.url}/a") == Content('"1"', None)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("http://localhost/secret", "the host localhost is neither"),
        ("http://evil.example/", "the host evil.example is neither"),
        ("file:///etc/passwd", "http or https only"),
        ("ftp://127.0.0.1/", "http or https only"),
        ("//evil.example/x", "the host evil.example is neither"),
        ("http://[::1", "ValueError"),
        ("/a", "more than 5 redirects"),
    ],
)
def test_redirects_to_other_hosts_or_schemes_and_loops_are_refused(set_up: SetUp, target: str, message: str) -> None:
    with serving(lambda _path: http_response(status="307 Temporary Redirect", Location=target)) as server:
        set_up(report_api_url=server.url)
        with pytest.raises(PermanentError, match=message):
            read(ReportApi(), f"{server.url}/a?{SIGNATURE}")


@pytest.mark.parametrize(
    "url",
    [
        "http://evil.example/a?" + SIGNATURE,
        "file:///etc/passwd?" + SIGNATURE,
        "http://[::1?" + SIGNATURE,
        "",
        "http://",
    ],
)
def test_a_link_to_another_host_or_scheme_is_never_opened(set_up: SetUp, url: str) -> None:
    set_up(report_api_url="http://127.0.0.1:1")
    with pytest.raises(PermanentError) as caught:
        read(ReportApi(), url)
    assert "c0ffee" not in str(caught.value)


def test_hosts_of_file_storage_are_accepted_from_the_settings(set_up: SetUp) -> None:
    with serving(lambda _path: http_response("x")) as server:
        set_up(report_api_url="http://127.0.0.2:1", report_api_file_hosts="storage.example, 127.0.0.1")
        assert read(ReportApi(), f"{server.url}/a") == b"x"


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]"])
def test_link_local_addresses_are_refused_before_anything_is_sent(set_up: SetUp, host: str) -> None:
    set_up(report_api_url=f"http://{host}", report_api_timeout=1)
    for call in (ReportApi().make_report, lambda: read(ReportApi(), f"http://{host}/latest/meta-data")):
        with pytest.raises(PermanentError, match="link-local"):
            call()


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> list[bytes]:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return [head, *(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces), end]


def test_a_body_without_a_length_is_read_to_its_end(set_up: SetUp) -> None:
    with serving(lambda _path: chunked(b"a,b\n", b"1,2\n")) as server:
        set_up(report_api_url=server.url)
        assert read(ReportApi(), server.url) == b"a,b\n1,2\n"


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP"])
def test_a_gzip_body_is_decompressed(set_up: SetUp, encoding: str) -> None:
    """Objects stored as gzip are sent as gzip unrequested; they may have several members and be larger than a chunk."""
    lines = "".join(f"{n},{n * n}\n" for n in range(300_000)).encode()
    body = gzip.compress(lines) + gzip.compress(b"end\n")
    for raw_response in (
        http_response(body, Content_Encoding=encoding),
        http_response(gzip.compress(b""), Content_Encoding=encoding),
    ):
        with serving(lambda _path, raw_response=raw_response: raw_response) as server:  # type: ignore[misc]
            set_up(report_api_url=server.url)
            assert read(ReportApi(), server.url) == (lines + b"end\n" if len(raw_response[1]) == len(body) else b"")


@pytest.mark.parametrize(
    ("raw_response", "kind", "message"),
    [
        (
            http_response(gzip.compress(bytes(10**8)), Content_Encoding="gzip"),
            PermanentError,
            "announced|more than 1000 bytes",
        ),
        (http_response(gzip.compress(bytes(2000)), Content_Encoding="gzip"), PermanentError, "more than 1000 bytes"),
        (http_response(gzip.compress(b"lines")[:-4], Content_Encoding="gzip"), TransientError, "broke off"),
        (http_response("x", Content_Encoding="br"), PermanentError, "Content-Encoding 'br'"),
        (http_response("lines", length=6), TransientError, "5 bytes received|broke off after 5"),
        (chunked(b"a,b\n", end=b""), TransientError, "broke off"),
        (http_response("x", status="403 Forbidden"), LinkExpired, "403"),
        (http_response("x", status="404 Not Found"), FileMissing, "404"),
        (http_response("x", status="410 Gone"), FileMissing, "410"),
        (http_response("x", status="503 Slow Down"), TransientError, "503"),
        (http_response("x", status="206 Partial Content"), PermanentError, "206"),
        (http_response("lines", Content_Encoding="gzip"), PermanentError, "Content-Encoding 'gzip'"),
        (http_response("x" * 2000), PermanentError, "2000 bytes announced, at most 1000 are accepted"),
        (http_response("x", length=10**15), PermanentError, "announced"),
        (chunked(b"x" * 600, b"x" * 600), PermanentError, "more than 1000 bytes"),
        ([], TransientError, "the connection failed"),
        ([b"nonsense\r\n\r\n"], TransientError, "the connection failed"),
    ],
)
def test_failing_downloads_have_a_kind_and_a_reason_without_secrets(
    set_up: SetUp, raw_response: list[bytes], kind: type[ReportApiError], message: str
) -> None:
    with serving(lambda _path: raw_response) as server:
        set_up(report_api_url=server.url, raw_files_max_bytes=1000)
        with pytest.raises(ReportApiError, match=message) as caught:
            read(ReportApi(), f"{server.url}/file.csv?{SIGNATURE}")
    assert type(caught.value) is kind
    assert "c0ffee" not in str(caught.value)
    assert caught.value.__cause__ is None  # no cause in a traceback: the library's text repeats the whole URL


def test_a_download_of_single_bytes_has_a_time_limit(set_up: SetUp) -> None:
    def send_slowly(_path: str) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
        while True:
            time.sleep(0.01)
            yield b"x"

    with serving(send_slowly) as server:
        set_up(report_api_url=server.url, report_api_timeout=0.02)
        with pytest.raises(TransientError, match=r"bytes after 1 s|broke off"):
            read(ReportApi(), server.url)
