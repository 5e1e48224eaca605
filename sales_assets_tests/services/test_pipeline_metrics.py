"""Pipeline metrics: read from the tables at each scrape; a scrape fails when the tables cannot be read."""

import datetime as dt
import re
import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest
import requests
from prometheus_client import CollectorRegistry

from sales_assets.deploy.storage import open_as_dagster
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.services.http.application import application
from sales_assets.services.http.server import running
from sales_assets.services.pipeline_metrics import PREFIX, PipelineMetrics
from sales_assets_tests.builders import Order
from sales_assets_tests.fixtures import Shop

Query = Callable[..., list[tuple[object, ...]]]


@pytest.fixture
def storage(new_database: Callable[..., str]) -> str:
    """Dagster's run storage, without runs, in a separate schema."""
    url = new_database("template1")
    with psycopg.connect(url) as connection:
        connection.execute("CREATE SCHEMA of_dagster")
    url = f"{url}&options=-csearch_path%3Dof_dagster"
    open_as_dagster(url)
    return url


@pytest.fixture
def url(warehouse_url: str, storage: str) -> Iterator[str]:
    registry = CollectorRegistry()
    with running(application(PipelineMetrics(warehouse_url, storage, registry=registry), registry=registry)) as url:
        yield url


def scrape(url: str) -> dict[str, float]:
    response = requests.get(f"{url}/metrics", timeout=30)
    assert response.status_code == 200, response.text
    return {
        name: float(value) for name, value in re.findall(rf"^{PREFIX}_(\S+) (\S+)$", response.text, flags=re.MULTILINE)
    }


def test_days_behind_is_infinite_before_the_first_load(url: str) -> None:
    found = scrape(url)
    assert found["days_behind"] == found["seconds_since_last_load"] == float("inf")
    assert found["quarantine_open"] == found["runs_queued"] == found["lock_waiting_loads"] == 0


def test_metrics_match_the_tables(url: str, shop: Shop, storage: str, query: Query, today: dt.date) -> None:
    day = today - dt.timedelta(days=3)
    shop.reports.report([Order("r", day=str(day - dt.timedelta(days=1)))])
    shop.reports.increment(str(day), [Order("a", day=str(day)), Order("b", day=str(day)), "one,cell"])
    shop.fetch_report()
    shop.load(str(day))
    found = scrape(url)
    assert found["days_behind"] == 2
    assert 0 <= found["seconds_since_last_load"] < 3600
    assert found["quarantine_open"] == 1
    assert found['rows{day_age="3",file="user_orders_log"}'] == 2

    query("DELETE FROM staging.quarantine")
    query("UPDATE staging.staged_day SET staged_at = staged_at - interval '2 days'")
    with psycopg.connect(storage, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO runs (run_id, pipeline_name, run_body, status)"
            " SELECT md5(n::text), 'load_days', '', status"
            " FROM unnest(ARRAY['QUEUED', 'QUEUED', 'STARTED', 'SUCCESS', 'FAILURE']) WITH ORDINALITY AS r (status, n)"
        )
        connection.execute("UPDATE runs SET create_timestamp = create_timestamp - interval '1 hour'")
    found = scrape(url)
    assert found["quarantine_open"] == 0
    assert found["seconds_since_last_load"] > 172_800
    assert (found["runs_queued"], found["runs_in_progress"]) == (2, 1)
    assert found["run_queue_oldest_seconds"] > 3_599


def test_load_waiting_for_another_is_counted(url: str) -> None:
    def write() -> None:
        with Warehouse().writing_days("second", [20241001, 20241002]):
            pass

    second = threading.Thread(target=write)
    with Warehouse().writing_days("first", [20241002]):
        second.start()
        deadline = time.monotonic() + 60
        while not (found := scrape(url))["lock_waiting_loads"]:
            assert time.monotonic() < deadline
        assert found["lock_waiting_loads"] == 1
        assert scrape(url)["lock_wait_seconds"] > 0
    second.join()
    assert scrape(url)["lock_waiting_loads"] == 0


def test_a_scrape_fails_when_the_tables_cannot_be_read(warehouse_url: str) -> None:
    registry = CollectorRegistry()
    gone = "postgresql://somebody:hush@127.0.0.1:9/warehouse"
    with running(application(PipelineMetrics(gone, warehouse_url, registry=registry), registry=registry)) as url:
        response = requests.get(f"{url}/metrics", timeout=30)
        assert response.status_code == 503
        assert response.json()["detail"] == "the tables can't be read: OperationalError"
        assert requests.get(f"{url}/ready", timeout=30).status_code == 503
        assert requests.get(f"{url}/health", timeout=30).status_code == 200
    assert "hush" not in response.text


def test_unused_dagster_storage_has_no_runs(warehouse_url: str, new_database: Callable[..., str]) -> None:
    registry = CollectorRegistry()
    metrics = PipelineMetrics(warehouse_url, new_database("template1"), registry=registry)
    with running(application(metrics, registry=registry)) as url:
        assert scrape(url)["runs_queued"] == 0
