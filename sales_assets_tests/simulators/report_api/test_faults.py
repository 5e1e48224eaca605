"""Simulated faults of the report API, each as seen by a plain HTTP client."""

import time
from pathlib import Path

import pytest
import requests

from sales_assets.simulators.report_api.faults import Faults
from sales_assets_tests.simulators.report_api.conftest import Client, Start, orders, write


@pytest.fixture
def client(tmp_path: Path, start: Start) -> Client:
    """Client of a server without faults; the tests set them."""
    write(tmp_path / "main" / "user_orders_log.csv", orders(*["2024-09-08"] * 5000))
    write(tmp_path / "main" / "price_log.csv", "Яблоко,140\n")
    return start()


def test_slow_responses(client: Client) -> None:
    client.api.faults = Faults(slow=0.3)
    before = time.monotonic()
    client.task()
    assert time.monotonic() - before >= 0.3
    with pytest.raises(requests.Timeout):
        client.post("/generate_report", timeout=0.1)


def test_trickled_body_arrives_whole_but_late(client: Client, tmp_path: Path) -> None:
    url = client.report()["s3_path"]["user_orders_log"]
    client.api.faults = Faults(trickle=0.05)
    before = time.monotonic()
    body = requests.get(url, timeout=10).content
    assert time.monotonic() - before >= 0.3
    assert body == (tmp_path / "main" / "user_orders_log.csv").read_bytes()


def test_random_502_responses_depend_on_the_seed(tmp_path: Path, start: Start) -> None:
    def statuses(seed: int) -> list[int]:
        client = start(tmp_path, faults=Faults(bad_gateway=0.3, seed=seed))
        return [client.post("/generate_report").status_code for _ in range(60)]

    first = statuses(1)
    assert set(first) == {200, 502}
    assert 5 <= first.count(502) <= 35
    assert statuses(1) == first
    assert statuses(2) != first


def test_cut_body(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    url = client.report()["s3_path"]["user_orders_log"]
    client.api.faults = Faults(cut=1.0)
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError), match="IncompleteRead"):
        requests.get(url, timeout=10)
    client.api.faults = Faults()
    assert requests.get(url, timeout=10).status_code == 200
    assert not [record for record in caplog.records if record.exc_info]


def test_content_length_above_the_body(client: Client, tmp_path: Path) -> None:
    size = (tmp_path / "main" / "price_log.csv").stat().st_size
    url = client.report()["s3_path"]["price_log"]
    client.api.faults = Faults(wrong_length=7)
    with requests.get(url, stream=True, timeout=10) as response:
        assert response.headers["Content-Length"] == str(size + 7)
        with pytest.raises(requests.exceptions.ChunkedEncodingError, match="7 more expected"):
            _ = response.content


def test_content_length_below_the_body(client: Client, tmp_path: Path) -> None:
    whole = (tmp_path / "main" / "price_log.csv").read_bytes()
    url = client.report()["s3_path"]["price_log"]
    client.api.faults = Faults(wrong_length=-7)
    response = requests.get(url, timeout=10)
    assert response.headers["Content-Length"] == str(len(whole) - 7)
    assert response.content == whole[:-7]


def test_lost_file_is_listed_but_404(client: Client) -> None:
    client.api.faults = Faults(lost_file="price_log")
    links = client.report()["s3_path"]
    assert requests.get(links["price_log"], timeout=10).status_code == 404
    assert requests.get(links["user_orders_log"], timeout=10).status_code == 200


def test_report_that_never_finishes(client: Client) -> None:
    task_id = client.task()
    client.api.faults = Faults(never_ready=True)
    assert client.get("/get_report", {"task_id": task_id}).json()["status"] == "RUNNING"


def test_html_instead_of_json(client: Client) -> None:
    url = client.report()["s3_path"]["price_log"]
    client.api.faults = Faults(html=1.0)
    response = client.post("/generate_report")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/html")
    with pytest.raises(requests.JSONDecodeError):
        response.json()
    assert requests.get(url, timeout=10).text == "Яблоко,140\n"


def test_expired_links_are_renewed_by_the_next_request(tmp_path: Path, start: Start) -> None:
    write(tmp_path / "main" / "price_log.csv", "Яблоко,140\n")
    write(tmp_path / "inc" / "2024-10-01" / "price_log_inc.csv", "Яблоко,150\n")
    client = start(faults=Faults(expired_links=1))
    task_id = client.task()
    first, second = (client.get("/get_report", {"task_id": task_id}).json()["data"] for _ in range(2))
    stale = requests.get(first["s3_path"]["price_log"], timeout=10)
    assert stale.status_code == 403
    assert "expired" in stale.text
    assert requests.get(second["s3_path"]["price_log"], timeout=10).status_code == 200

    stale_day, fresh_day = (client.increment(first["report_id"], "2024-10-01")["data"]["s3_path"] for _ in range(2))
    assert requests.get(stale_day["price_log_inc"], timeout=10).status_code == 403
    assert requests.get(fresh_day["price_log_inc"], timeout=10).text == "Яблоко,150\n"


@pytest.mark.parametrize("wrong", [{"cut": 1.5}, {"html": -0.1}, {"slow": -1.0}, {"expired_links": -1}])
def test_impossible_faults_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Faults(**wrong)  # type: ignore[arg-type]
