"""`sales-assets demo`: starts everything from scratch, and leaves no process, queue or file outside SALES_HOME."""

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
    assert_no_process_left,
    beyond_this_machine,
    free_port,
    listening,
    table,
)
from sales_assets_tests.demo.broker import NO_BROKER, UNKNOWN_USER_URL, assert_broker_is_clean
from sales_assets_tests.services.partner_orders.fixtures import BROKER_URL, need_broker, until


@pytest.fixture(autouse=True)
def _no_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo runs its own report API with its own key; its raw files are in SALES_HOME."""
    monkeypatch.delenv("RAW_FILES_URL", raising=False)
    monkeypatch.delenv("REPORT_API_KEY")
    monkeypatch.delenv("REPORT_API_PATIENCE")


def test_the_demo_once_without_a_broker_shows_sales_and_leaves_nothing_running(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RABBITMQ_URL", UNKNOWN_USER_URL)
    done = command("demo", "--once")
    assert done.returncode == 0, done.stderr
    assert re.search(r"│ days requested +│ 30 ", done.stdout)
    assert "latest days" in done.stdout
    demo_steps = steps(done.stdout)
    loaded = r"Dagster has loaded a report, and the increments of [1-7] days, into mart.f_sales."
    assert re.fullmatch(loaded, demo_steps.pop(1))
    assert demo_steps == [
        f"PostgreSQL and a simulated report API are running, with generated data in {command.home}.",
        f"Charts of the sales are in {command.home}/sales_overview.html.",
        NO_BROKER,
    ]
    assert "data:image/png;base64," in (command.home / "sales_overview.html").read_text(encoding="utf-8")
    assert library_output(done.stderr) == []
    assert "partner orders in mart.f_sales" not in done.stdout
    assert "mailing" not in done.stdout.replace(NO_BROKER, "")
    assert "starting PostgreSQL" in done.stderr
    assert command.processes() == {}
    assert not EmbeddedPostgres(command.home / "postgres").is_running()
    assert command.files_outside() == []

    stdout = command("doctor").stdout
    command("warehouse", "stop")
    assert "home: holds generated data" in stdout


@pytest.mark.broker
def test_demo_with_ui_and_services_ends_completely_when_its_terminal_closes(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_broker()
    monkeypatch.setenv("RABBITMQ_URL", BROKER_URL)
    monkeypatch.setenv("PARTNERAPI_URL", "http://127.0.0.1:9")  # the demo must not send orders there
    port = free_port()
    demo = command.start("demo", "--port", str(port))
    assert demo.stdout is not None
    lines = [""]
    while f"Dagster UI: http://127.0.0.1:{port}" not in lines[-1]:
        lines.append(demo.stdout.readline())
        assert lines[-1], demo.communicate()[1]
    output = "".join(lines)
    for asset in ("mart/f_sales", "reports/sales_overview", "mart/f_sales_partner_orders", "mart/f_mailing_deliveries"):
        assert re.search(rf"^  \d\. .+: http://127\.0\.0\.1:{port}/assets/{asset}$", output, re.MULTILINE)
    assert len(steps(output)) == 6
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info", timeout=30) as response:
        assert response.status == 200

    rows = [row[1:] for row in table(output, "order", "day")]
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
    assert all(row[2] for row in rows)  # every row has an item name
    assert "4 orders placed, 2 of them cancelled; 7 of the partner's ids mapped" in output
    _shows_the_mailing(output)
    services = re.search(
        r"Try (http://127\.0\.0\.1:\d+)/docs; sent messages: (http://127\.0\.0\.1:\d+/_messages)$", output, re.MULTILINE
    )
    assert services
    checks = requests.get(f"{services[1]}/ready", timeout=30).json()["checks"]
    assert (checks["broker"], checks["sender"]) == ("ok", "ok")
    sensors = requests.post(f"http://127.0.0.1:{port}/graphql", json={"query": _SENSORS}, timeout=30).json()["data"][
        "sensorsOrError"
    ]["results"]
    on = {sensor["name"] for sensor in sensors if sensor["sensorState"]["status"] == "RUNNING"}
    assert on == {
        "new_increments",
        "new_order_events",
        "changed_weeks",
        "changed_audience",
        "new_deliveries",
        "refresh_reports",
        "resolved_days",
    }
    assert _partitions(f"http://127.0.0.1:{port}") == (30, 30), "the calendar begins with the demo's data"
    _sends_on(services[1], services[2])

    assert len(command.processes()) > 5
    addresses = listening(command.processes())
    assert {f"127.0.0.1:{port}", services[1].removeprefix("http://")} <= addresses
    assert beyond_this_machine(addresses) == []
    os.killpg(demo.pid, signal.SIGHUP)
    demo.communicate(timeout=90)
    assert_no_process_left(command)
    assert_broker_is_clean(command.home)
    assert command.files_outside() == []


def steps(output: str) -> list[str]:
    """Return the texts of the demo's steps in order; assert that they are numbered from 1."""
    found = re.findall(r"^(\d)\. (.+)$", output, re.MULTILINE)
    assert [int(number) for number, _ in found] == list(range(1, len(found) + 1))
    return [text for _, text in found]


def library_output(errors: str) -> list[str]:
    """Return the lines of stderr that are not progress messages of the demo: output of a library."""
    own = re.compile(
        r"|starting PostgreSQL|migrating the warehouse|generating reports|requesting a report|increments"
        r"|the report is being generated, \d+ s so far"
        r"|downloading \w+|\w+: reports and newly selected files|drawing charts"
    )
    return [line for line in errors.splitlines() if not own.fullmatch(line)]


def _partitions(url: str) -> tuple[int, int]:
    """Return the number of partitions of mart/f_sales, and how many of them are materialized."""
    response = requests.post(f"{url}/graphql", json={"query": _PARTITIONS}, timeout=30).json()
    stats = response["data"]["assetNodeOrError"]["partitionStats"]
    return stats["numPartitions"], stats["numMaterialized"]


def _shows_the_mailing(output: str) -> None:
    """Check the demo's mailing: two refunds of two customers lead to two clients and two messages."""
    stdout = {row[0]: row[1] for row in table(output, "", "mailing 1 to the tag refunded")}
    assert stdout == {
        "clients": "6",
        "linked to a customer": "3",
        "not linked": "3",
        "tagged new, returning, refunded": "0, 3, 2",
        "messages": "2",
        "SENT": "2",
    }
    refunds = [row[2:] for row in table(output, "order", "day", "amount", "customer")]
    assert [(row[0], row[3], *row[5:]) for row in refunds] == [
        ("-2500.00", "refunded", "SENT", "1"),
        ("-1283.04", "refunded", "SENT", "1"),
    ]
    for what in (1, 2, 4):  # columns of customers, clients and messages
        assert len({row[what] for row in refunds}) == 2
    weeks = table(output, "week", "new customers")
    assert 5 <= len(weeks) <= 6
    assert float(weeks[0][4]) <= -2500.00 - 1283.04


def _sends_on(services: str, sent: str) -> None:
    """Check that the running demo sends a mailing to a tag stored with a client."""
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
    assert_no_process_left(command)
    assert_broker_is_clean(command.home)
