"""`sales-assets demo` and `dev`: everything from nothing, and nothing left: no process, no queue, no file outside."""

import datetime as dt
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from functools import partial
from pathlib import Path

import pytest
import requests
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelNotFoundEntity

from sales_assets import settings as settings_module
from sales_assets.commands import demo_services
from sales_assets.commands.demo import demo_loaded
from sales_assets.commands.demo_celery import celery_running
from sales_assets.commands.demo_mailings import create_mailing, when_finished
from sales_assets.commands.load import LoadError
from sales_assets.deploy.ui import UiError, ui_running
from sales_assets.pipeline.progress import Progress
from sales_assets.postgres.embedded import EmbeddedPostgres
from sales_assets.services.mailings.celery_app import dispatch_queue, plan_queue
from sales_assets.services.partner_orders.broker import Broker
from sales_assets.settings import SettingsError
from sales_assets.simulators.sender_api import SenderApi
from sales_assets_tests.commands.running import Command, beyond_this_machine, listening
from sales_assets_tests.commands.test_looking import table
from sales_assets_tests.services.mailings.running import api_running
from sales_assets_tests.services.partner_orders.running import (
    BROKER_URL,
    at_broker,
    need_broker,
    own_names,
    queued,
    until,
)

NOBODY = "amqp://guest:hush@127.0.0.1:9//"
NO_BROKER = (
    "Orders and mailings need RabbitMQ and were left out: none at 127.0.0.1:9 (AMQPConnectionError). "
    "`apt-get install rabbitmq-server` or `docker run -d -p 5672:5672 rabbitmq:4` brings one; "
    "RABBITMQ_URL says where it is."
)

# The parent of what `dev` starts: it is told to end in the midst of its cleaning up, twice.
_CLEANING_UP = """
import os, signal, sys, time
from sales_assets.deploy.ui import end_on_signals
end_on_signals()
try:
    print("started", flush=True)
    time.sleep(60)
finally:
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), number)
        time.sleep(0.02)
    print("cleaned up", flush=True)
"""


@pytest.fixture(autouse=True)
def _no_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo brings its own report API, and a key for it."""
    monkeypatch.delenv("REPORT_API_KEY")
    monkeypatch.delenv("REPORT_API_PATIENCE")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def no_process_is_left(command: Command) -> None:
    command.wait_until(lambda: not command.processes(), "all processes of the home are gone")
    # PostgreSQL's processes write over their environment, by which the others are found.
    assert not EmbeddedPostgres(command.home / "postgres").is_running()


def nothing_is_left_at_the_broker(home: Path) -> None:
    """Of the last demo of the home: its log has the name that it used."""
    lines = [json.loads(line) for line in (home / "services.log").read_text().splitlines()]
    broker = Broker(BROKER_URL, 10, [line["broker_name"] for line in lines if "broker_name" in line][-1])
    assert broker.name.startswith("sales_assets_demo_")
    nothing_has_the_name_of(broker)


def nothing_has_the_name_of(broker: Broker) -> None:
    for queue in (broker.events_queue, broker.retry_queue, broker.dead_queue, *mailings_queues(broker)):
        with pytest.raises(ChannelNotFoundEntity):
            queued(broker, queue)
    prefix = f"{broker.name}.mailings"
    celerys_own = (prefix, f"{prefix}.control.pidbox", f"reply.{prefix}.control.pidbox", f"{prefix}.events")
    for exchange in (broker.name, *celerys_own):
        with pytest.raises(ChannelNotFoundEntity):
            at_broker(broker, partial(_find_exchange, exchange))


def mailings_queues(broker: Broker) -> list[str]:
    """As the service itself names them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAILINGS_QUEUE_PREFIX", f"{broker.name}.mailings")
        settings_module.settings.cache_clear()
        queues = [plan_queue(), dispatch_queue()]
    settings_module.settings.cache_clear()
    assert all(queue.startswith(f"{broker.name}.mailings.") for queue in queues)
    return queues


async def _declare_fleeting(queue: str, channel: AbstractChannel) -> None:
    """The broker refuses it where the queue is there by other arguments."""
    await channel.declare_queue(queue, durable=True, arguments={"x-expires": 24 * 3600 * 1000})


async def _find_exchange(name: str, channel: AbstractChannel) -> None:
    await channel.get_exchange(name, ensure=True)


def test_the_demo_once_without_a_broker_shows_sales_and_leaves_nothing_running(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RABBITMQ_URL", NOBODY)
    done = command("demo", "--once")
    assert done.returncode == 0, done.stderr
    assert re.search(r"│ days asked +│ 30 ", done.stdout)
    assert "the last days" in done.stdout
    assert "net amount per day" in done.stdout
    assert "█" in done.stdout
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
        r"^services: (http://127\.0\.0\.1:\d+)/docs; what was sent: (http://127\.0\.0\.1:\d+/_messages)$",
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


_SENSORS = """{ sensorsOrError(repositorySelector: {repositoryName: "__repository__", repositoryLocationName:
    "sales_assets"}) { ... on Sensors { results { name sensorState { status } } } } }"""


@pytest.mark.broker
def test_the_services_take_another_port_where_theirs_is_taken(
    warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_broker()
    monkeypatch.setenv("RABBITMQ_URL", BROKER_URL)
    monkeypatch.setattr(demo_services, "PORT", free_port())
    settings_module.settings.cache_clear()
    home = settings_module.settings().sales_home
    home.mkdir()
    with demo_services.services_running(Progress()) as first, demo_services.services_running(Progress()) as second:
        assert first.url == f"http://127.0.0.1:{demo_services.PORT}"
        assert (first.on_wanted_port, second.on_wanted_port) == (True, False)
        for services in (first, second):
            assert requests.get(f"{services.url}/health", timeout=10).json() == {"status": "ok"}
    nothing_is_left_at_the_broker(home)


@pytest.mark.broker
def test_the_demo_that_is_told_to_end_while_it_mails_ends_with_all_that_it_started(
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


@pytest.mark.broker
def test_celery_ends_by_itself_when_the_demo_is_killed_and_is_missed_when_it_ends(
    warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_broker()
    monkeypatch.setenv("RABBITMQ_URL", BROKER_URL)
    settings_module.settings.cache_clear()
    settings_module.settings().sales_home.mkdir()
    with (
        own_names() as broker,
        api_running(warehouse_url) as api,
        celery_running(broker, sender_url="http://127.0.0.1:9", sender_token="t") as (beat, worker),
    ):
        until(lambda: "the worker is ready" in worker.log.read_text() and beat.log.stat().st_size, seconds=90)
        for queue in mailings_queues(broker):
            at_broker(broker, partial(_declare_fleeting, queue))
        for one in (worker, beat):
            assert one.why_ended is None
            assert one.process.stdin is not None
            one.process.stdin.close()  # which the kernel does for whoever is killed
            one.process.wait(30)
        with pytest.raises(LoadError, match=r"the mailings' worker ended with -?\d+; .*/worker\.log says why"):
            when_finished(demo_services.Services(api.url, SenderApi(), "", [worker]), create_mailing(api.url))
    nothing_has_the_name_of(broker)


def test_a_missing_broker_is_told_in_a_line_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RABBITMQ_URL", NOBODY)
    settings_module.settings.cache_clear()
    assert demo_services.why_no_broker() == NO_BROKER


@pytest.mark.broker
def test_a_broker_that_answers_is_not_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    need_broker()
    monkeypatch.setenv("RABBITMQ_URL", BROKER_URL)
    settings_module.settings.cache_clear()
    assert demo_services.why_no_broker() is None


def test_dev_ends_what_it_has_started_before_it_is_ready(command: Command) -> None:
    dev = command.start("dev", "--port", str(free_port()))
    command.wait_until(
        lambda: any("dagster dev" in line for line in command.processes().values()), "dagster dev is started"
    )
    dev.send_signal(signal.SIGTERM)
    _, errors = dev.communicate(timeout=90)
    assert "Traceback" not in errors
    no_process_is_left(command)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_further_signals_do_not_break_off_the_cleaning_up(number: signal.Signals) -> None:
    process = subprocess.Popen([sys.executable, "-c", _CLEANING_UP], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    assert out == "cleaned up\n"


def test_a_taken_port_ends_dev_with_the_server_that_it_started(command: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = command("dev", "--port", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"error: port {port} is taken: choose another with --port" in done.stderr
    no_process_is_left(command)


def test_a_folder_for_temporary_files_that_is_too_long_for_sockets_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with (
        pytest.raises(UiError, match=r"^TMPDIR is too long for Dagster's sockets .* at most 91 bytes$"),
        ui_running(free_port(), tmp_path),
    ):
        pass


def test_the_demo_keeps_away_from_a_home_that_it_did_not_make() -> None:
    home = settings_module.settings().sales_home
    (home / "postgres" / "data").mkdir(parents=True)
    with (
        pytest.raises(SettingsError, match="holds a warehouse that the demo did not make"),
        demo_loaded(Progress(), once=True),
    ):
        pytest.fail("it was started")
    assert not (home / "DEMO").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WAREHOUSE_URL", "postgresql://h/d"),
        ("DAGSTER_STORAGE_URL", "postgresql://h/d"),
        ("RAW_FILES_URL", "memory://elsewhere"),
    ],
)
def test_the_demo_keeps_away_from_what_lies_outside_its_home(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    settings_module.settings.cache_clear()
    with (
        pytest.raises(SettingsError, match=f"{name} is set: the demo keeps all it makes in SALES_HOME"),
        demo_loaded(Progress(), once=True),
    ):
        pytest.fail("it was started")
    assert not settings_module.settings().sales_home.exists()
