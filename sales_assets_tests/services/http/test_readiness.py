"""`/ready`: only what is configured counts, a missing broker degrades, and nothing that hangs delays the answer."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
import requests
from prometheus_client import CollectorRegistry

from sales_assets.services.http.application import application
from sales_assets.services.http.server import running
from sales_assets.services.mailings.bootstrap import Mailings
from sales_assets.services.partner_orders.bootstrap import PartnerOrders
from sales_assets.settings import Settings
from sales_assets_tests.services.partner_orders.fixtures import BROKER_URL, need_broker, order

pytestmark = pytest.mark.external

NOWHERE = "http://127.0.0.1:9"
NO_BROKER = "amqp://guest:guest@127.0.0.1:9//"


@contextlib.contextmanager
def both_running(database_url: str, **chosen: Any) -> Iterator[str]:
    """The application as `sales-assets api --part http` has it."""
    settings = Settings(_env_file=None, **{"rabbitmq_url": NO_BROKER} | chosen)  # type: ignore[call-arg]
    registry = CollectorRegistry()
    app = application(
        PartnerOrders(settings, database_url, registry=registry, parts=()),
        Mailings(settings, database_url, registry=registry, kick=lambda: None),
        registry=registry,
    )
    with running(app, lifespan=True) as url:
        yield url


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where connections are accepted and nothing is ever answered."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield server.getsockname()[1]


def ready(url: str) -> tuple[int, dict[str, Any]]:
    answer = requests.get(f"{url}/ready", timeout=30)
    return answer.status_code, answer.json()


def in_time(url: str) -> list[tuple[int, dict[str, Any]]]:
    """Several answers in a row, the quickest of them within 3 seconds: the machine may be busy with other tests."""
    answers, seconds = [], []
    for _ in range(3):
        began = time.monotonic()
        answers.append(ready(url))
        seconds.append(time.monotonic() - began)
    assert min(seconds) < 3
    assert max(seconds) < 10
    return answers


@pytest.mark.parametrize(
    ("chosen", "status", "partner", "sender"),
    [
        ({"partnerapi_url": NOWHERE, "sender_url": NOWHERE}, 200, "ok", "ok"),
        ({"partnerapi_url": NOWHERE}, 200, "ok", "SENDER_URL is not set"),
        ({"sender_url": NOWHERE}, 200, "PARTNERAPI_URL is not set", "ok"),
        ({}, 503, "PARTNERAPI_URL is not set", "SENDER_URL is not set"),
    ],
    ids=["both", "orders", "mailings", "neither"],
)
def test_only_what_is_configured_counts(
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
                },
            },
        )


def test_a_missing_broker_degrades(warehouse_url: str) -> None:
    with both_running(warehouse_url, partnerapi_url=NOWHERE, partnerapi_http_retries_count=1) as url:
        status, body = ready(url)
        assert (status, body["ready"], body["degraded"]) == (200, True, ["broker"])
        assert body["checks"]["broker"] not in ("ok", "")
        assert "guest" not in str(body)
        assert requests.post(f"{url}/v2/orders/", json=order(), timeout=60).status_code == 200


def test_a_broker_that_hangs_degrades_in_time(warehouse_url: str, silent_port: int) -> None:
    with both_running(
        warehouse_url, partnerapi_url=NOWHERE, rabbitmq_url=f"amqp://guest:guest@127.0.0.1:{silent_port}//"
    ) as url:
        for status, body in in_time(url):
            assert (status, body["degraded"]) == (200, ["broker"])
            assert body["checks"]["broker"] == "no answer within 1.5 s"


def test_a_database_that_hangs_is_not_ready_in_time(silent_port: int) -> None:
    database = f"postgresql://somebody@127.0.0.1:{silent_port}/nothing"
    with both_running(
        database, partnerapi_url=NOWHERE, rabbitmq_url=f"amqp://guest:guest@127.0.0.1:{silent_port}//"
    ) as url:
        for status, body in in_time(url):
            assert (status, body["ready"]) == (503, False)
            assert {body["checks"][name] for name in ("database", "mailings database")} <= {
                "no answer within 1.5 s",
                "ConnectionTimeout",
            }


def test_a_database_that_is_away_is_not_ready() -> None:
    with both_running("postgresql://somebody@127.0.0.1:9/nothing", partnerapi_url=NOWHERE) as url:
        status, body = ready(url)
        assert (status, body["checks"]["database"]) == (503, "OperationalError")


def test_a_database_that_accepts_no_writes_is_not_ready(
    warehouse_url: str, query: Callable[..., list[tuple[object, ...]]]
) -> None:
    with both_running(warehouse_url, partnerapi_url=NOWHERE) as url:
        assert ready(url)[0] == 200
        name = query("SELECT current_database()")[0][0]
        query(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        status, body = ready(url)
        assert (status, body["ready"]) == (503, False)
        assert body["checks"]["database"] == body["checks"]["mailings database"] == "the database accepts no writes"
        with psycopg.connect(warehouse_url, options="-c default_transaction_read_only=off", autocommit=True) as owner:
            owner.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only'.encode())
        assert ready(url)[0] == 200


def test_a_role_without_the_right_to_write_is_not_ready(warehouse_url: str) -> None:
    with psycopg.connect(warehouse_url, autocommit=True) as owner:
        role = f"reader_{owner.info.dbname}"
        owner.execute(f'CREATE ROLE "{role}" LOGIN'.encode())
        try:
            owner.execute(f'GRANT USAGE ON SCHEMA orders, mailings TO "{role}"'.encode())
            owner.execute(f'GRANT SELECT, INSERT ON mailings.mailing TO "{role}"'.encode())
            reader = psycopg.conninfo.make_conninfo(warehouse_url, user=role)
            with both_running(reader, sender_url=NOWHERE) as url:
                status, body = ready(url)
            assert (status, body["checks"]["mailings database"]) == (503, "ok")
            assert body["checks"]["database"] == "the database accepts no writes"
        finally:
            owner.execute(f'DROP OWNED BY "{role}"'.encode())
            owner.execute(f'DROP ROLE "{role}"'.encode())
