"""Wire format of the report API with all its pitfalls, tested by a plain HTTP client."""

import base64
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from sales_assets.services.http.server import running
from sales_assets.simulators.report_api.app import ReportApi
from sales_assets_tests.simulators.report_api.conftest import HEADERS, KEY, Client, Start, orders, write

pytestmark = pytest.mark.external

NAMES = ["user_orders_log", "custom_research", "user_activity_log", "price_log"]


def write_files(folder: Path) -> Path:
    for name in NAMES:
        text = orders("2023-09-07", "2023-09-29") if name == "user_orders_log" else f"{name}\n"
        write(folder / "main" / f"{name}.csv", text)
        write(folder / "inc" / "2023-09-30" / f"{name}_inc.csv", f"{name} of the day\r\n")
    return folder


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Client of one server, shared by all tests that change nothing; requests leave no state."""
    api = ReportApi(write_files(tmp_path_factory.mktemp("files")), api_key=KEY, report_seconds=0)
    with running(api) as url:
        yield Client(api, url)


@pytest.fixture
def separate_client(tmp_path: Path, start: Start) -> Client:
    """Client of a separate server for tmp_path, for a test that changes files or counts requests."""
    return start(write_files(tmp_path))


def test_report_is_running_and_then_ready(tmp_path: Path, start: Start) -> None:
    slower = start(write_files(tmp_path), wait=0.3)
    made = time.monotonic()
    response = slower.post("/generate_report")
    assert response.status_code == 200
    task_id = response.json()["task_id"]
    assert response.json() == {"task_id": task_id}

    running = slower.get("/get_report", {"task_id": task_id})
    assert running.status_code == 200
    assert running.json() == {
        "task_id": task_id,
        "status": "RUNNING",
        "data": {"report_id": None, "start_day": None, "end_date": None, "s3_path": {}},
    }

    deadline = made + 5
    while (ready := slower.get("/get_report", {"task_id": task_id}).json())["status"] == "RUNNING":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert time.monotonic() - made >= 0.29
    assert list(ready) == ["task_id", "status", "data"]
    assert (ready["task_id"], ready["status"]) == (task_id, "SUCCESS")
    assert list(ready["data"]) == ["report_id", "start_day", "end_date", "s3_path"]
    assert ready["data"]["start_day"] == "2023-09-07 00:00:00"
    assert ready["data"]["end_date"] == "2023-09-29 00:00:00"
    assert sorted(ready["data"]["s3_path"]) == sorted(NAMES)

    again = slower.get("/get_report", {"task_id": task_id}).json()
    assert again["data"]["report_id"] == ready["data"]["report_id"]


def test_increment(client: Client) -> None:
    report_id = client.report()["report_id"]
    response = client.increment(report_id, "2023-09-30")
    assert list(response) == ["report_id", "date", "status", "data"]
    assert response["report_id"] == report_id
    assert response["date"] == "2023-09-30 00:00:00"
    assert response["status"] == "SUCCESS"
    assert list(response["data"]) == ["increment_id", "s3_path"]
    assert sorted(response["data"]["s3_path"]) == sorted(f"{name}_inc" for name in NAMES)
    for name, url in response["data"]["s3_path"].items():
        # Downloads need no headers.
        assert requests.get(url, timeout=10).content == f"{name.removesuffix('_inc')} of the day\r\n".encode()


def test_later_day_without_an_increment_is_not_found_with_http_200_and_no_reason(client: Client) -> None:
    report_id = client.report()["report_id"]
    assert client.increment(report_id, "2023-10-01") == {
        "report_id": report_id,
        "date": "2023-10-01 00:00:00",
        "status": "NOT FOUND",
        "data": {"increment_id": None},
    }


@pytest.mark.parametrize("day", ["2023-09-29", "2023-09-07", "2020-01-22", "0001-01-01"])
def test_day_up_to_the_end_of_the_report_is_not_found_with_a_reason(client: Client, day: str) -> None:
    response = client.increment(client.report()["report_id"], day)
    assert response["status"] == "NOT FOUND"
    assert response["data"] == {"increment_id": None}
    assert "2023-09-29" in response["debug_info"]


def test_ids_are_base64_and_must_be_url_encoded(client: Client) -> None:
    report = client.report()
    increment = client.increment(report["report_id"], "2023-09-30")["data"]
    for text in (client.task(), report["report_id"], increment["increment_id"]):
        assert base64.b64encode(base64.b64decode(text, validate=True)).decode() == text
        assert {"+", "/", "="} <= set(text)
    bare = f"{client.url}/get_increment?report_id={report['report_id']}&date=2023-09-30T00:00:00"
    assert requests.get(bare, headers=HEADERS, timeout=10).status_code == 404


def test_increment_ids_depend_on_the_report_and_old_reports_remain_valid(client: Client) -> None:
    first, second = (client.report()["report_id"] for _ in range(2))
    assert first != second
    ids = [client.increment(report, "2023-09-30")["data"]["increment_id"] for report in (first, second, first)]
    assert ids[0] != ids[1]
    assert ids[0] == ids[2]


def test_prices_of_a_day_are_in_the_reports_folder(client: Client) -> None:
    report = client.report()
    increment = client.increment(report["report_id"], "2023-09-30")["data"]["s3_path"]

    def folder(url: str) -> str:
        return urlsplit(url).path.split("/")[2]

    of_report = {folder(url) for url in report["s3_path"].values()}
    assert {folder(increment["price_log_inc"])} == of_report
    others = {folder(url) for name, url in increment.items() if name != "price_log_inc"}
    assert len(others) == 1
    assert not others & of_report


def test_links_use_the_requested_host_and_have_a_signature(client: Client) -> None:
    port = urlsplit(client.url).port
    response = client.get("/get_report", {"task_id": client.task()}, headers=HEADERS | {"Host": f"shop.test:{port}"})
    for url in response.json()["data"]["s3_path"].values():
        assert urlsplit(url).netloc == f"shop.test:{port}"
        assert len(parse_qs(urlsplit(url).query)["X-Amz-Signature"][0]) == 64


@pytest.mark.parametrize("change", ["", "0" * 64])
def test_link_without_its_signature_is_refused(client: Client, change: str) -> None:
    url = client.report()["s3_path"]["price_log"]
    signature = parse_qs(urlsplit(url).query)["X-Amz-Signature"][0]
    response = requests.get(url.replace(signature, change), timeout=10)
    assert response.status_code == 403
    assert "AccessDenied" in response.text


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("X-API-KEY", None, 401),
        ("X-API-KEY", "wrong", 403),
        ("X-API-KEY", "", 403),
        ("X-Nickname", None, 400),
        ("X-Cohort", None, 400),
        ("X-Project", None, 400),
        ("X-Project", "False", 400),
    ],
)
def test_every_call_checks_every_header(client: Client, header: str, value: str | None, status: int) -> None:
    headers = {name: text for name, text in (HEADERS | {header: value}).items() if text is not None}
    report_id = client.report()["report_id"]
    responses = [
        client.post("/generate_report", headers=headers),
        client.get("/get_report", {"task_id": client.task()}, headers=headers),
        client.get("/get_increment", {"report_id": report_id, "date": "2023-09-30T00:00:00"}, headers=headers),
    ]
    for response in responses:
        assert response.status_code == status
        assert header in response.json()["error"]
        assert HEADERS["X-API-KEY"] not in response.text


def test_missing_key_is_reported_before_other_headers(client: Client) -> None:
    assert client.post("/generate_report", headers={}).status_code == 401


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2023-09-30",
        "2023-09-30 00:00:00",
        "2023-02-30T00:00:00",
        "20230930T000000",
        "2023-09-30T00:00:00Z",
        "x",
    ],
)
def test_malformed_date_is_refused(client: Client, text: str) -> None:
    response = client.get("/get_increment", {"report_id": client.report()["report_id"], "date": text})
    assert response.status_code == 400
    assert "date" in response.json()["error"]


@pytest.mark.parametrize("text", ["garbage", "MTIz", "+/8=", "ё", "A" * 5000])
def test_unknown_ids_are_refused(client: Client, text: str) -> None:
    assert client.get("/get_report", {"task_id": text}).status_code == 404
    response = client.get("/get_increment", {"report_id": text, "date": "2023-09-30T00:00:00"})
    assert response.status_code == 404
    assert response.json() == {"error": "unknown report_id"}


def test_id_of_another_kind_is_refused(client: Client) -> None:
    report_id = client.report()["report_id"]
    increment_id = client.increment(report_id, "2023-09-30")["data"]["increment_id"]
    assert client.get("/get_report", {"task_id": report_id}).status_code == 404
    response = client.get("/get_increment", {"report_id": increment_id, "date": "2023-09-30T00:00:00"})
    assert response.status_code == 404


def test_missing_parameters_and_unknown_paths_are_refused_with_json(client: Client) -> None:
    assert client.get("/get_report", {}).status_code == 400
    assert client.get("/get_increment", {"date": "2023-09-30T00:00:00"}).status_code == 400
    assert client.get("/generate_report", {}).status_code == 405
    assert client.get("/nothing", {}).json() == {"error": "Not Found"}


def test_ids_and_links_survive_a_restart(separate_client: Client, start: Start) -> None:
    task_id = separate_client.task()
    report = separate_client.report()
    increment = separate_client.increment(report["report_id"], "2023-09-30")
    other = start()
    assert other.get("/get_report", {"task_id": task_id}).json()["status"] == "SUCCESS"
    again = other.increment(report["report_id"], "2023-09-30")
    assert again["data"]["increment_id"] == increment["data"]["increment_id"]
    for url in [*report["s3_path"].values(), *increment["data"]["s3_path"].values()]:
        assert requests.get(url.replace(separate_client.url, other.url), timeout=10).status_code == 200


def test_file_headers_and_not_modified(separate_client: Client, tmp_path: Path) -> None:
    path = tmp_path / "main" / "user_orders_log.csv"
    url = separate_client.report()["s3_path"]["user_orders_log"]
    response = requests.get(url, timeout=10)
    assert response.content == path.read_bytes()
    assert response.headers["Content-Length"] == str(path.stat().st_size)
    assert response.headers["Last-Modified"].endswith(" GMT")
    etag = response.headers["ETag"]

    same = requests.get(url, headers={"If-None-Match": f'"other", W/{etag}'}, timeout=10)
    assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", etag)
    head = requests.head(url, timeout=10)
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(path.stat().st_size))


def test_changed_file_has_another_etag_and_the_day_keeps_its_id(separate_client: Client, tmp_path: Path) -> None:
    report_id = separate_client.report()["report_id"]
    path = tmp_path / "inc" / "2023-09-30" / "user_orders_log_inc.csv"
    before = separate_client.increment(report_id, "2023-09-30")["data"]
    old = requests.get(before["s3_path"]["user_orders_log_inc"], timeout=10)

    # Same size, and the file may be replaced within the resolution of the file system's timestamps.
    changed = tmp_path / "new.csv"
    changed.write_bytes(path.read_bytes().replace(b"day", b"DAY"))
    changed.replace(path)

    after = separate_client.increment(report_id, "2023-09-30")["data"]
    assert after["increment_id"] == before["increment_id"]
    url = after["s3_path"]["user_orders_log_inc"]
    new = requests.get(url, headers={"If-None-Match": old.headers["ETag"]}, timeout=10)
    assert new.status_code == 200
    assert new.headers["ETag"] != old.headers["ETag"]
    assert new.content == old.content.replace(b"day", b"DAY")


def test_file_that_vanished_is_404(separate_client: Client, tmp_path: Path) -> None:
    url = separate_client.report()["s3_path"]["price_log"]
    (tmp_path / "main" / "price_log.csv").unlink()
    response = requests.get(url, timeout=10)
    assert response.status_code == 404
    assert "NoSuchKey" in response.text


@pytest.mark.parametrize("path", ["/s3/x/..%2F..%2Fsecret.csv", "/s3/../../secret.csv", "/s3/x/2023-09-30/secret.csv"])
def test_nothing_outside_the_listing_is_served(tmp_path: Path, start: Start, path: str) -> None:
    (tmp_path / "served" / "main").mkdir(parents=True)
    write(tmp_path / "secret.csv", "secret")
    client = start(tmp_path / "served")
    session = requests.Session()
    request = session.prepare_request(requests.Request("GET", client.url))
    request.url = client.url + path
    response = session.send(request, timeout=10)
    assert response.status_code in (403, 404)
    assert "<Message>" in response.text or "error" in response.json()


def test_requests_are_counted(separate_client: Client) -> None:
    report_id = separate_client.report()["report_id"]
    for day in ("2023-09-30", "2023-10-01"):
        separate_client.increment(report_id, day)
    assert separate_client.api.count("/get_increment") == 2
    assert [seen.query["date"] for seen in separate_client.api.seen if seen.path == "/get_increment"] == [
        "2023-09-30T00:00:00",
        "2023-10-01T00:00:00",
    ]
