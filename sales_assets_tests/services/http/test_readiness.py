"""`/ready`: checks only the configured services, reports a missing broker as degraded, never hangs."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
import requests
from prometheus_client import CollectorRegistry

from sales_assets.schemas.pseudonyms import Pseudonyms
from sales_assets.services.http.application import application
from sales_assets.services.http.server import running
from sales_assets.services.mailings.bootstrap import Mailings
from sales_assets.services.partner_orders.bootstrap import PartnerOrders
from sales_assets.settings import Settings
from sales_assets_tests.services.partner_orders.fixtures import BROKER_URL, need_broker, order

pytestmark = pytest.mark.external

UNREACHABLE_URL = "http://127.0.0.1:9"
NO_BROKER = "amqp://guest:guest@127.0.0.1:9//"


@contextlib.contextmanager
def both_running(database_url: str, **chosen: Any) -> Iterator[str]:
    """Run the application as `sales-assets api --part http` builds it; yield its URL."""
    settings = Settings(_env_file=None, **{"rabbitmq_url": NO_BROKER} | chosen)  # type: ignore[call-arg]
    registry = CollectorRegistry()
    app = application(
        PartnerOrders(settings, database_url, registry=registry, parts=()),
        Mailings(settings, database_url, registry=registry, enqueue_planner=lambda: None),
        registry=registry,
    )
    with running(app, lifespan=True) as url:
        yield url


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never responds."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield server.getsockname()[1]


def ready(url: str) -> tuple[int, dict[str, Any]]:
    response = requests.get(f"{url}/ready", timeout=30)
    return response.status_code, response.json()


def fastest_of_three(url: str) -> list[tuple[int, dict[str, Any]]]:
    """Return three responses, the fastest of which must take less than 3 s: other tests may keep the machine busy."""
    responses, seconds = [], []
    for _ in range(3):
        start_time = time.monotonic()
        responses.append(ready(url))
        seconds.append(time.monotonic() - start_time)
    assert min(seconds) < 3
    assert max(seconds) < 10
    return responses


@pytest.mark.parametrize(
    ("chosen", "status", "partner", "sender"),
    [
        ({"partnerapi_url": UNREACHABLE_URL, "sender_url": UNREACHABLE_URL}, 200, "ok", "ok"),
        ({"partnerapi_url": UNREACHABLE_URL}, 200, "ok", "SENDER_URL is not set"),
        ({"sender_url": UNREACHABLE_URL}, 200, "PARTNERAPI_URL is not set", "ok"),
        ({}, 503, "PARTNERAPI_URL is not set", "SENDER_URL is not set"),
    ],
    ids=["both", "orders", "mailings", "neither"],
)
def test_readiness_depends_only_on_configured_services(
    warehouse_url: str, chosen: dict[str, str], status: int, partner: str, sender: str
) -> None:
    need_broker()
    with both_running(warehouse_url, rabbitmq_url=BROKER_URL, **chosen) as url:
        assert ready(url) == (
            status,
            {
                "ready": status == 200,
                "degraded": [],
                "checks": {
                    "database": "ok",
                    "broker": "ok",
                    "partner": partner,
                    "mailings database": "ok",
                    "sender": sender,
                    "erased phones": "ok",
                },
            },
        )


def test_missing_broker_is_degraded_but_ready(warehouse_url: str) -> None:
    with both_running(warehouse_url, partnerapi_url=UNREACHABLE_URL, partnerapi_http_retries_count=1) as url:
        status, body = ready(url)
        assert (status, body["ready"], body["degraded"]) == (200, True, ["broker"])
        assert body["checks"]["broker"] not in ("ok", "")
        assert "guest" not in str(body)
        assert requests.post(f"{url}/v2/orders/", json=order(), timeout=60).status_code == 200


def test_missing_or_different_erasure_secret_is_degraded_but_ready(
    warehouse_url: str, query: Callable[..., list[tuple[object, ...]]]
) -> None:
    former = Pseudonyms("the key of the tests' pseudonyms")
    query("INSERT INTO mailings.erased_phone VALUES (%s, %s)", *former.of(["79997772211"]), former.key_id)
    for secret, text in (("", "is not set here"), ("another key of the tests", "another SALES_ERASURE_SECRET")):
        with both_running(warehouse_url, sender_url=UNREACHABLE_URL, sales_erasure_secret=secret) as url:
            status, body = ready(url)
            assert (status, body["degraded"]) == (200, ["broker", "erased phones"])
            assert text in body["checks"]["erased phones"]
    with both_running(
        warehouse_url, sender_url=UNREACHABLE_URL, sales_erasure_secret="the key of the tests' pseudonyms"
    ) as url:
        assert ready(url)[1]["checks"]["erased phones"] == "ok"


def test_hanging_broker_is_reported_as_degraded_within_3_seconds(warehouse_url: str, silent_port: int) -> None:
    with both_running(
        warehouse_url, partnerapi_url=UNREACHABLE_URL, rabbitmq_url=f"amqp://guest:guest@127.0.0.1:{silent_port}//"
    ) as url:
        for status, body in fastest_of_three(url):
            assert (status, body["degraded"]) == (200, ["broker"])
            assert body["checks"]["broker"] == "no answer within 1.5 s"


def test_hanging_database_is_reported_as_not_ready_within_3_seconds(silent_port: int) -> None:
    database = f"postgresql://somebody@127.0.0.1:{silent_port}/nothing"
    with both_running(
        database, partnerapi_url=UNREACHABLE_URL, rabbitmq_url=f"amqp://guest:guest@127.0.0.1:{silent_port}//"
    ) as url:
        for status, body in fastest_of_three(url):
            assert (status, body["ready"]) == (503, False)
            assert {body["checks"][name] for name in ("database", "mailings database")} <= {
                "no answer within 1.5 s",
                "ConnectionTimeout",
            }


def test_unreachable_database_is_not_ready() -> None:
    with both_running("postgresql://somebody@127.0.0.1:9/nothing", partnerapi_url=UNREACHABLE_URL) as url:
        status, body = ready(url)
        assert (status, body["checks"]["database"]) == (503, "OperationalError")


def test_read_only_database_is_not_ready(warehouse_url: str, query: Callable[..., list[tuple[object, ...]]]) -> None:
    with both_running(warehouse_url, partnerapi_url=UNREACHABLE_URL) as url:
        assert ready(url)[0] == 200
        name = query("SELECT current_database()")[0][0]
        query(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        status, body = ready(url)
        assert (status, body["ready"]) == (503, False)
        assert body["checks"]["database"] == body["checks"]["mailings database"] == "the database accepts no writes"
        with psycopg.connect(warehouse_url, options="-c default_transaction_read_only=off", autocommit=True) as owner:
            owner.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only'.encode())
        assert ready(url)[0] == 200


def test_role_without_write_privileges_is_not_ready(warehouse_url: str) -> None:
    with psycopg.connect(warehouse_url, autocommit=True) as owner:
        role = f"reader_{owner.info.dbname}"
        owner.execute(f'CREATE ROLE "{role}" LOGIN'.encode())
        try:
            owner.execute(f'GRANT USAGE ON SCHEMA orders, mailings TO "{role}"'.encode())
            owner.execute(f'GRANT SELECT, INSERT ON mailings.mailing TO "{role}"'.encode())
            reader = psycopg.conninfo.make_conninfo(warehouse_url, user=role)
            with both_running(reader, sender_url=UNREACHABLE_URL) as url:
                status, body = ready(url)
            assert (status, body["checks"]["mailings database"]) == (503, "ok")
            assert body["checks"]["database"] == "the database accepts no writes"
        finally:
            owner.execute(f'DROP OWNED BY "{role}"'.encode())
            owner.execute(f'DROP ROLE "{role}"'.encode())
