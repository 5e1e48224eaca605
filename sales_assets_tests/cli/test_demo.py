"""`sales-assets demo`: everything from nothing, and nothing left: no process, no queue, no file outside."""

import datetime as dt
import os
import re
import signal
import urllib.request

import pytest
import requests

from sales_assets.postgres.embedded import EmbeddedPostgres
from sales_assets_tests.cli.processes import (
    Command,
    beyond_this_machine,
    free_port,
    listening,
    no_process_is_left,
    table,
)
from sales_assets_tests.demo.broker import NO_BROKER, NOBODY, nothing_is_left_at_the_broker
from sales_assets_tests.services.partner_orders.fixtures import BROKER_URL, need_broker, until


@pytest.fixture(autouse=True)
def _no_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo brings its own report API, and a key for it."""
    monkeypatch.delenv("REPORT_API_KEY")
    monkeypatch.delenv("REPORT_API_PATIENCE")


def test_the_demo_once_without_a_broker_shows_sales_and_leaves_nothing_running(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RABBITMQ_URL", NOBODY)
    done = command("demo", "--once")
    assert done.returncode == 0, done.stderr
    assert re.search(r"│ days requested +│ 30 ", done.stdout)
    assert "latest days" in done.stdout
    assert done.stdout.splitlines()[-1] == NO_BROKER
    assert "partner orders in mart.f_sales" not in done.stdout
    assert "mailing" not in done.stdout.replace(NO_BROKER, "")
    assert "starting PostgreSQL" in done.stderr
    assert command.processes() == {}
    assert not EmbeddedPostgres(command.home / "postgres").is_running()
    assert command.written_outside() == []

    told = command("doctor").stdout
    command("warehouse", "stop")
    assert "home: holds generated data" in told


@pytest.mark.broker
def test_the_demo_with_ui_and_services_ends_as_a_whole_when_its_terminal_dies(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_broker()
    monkeypatch.setenv("RABBITMQ_URL", BROKER_URL)
    monkeypatch.setenv("PARTNERAPI_URL", "http://127.0.0.1:9")  # a real partner is not for the demo's orders
    port = free_port()
    demo = command.start("demo", "--port", str(port))
    assert demo.stdout is not None
    lines = [""]
    while f"Dagster UI: http://127.0.0.1:{port}" not in lines[-1]:
        lines.append(demo.stdout.readline())
        assert lines[-1], demo.communicate()[1]
    said = "".join(lines)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info", timeout=30) as answer:
        assert answer.status == 200

    rows = [row[1:] for row in table(said, "order", "day")]
    assert sorted((row[1], row[3], row[4]) for row in rows) == [
        ("refunded", "-2.00", "-1283.04"),
        ("refunded", "-2.00", "-2500.00"),
        ("shipped", "1.00", "1250.00"),
        ("shipped", "1.00", "641.52"),
        ("shipped", "1.00", "99.90"),
        ("shipped", "2.00", "1283.04"),
        ("shipped", "2.00", "2500.00"),
        ("shipped", "3.00", "299.70"),
    ]
    assert all(row[2] for row in rows)  # the items' names
    assert "4 orders placed, 2 of them cancelled; 7 of the partner's ids mapped" in said
    _shows_the_mailing(said)
    services = re.search(
        r"^services: (http://127\.0\.0\.1:\d+)/docs; sent messages: (http://127\.0\.0\.1:\d+/_messages)$",
        said,
        re.MULTILINE,
    )
    assert services
    checks = requests.get(f"{services[1]}/ready", timeout=30).json()["checks"]
    assert (checks["broker"], checks["sender"]) == ("ok", "ok")
    sensors = requests.post(f"http://127.0.0.1:{port}/graphql", json={"query": _SENSORS}, timeout=30).json()["data"][
        "sensorsOrError"
    ]["results"]
    on = {sensor["name"] for sensor in sensors if sensor["sensorState"]["status"] == "RUNNING"}
    assert on == {"new_increments", "new_order_events", "changed_weeks", "changed_audience", "new_deliveries"}
    assert _partitions(f"http://127.0.0.1:{port}") == (30, 30), "the calendar begins with the demo's data"
    _sends_on(services[1], services[2])

    assert len(command.processes()) > 5
    addresses = listening(command.processes())
    assert {f"127.0.0.1:{port}", services[1].removeprefix("http://")} <= addresses
    assert beyond_this_machine(addresses) == []
    os.killpg(demo.pid, signal.SIGHUP)
    demo.communicate(timeout=90)
    no_process_is_left(command)
    nothing_is_left_at_the_broker(command.home)
    assert command.written_outside() == []


def _partitions(url: str) -> tuple[int, int]:
    """The days of mart/f_sales, and how many of them are materialized."""
    answer = requests.post(f"{url}/graphql", json={"query": _PARTITIONS}, timeout=30).json()
    stats = answer["data"]["assetNodeOrError"]["partitionStats"]
    return stats["numPartitions"], stats["numMaterialized"]


def _shows_the_mailing(said: str) -> None:
    """Two refunds, two customers, two clients, two messages."""
    told = {row[0]: row[1] for row in table(said, "", "mailing 1 to the tag refunded")}
    assert told == {
        "clients": "6",
        "linked to a customer": "3",
        "not linked": "3",
        "tagged new, returning, refunded": "0, 3, 2",
        "messages": "2",
        "SENT": "2",
    }
    refunds = [row[2:] for row in table(said, "order", "day", "amount", "customer")]
    assert [(row[0], row[3], *row[5:]) for row in refunds] == [
        ("-2500.00", "refunded", "SENT", "1"),
        ("-1283.04", "refunded", "SENT", "1"),
    ]
    for what in (1, 2, 4):  # customers, clients and messages
        assert len({row[what] for row in refunds}) == 2
    weeks = table(said, "week", "new customers")
    assert 5 <= len(weeks) <= 6
    assert float(weeks[0][4]) <= -2500.00 - 1283.04


def _sends_on(services: str, sent: str) -> None:
    """A mailing to a client's own tag goes out while one watches."""
    ahead = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)).isoformat()
    mailing = {
        "start_time": "2020-01-01",
        "text": "of the test",
        "client_operator_code_filter": None,
        "client_tag_filter": "VIP",
        "end_time": ahead,
    }
    requests.post(f"{services}/api/v1/mailings/", json=mailing, timeout=30).raise_for_status()
    until(lambda: "of the test" in [message["text"] for message in requests.get(sent, timeout=30).json()])


_PARTITIONS = """{ assetNodeOrError(assetKey: {path: ["mart", "f_sales"]}) {
    ... on AssetNode { partitionStats { numPartitions numMaterialized } } } }"""
_SENSORS = """{ sensorsOrError(repositorySelector: {repositoryName: "__repository__", repositoryLocationName:
    "sales_assets"}) { ... on Sensors { results { name sensorState { status } } } } }"""


@pytest.mark.broker
def test_the_demo_stopped_while_mailing_ends_all_its_processes(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_broker()
    monkeypatch.setenv("RABBITMQ_URL", BROKER_URL)
    demo = command.start("demo", "--once")
    assert demo.stderr is not None
    while demo.stderr.readline() != "creating clients\n":
        assert demo.poll() is None
    assert sum("celery" in line for line in command.processes().values()) == 2
    demo.send_signal(signal.SIGTERM)
    out, errors = demo.communicate(timeout=90)
    assert demo.returncode == 130
    assert "Traceback" not in errors
    assert "from a refund" not in out
    no_process_is_left(command)
    nothing_is_left_at_the_broker(command.home)
