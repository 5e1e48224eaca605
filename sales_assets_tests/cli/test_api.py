"""`sales-assets api` and `partner-api` as processes: all parts, single parts, and shutdown."""

import re
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from sales_assets_tests.cli.processes import Command, free_port
from sales_assets_tests.services.mailings.fixtures import Api
from sales_assets_tests.services.partner_orders.fixtures import order

NO_BROKER = "amqp://guest:hush@127.0.0.1:9//"


@pytest.fixture(autouse=True)
def _on_this_machine(warehouse_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RABBITMQ_URL", NO_BROKER)


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert line, process.communicate()[1]
    return line


def ended(process: "subprocess.Popen[str]") -> str:
    """Terminate the process; return its stderr."""
    process.send_signal(signal.SIGTERM)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 0, errors
    return errors


def test_an_order_through_the_commands(
    command: Command, query: Callable[..., list[tuple[object, ...]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    partner = command.start("partner-api", "--port", "0")
    partner_url = first_line(partner).removeprefix("partner API: ")
    metrics_port = free_port()
    # Quoted and commented, as an env file may contain them.
    monkeypatch.setenv("PARTNERAPI_URL", f"'{partner_url}'")
    monkeypatch.setenv("PARTNERAPI_METRICS_PORT", f"{metrics_port} # of the container")
    services = command.start("api", "--port", "0")
    url = first_line(services).removeprefix("services: ")
    response = requests.post(f"{url}/v2/orders/", json=order(), timeout=30).json()
    assert (response["result"], response["their_order_id"]) == ("success", "777")
    for path in ("/docs", "/docs/"):
        assert "swagger" in requests.get(url + path, timeout=30).text
    assert requests.get(f"{url}/ready", timeout=30).json()["checks"]["partner"] == "ok"
    created = r'^orders_created_counter_total\{service="PartnerAPI"\} 1\.0$'
    for metrics in (f"{url}/metrics", f"http://127.0.0.1:{metrics_port}/metrics"):
        assert re.search(created, requests.get(metrics, timeout=30).text, re.MULTILINE)
    log = ended(services)
    ended(partner)
    assert query("SELECT count(*) FROM orders.outbox WHERE published_at IS NULL") == [(1,)]
    assert '"order_id": 10' in log
    for secret in ("79997772211", "example@example.com", "Test", "hush"):
        assert secret not in log
    assert command.processes() == {}


def test_log_contains_no_phone_and_no_mailing_text(command: Command, warehouse_url: str) -> None:
    services = command.start("api", "--port", "0")
    api = Api(first_line(services).removeprefix("services: "), warehouse_url)
    client = api.client(phone="79161234567")
    number = api.mailing(text="a secret offer")
    assert api.send("PUT", f"/clients/{client}", {"phone": "79161234567x"}).status_code == 400
    assert api.send("GET", "/clients/list/?phone=79161234567").status_code == 200
    log = ended(services)
    assert f'"client_id": {client}' in log
    assert f'"mailing_id": {number}' in log
    for personal in ("79161234567", "secret offer"):
        assert personal not in log


def test_parts_in_a_separate_process_serve_no_requests(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    port, metrics_port = free_port(), free_port()
    monkeypatch.setenv("PARTNERAPI_METRICS_PORT", str(metrics_port))
    parts = command.start("api", "--part", "relay", "--part", "reconciler", "--port", str(port))
    assert first_line(parts) == "services: reconciler, relay"
    assert "orders_outbox_depth" in requests.get(f"http://127.0.0.1:{metrics_port}/metrics", timeout=30).text
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    ended(parts)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--part", "dispatcher"), "unknown part dispatcher; choose from http, relay, consumer, reconciler"),
        (("--port", "{taken}"), "is taken: choose another with --port"),
    ],
)
def test_unknown_part_and_taken_port_are_errors(command: Command, arguments: tuple[str, str], message: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = command("api", *(argument.format(taken=port) for argument in arguments))
    assert done.returncode != 0
    assert message in re.sub(r"[\s│]+", " ", done.stderr)
    assert "Traceback" not in done.stderr


def test_warehouse_at_another_revision_is_refused(
    command: Command, new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WAREHOUSE_URL", new_database("template1"))
    done = command("api", "--port", "0")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(
        r"error: the warehouse is at revision none, this version needs \d{4}: run `sales-assets migrate`", done.stderr
    )
