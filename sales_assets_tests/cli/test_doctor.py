"""`sales-assets doctor`: its findings on a healthy platform and on one with problems."""

import datetime as dt
import json
import os
import re
import secrets
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from sales_assets.deploy.storage import open_as_dagster
from sales_assets.postgres.queries import statements
from sales_assets.schemas.report_files import USER_ORDERS_LOG
from sales_assets.services.http.server import running
from sales_assets.settings import settings
from sales_assets.simulators.partner_api import PartnerApi
from sales_assets_tests.builders import ORDER_COLUMNS, Order
from sales_assets_tests.cli.conftest import Run
from sales_assets_tests.fixtures import Shop
from sales_assets_tests.services.partner_orders.fixtures import BROKER_URL, need_broker

YESTERDAY = str(dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1))
DAY = "2024-10-01"


def test_doctor_reports_a_healthy_platform(loading_here: Run, shop: Shop) -> None:
    shop.reports.increment(YESTERDAY, [Order("a", day=YESTERDAY)])
    shop.load(YESTERDAY)
    done = loading_here("doctor")
    assert done.returncode == 0, done.stdout
    assert "!!" not in done.stdout
    assert f"ok days: loaded up to {YESTERDAY}\n" in done.stdout
    assert "ok quarantine: empty\n" in done.stdout
    assert "ok raw files: the only file read and verified\n" in done.stdout
    assert done.stderr == ""


def test_doctor_reports_problems(loading_here: Run, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.reports.increment("2024-10-01", [Order("a"), "1,2"])
    shop.reports.increment("2024-10-02", None, user_orders_log="no header\n")
    shop.load("2024-10-01")
    shop.fail_to_load("2024-10-02")
    monkeypatch.setenv("REPORT_API_KEY", "")
    monkeypatch.setenv("REPORT_API_URL", "http://u:hush@127.0.0.1:1/x?y=hush")
    monkeypatch.setenv("RAW_FILES_URL", "nonsense://place")
    done = loading_here("doctor")
    assert done.returncode == 1
    ill = [line.removeprefix("!! ") for line in done.stdout.splitlines() if line.startswith("!! ")]
    assert [line.partition(":")[0] for line in ill] == [
        "raw files",
        "report API",
        "report API",
        "days",
        "days",
        "quarantine",
    ]
    assert ill[1] == "report API: http://127.0.0.1:1/x does not answer (ConnectionError)"
    assert ill[2] == "report API: REPORT_API_KEY is not set"
    assert ill[3].startswith("days: loaded up to 2024-10-02, ")
    no_header = f"there is no header: found 'no header', expected {USER_ORDERS_LOG.expected_header}"
    assert ill[4:] == [
        f"days: 2024-10-02: user_orders_log of the increment: {no_header}",
        "quarantine: 1 lines wait (`sales-assets quarantine list`)",
    ]
    assert "hush" not in done.stdout + done.stderr


def test_doctor_reads_the_raw_files_from_this_machine(
    loading_here: Run, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest file is damaged; then the files are where only another machine sees them."""
    monkeypatch.setenv("RAW_FILES_URL", str(tmp_path / "raw"))
    settings.cache_clear()
    shop.reports.report([Order("r", day="2024-09-30")])
    shop.reports.increment(DAY, [Order("a")])
    shop.load(DAY)
    ((newest,),) = shop.query("SELECT path FROM raw.fetch ORDER BY fetch_id DESC LIMIT 1")
    (tmp_path / "raw" / newest).write_text("tampered")
    done = loading_here("doctor")
    assert f"!! raw files: {newest}: the raw file was changed or truncated since it was fetched" in done.stdout
    assert "read and verified" not in done.stdout

    monkeypatch.setenv("RAW_FILES_URL", str(tmp_path / "another"))
    done = loading_here("doctor")
    assert done.returncode == 1
    told = [line for line in done.stdout.splitlines() if line.startswith("!! raw files: ")]
    assert len(told) == 2
    assert told[0] == (
        f"!! raw files: {newest}: can't be read from {tmp_path}/another: No such file or directory; RAW_FILES_URL is"
        " a folder here, so files that other machines have fetched are not seen"
    )


def days_that_wait(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What doctor says of days, but for how far the loads are behind."""
    lines = [line for line in done.stdout.splitlines() if line[3:].startswith("days: ")]
    return [line.removeprefix("!! days: ") for line in lines if "days: loaded up to" not in line]


def test_doctor_reports_each_cause_once(loading_here: Run, shop: Shop) -> None:
    """An unreadable report costs thirty days, and is one line; a day that an increment serves is not among them."""
    orders = "date_time,city_id\n2024-09-01,1\n2024-09-30,1\n"
    shop.reports.report(None, user_orders_log=orders, user_activity_log="uid,when\n")
    shop.reports.increment("2024-09-10", [Order("b", day="2024-09-10")])
    shop.fail_to_load("2024-09-01", "2024-09-30")
    told = days_that_wait(loading_here("doctor"))
    assert len(told) == 2
    assert re.match(r"2024-09-01 to 2024-09-30: user_activity_log of the report: .+: there is no header: ", told[0])
    assert re.match(
        r"2024-09-01 to 2024-09-09, 2024-09-11 to 2024-09-30: user_orders_log of the report: .+: the header lacks ",
        told[1],
    )


@pytest.mark.parametrize("file", ["custom_research", "user_activity_log", "price_log"])
def test_doctor_covers_the_other_three_files(loading_here: Run, shop: Shop, file: str) -> None:
    shop.reports.report([Order("r", day="2024-09-30")])
    shop.reports.increment(DAY, [Order("a", day=DAY)])
    (shop.reports.folder / "inc" / DAY / f"{file}_inc.csv").write_text(f"{ORDER_COLUMNS}\n", encoding="utf-8")
    shop.fail_to_load(DAY)
    (told,) = days_that_wait(loading_here("doctor"))
    assert told.startswith(f"{DAY}: {file} of the increment: this looks like user_orders_log: found 'id,uniq_id,")


def test_doctor_sees_a_day_that_was_fetched_and_never_parsed(
    loading_here: Run, shop: Shop, query: Callable[..., object]
) -> None:
    shop.reports.report([Order("r", day=DAY)])
    shop.load(DAY)  # from the report: the day has no increment
    assert days_that_wait(loading_here("doctor")) == ["ok days: every requested day is done"]
    query("TRUNCATE staging.fetch_reading, staging.staged_day, staging.fetch_day")
    (told,) = days_that_wait(loading_here("doctor"))
    assert re.match(rf"{DAY}: user_orders_log of the report: .+: it was not parsed yet", told)


def test_doctor_names_a_database_that_accepts_no_writes(
    loading_here: Run, query: Callable[..., object], warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A role that may read everything and write nothing."""
    role = f"reader_{secrets.token_hex(4)}"
    query(f"CREATE ROLE {role} LOGIN IN ROLE pg_read_all_data")
    try:
        monkeypatch.setenv("WAREHOUSE_URL", warehouse_url.replace("user=sales", f"user={role}"))
        done = loading_here("doctor")
    finally:
        query(f"DROP ROLE {role}")
    assert done.returncode == 1
    assert "!! warehouse: permission denied for table delivery" in done.stdout


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql:///nowhere?host=/nowhere", "no way"),
        (None, "at revision none, needs"),
    ],
)
def test_doctor_continues_without_a_warehouse(
    here: Run,
    new_database: Callable[..., str],
    dagster_storage: str,
    monkeypatch: pytest.MonkeyPatch,
    url: str | None,
    told: str,
) -> None:
    monkeypatch.setattr("sales_assets.postgres.connection._RESTART_SECONDS", 0.2)
    monkeypatch.setenv("WAREHOUSE_URL", url or new_database("template1"))
    monkeypatch.setenv("DAGSTER_STORAGE_URL", dagster_storage)
    done = here("doctor")
    assert done.returncode == 1
    assert "!! warehouse: " in done.stdout
    if url is None:
        assert told in done.stdout
    assert "ok Dagster storage: database dagster_of_commands" in done.stdout
    assert "!! report API: " in done.stdout


def test_doctor_reports_broker_partner_and_outbox(
    loading_here: Run, query: Callable[..., list[tuple[object, ...]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RABBITMQ_URL", "amqp://guest:hush@127.0.0.1:9//hush")
    lines = loading_here("doctor").stdout.splitlines()
    # Who takes no orders needs nothing of it.
    assert "   partner API: PARTNERAPI_URL is not set, no orders are accepted" in lines
    assert "   broker: no RabbitMQ at 127.0.0.1:9 (AMQPConnectionError); orders and mailings need it" in lines
    assert {"ok outbox: empty", "ok orders: all mapped"} <= {*lines}

    monkeypatch.setenv("PARTNERAPI_URL", "http://u:hush@127.0.0.1:9/x?y=hush")
    query(
        """INSERT INTO orders.partner_order (order_id, body_hash, order_date, order_type, their_pharmacy_id, phone,
               lines, state, their_order_id, next_check_at)
           VALUES (1, '', now(), 1, '', '', '[]', 'accepted', '777', NULL), (2, '', now(), 1, '', '', '[]', 'unknown',
               NULL, now())"""
    )
    query(
        """INSERT INTO orders.outbox (message_id, order_id, kind, project_id, kodpost, dated_at, created_at)
           VALUES ('8-1-accepted', 1, 'accepted', 8, 1, now(), now() - interval '90 seconds')"""
    )
    query("INSERT INTO staging.partner_order_quarantine VALUES ('8-1-accepted', 1, 'shipped', 20240620, 'no mapping')")
    done = loading_here("doctor")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert {
        "!! partner API: 127.0.0.1:9 does not answer (ConnectionError)",
        "!! broker: no RabbitMQ at 127.0.0.1:9 (AMQPConnectionError)",
        "!! orders: 1 lines wait for a mapping (`sales-assets orders waiting`)",
        "   orders: 1 orders with unknown outcome at the partner are being looked up",
    } <= {*lines}
    assert [line[:46] for line in lines if "outbox" in line] == ["!! outbox: 1 events wait for the broker, the o"]
    assert "hush" not in done.stdout + done.stderr


@pytest.mark.broker
def test_doctor_finds_broker_and_partner(loading_here: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    need_broker()
    monkeypatch.setenv("RABBITMQ_URL", BROKER_URL)
    with running(PartnerApi()) as url:
        monkeypatch.setenv("PARTNERAPI_URL", url)
        lines = loading_here("doctor").stdout.splitlines()
    assert f"ok partner API: {url.removeprefix('http://')} answers" in lines
    assert any(line.startswith("ok broker: RabbitMQ at ") for line in lines)


def findings(done: subprocess.CompletedProcess[str], subject: str) -> list[str]:
    """What doctor says of a subject, with its mark."""
    return [line for line in done.stdout.splitlines() if line[3:].startswith(f"{subject}: ")]


def test_doctor_explains_dagster_yaml_and_the_daemon(
    loading_here: Run, dagster_storage: str, new_database: Callable[..., str]
) -> None:
    """The file is the operator's: a change of it is no fault, another storage or another platform's file is one."""
    home = Path(os.environ["SALES_HOME"]) / "dagster"
    file = home / "dagster.yaml"
    assert findings(loading_here("doctor"), "dagster.yaml") == [
        f"ok dagster.yaml: {file} is written by the next command that needs Dagster"
    ]
    loading_here("env")
    text = file.read_text(encoding="utf-8")
    done = loading_here("doctor")
    assert findings(done, "dagster.yaml") == [f"ok dagster.yaml: {file} equals the template one-machine"]
    (told,) = findings(done, "daemon")
    assert told.startswith("   daemon: none works, so queued runs, schedules and sensors wait")

    file.write_text(text.replace("max_concurrent_runs: 2", "max_concurrent_runs: 8"), encoding="utf-8")
    (told,) = findings(loading_here("doctor"), "dagster.yaml")
    assert told == (
        f"ok dagster.yaml: {file} is kept as you changed it; nearest template one-machine, differences: "
        "run_coordinator.config.max_concurrent_runs is 8 instead of 2"
    )
    file.write_text(text.replace(str(home.parent), "/elsewhere"), encoding="utf-8")
    (told,) = findings(loading_here("doctor"), "dagster.yaml")
    assert told.startswith("!! dagster.yaml: DAGSTER_HOME/dagster.yaml was written for SALES_HOME=/elsewhere, but ")

    for url, mark in ((dagster_storage, "ok"), (new_database("template1"), "!!")):
        storage = {"postgres": {"postgres_url": f"{url}&application_name=hush"}}
        file.write_text(json.dumps({"storage": storage}), encoding="utf-8")
        done = loading_here("doctor")
        (told,) = findings(done, "dagster.yaml")
        assert told.startswith(f"{mark} dagster.yaml: ")
        assert ("is another database than that of the settings" in told) == (mark == "!!")
        assert "hush" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("is_held", "age", "told"),
    [
        (True, 5, r"ok daemon: a-host 17 works, last heartbeat \d+ s ago; 0 stand by$"),
        (False, 5, r"   daemon: last heartbeat \d+ s ago, but none has the lock: "),
        (False, 500, "   daemon: none works, so "),
    ],
)
def test_doctor_shows_the_daemon(loading_here: Run, dagster_storage: str, is_held: bool, age: int, told: str) -> None:
    open_as_dagster(dagster_storage)
    beat = {
        "__class__": "DaemonHeartbeat",
        "timestamp": dt.datetime.now(dt.UTC).timestamp() - age,
        "daemon_type": "SENSOR",
        "daemon_id": "an-id",
        "errors": [],
    }
    with psycopg.connect(dagster_storage, autocommit=True, application_name="sales_assets daemon a-host 17") as daemon:
        daemon.execute(
            "INSERT INTO daemon_heartbeats (daemon_type, daemon_id, timestamp, body) VALUES (%s, %s, now(), %s)",
            [beat["daemon_type"], beat["daemon_id"], json.dumps(beat)],
        )
        try:
            if is_held:
                daemon.execute(statements("dagster/daemon_lock")["acquire"], {"schema": "public"})
            else:
                daemon.execute("SET application_name = 'something else'")
            (found,) = findings(loading_here("doctor"), "daemon")
        finally:
            daemon.execute("DELETE FROM daemon_heartbeats")
    assert re.match(told, found), found
