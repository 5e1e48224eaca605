"""`sales-assets doctor`: its findings on a healthy platform and on one with problems."""

import ast
import datetime as dt
import json
import os
import re
import secrets
import subprocess
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from sales_assets.cli import doctor
from sales_assets.cli.doctor import Finding, next_step
from sales_assets.dagster_internals import DATA_VERSION_TAG
from sales_assets.defs.lake.f_sales import EQUAL_TO_MART, LAKE_F_SALES
from sales_assets.deploy.instance import write_configuration
from sales_assets.deploy.storage import open_as_dagster
from sales_assets.postgres.database import embedded
from sales_assets.postgres.queries import statements
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.resources.lake import Lake
from sales_assets.schemas.pseudonyms import Pseudonyms
from sales_assets.schemas.report_files import USER_ORDERS_LOG
from sales_assets.services.http.server import running
from sales_assets.settings import settings
from sales_assets.simulators.partner_api import PartnerApi
from sales_assets_tests.builders import ORDER_COLUMNS, Order
from sales_assets_tests.cli.conftest import Run
from sales_assets_tests.fixtures import F_SALES, Shop
from sales_assets_tests.lake.conftest import files_of, use_lake
from sales_assets_tests.services.partner_orders.fixtures import BROKER_URL, need_broker

DAY = "2024-10-01"
PHONE = "79997772211"


def test_doctor_reports_a_healthy_platform(run_with_warehouse: Run, shop: Shop, today: dt.date) -> None:
    yesterday = str(today - dt.timedelta(days=1))
    shop.reports.increment(yesterday, [Order("a", day=yesterday)])
    shop.load(yesterday)
    done = run_with_warehouse("doctor")
    assert done.returncode == 0, done.stdout
    assert "!!" not in done.stdout
    assert f"ok days: loaded up to {yesterday}\n" in done.stdout
    assert "ok quarantine: empty\n" in done.stdout
    assert "ok raw files: the only file read and verified\n" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("next step: `sales-assets dev` runs the UI and the daemon")
    assert done.stderr == ""


def test_doctor_compares_the_secret_of_erased_phones(
    run_with_warehouse: Run, query: Callable[..., list[tuple[object, ...]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def erased_phones(secret: str) -> list[str]:
        monkeypatch.setenv("SALES_ERASURE_SECRET", secret)
        done = run_with_warehouse("doctor")
        assert PHONE[1:] not in done.stdout
        return [line for line in done.stdout.splitlines() if line[3:].startswith("erased phones: ")]

    former, other = "the key of the tests' pseudonyms", "another key of the tests"
    assert erased_phones("") == erased_phones(former) == []
    known = Pseudonyms(former)
    query("INSERT INTO mailings.erased_phone VALUES (%s, %s)", *known.of([PHONE]), known.key_id)
    assert erased_phones(former) == ["ok erased phones: 1 are recognized by SALES_ERASURE_SECRET"]
    (missing,), (wrong,) = erased_phones(""), erased_phones(other)
    assert missing.startswith(
        "!! erased phones: SALES_ERASURE_SECRET is not set here, and phones were erased under one"
    )
    assert wrong.startswith("!! erased phones: phones were erased under another SALES_ERASURE_SECRET")
    assert former not in wrong
    assert other not in wrong


def test_doctor_reports_problems(run_with_warehouse: Run, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.reports.increment("2024-10-01", [Order("a"), "1,2"])
    shop.reports.increment("2024-10-02", None, user_orders_log="no header\n")
    shop.load("2024-10-01")
    shop.fail_to_load("2024-10-02")
    monkeypatch.setenv("REPORT_API_KEY", "")
    monkeypatch.setenv("REPORT_API_URL", "http://u:hush@127.0.0.1:1/x?y=hush")
    monkeypatch.setenv("RAW_FILES_URL", "nonsense://place")
    done = run_with_warehouse("doctor")
    assert done.returncode == 1
    problems = [line.removeprefix("!! ") for line in done.stdout.splitlines() if line.startswith("!! ")]
    assert [line.partition(":")[0] for line in problems] == [
        "raw files",
        "report API",
        "report API",
        "days",
        "days",
        "quarantine",
    ]
    assert problems[1] == "report API: http://127.0.0.1:1/x does not answer (ConnectionError)"
    assert problems[2] == "report API: REPORT_API_KEY is not set"
    assert problems[3].startswith("days: loaded up to 2024-10-02, ")
    no_header = f"there is no header: found '?', expected {USER_ORDERS_LOG.expected_header}"
    assert problems[4:] == [
        f"days: 2024-10-02: user_orders_log of the increment: {no_header}",
        "quarantine: 1 lines wait (`sales-assets quarantine list`)",
    ]
    assert done.stdout.splitlines()[-1].startswith(
        "next step: set RAW_FILES_URL (or SALES_HOME) to a writable location"
    )
    assert done.stderr == "", "a library has printed something"
    assert "hush" not in done.stdout + done.stderr


@pytest.mark.usefixtures("report_api")
def test_doctor_reports_a_refused_key(run_with_warehouse: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPORT_API_KEY", "a wrong key")
    done = run_with_warehouse("doctor")
    assert done.returncode == 1
    assert "!! report API: GET /get_report: access refused (403): check REPORT_API_KEY\n" in done.stdout
    assert done.stdout.splitlines()[-1] == "next step: correct REPORT_API_KEY in the environment or .env"
    assert "a wrong key" not in done.stdout + done.stderr


def test_doctor_names_the_setting_of_an_unreachable_warehouse(
    run_with_warehouse: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAREHOUSE_URL", "postgresql://loader:hush@127.0.0.1:1/sales")
    done = run_with_warehouse("doctor")
    assert done.stdout.splitlines()[-1] == (
        "next step: correct WAREHOUSE_URL in the environment or .env, or start its server"
    )
    assert "hush" not in done.stdout


def test_next_step_is_the_step_of_the_first_problem() -> None:
    well = Finding("home", "/data")
    waits = Finding("daemon", "not running", step="run dev")
    problems = [Finding("days", "1 behind", good=False, step="load"), Finding("x", "y", good=False, step="other")]
    assert next_step([well, waits, *problems]) == "load"
    assert next_step([well, waits]) == "run dev"
    assert next_step([well]) == "none, all is well"
    assert next_step([Finding("a", "b", good=False)]) == "see `a` above, then run `sales-assets doctor` again"


def test_every_problem_names_a_step() -> None:
    """The only finding without a step is `... and 3 further causes`, which follows findings that have one."""
    calls = [
        call
        for call in ast.walk(ast.parse(Path(doctor.__file__).read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Finding"
    ]
    given = {ast.unparse(call): {word.arg: ast.unparse(word.value) for word in call.keywords} for call in calls}
    without = [text for text, words in given.items() if words.get("good", "True") != "True" and "step" not in words]
    assert len(without) == 1
    assert "further causes" in without[0]


def test_doctor_reads_the_raw_files_from_this_machine(
    run_with_warehouse: Run, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First the newest file is damaged; then RAW_FILES_URL is a folder that does not contain the files."""
    monkeypatch.setenv("RAW_FILES_URL", str(tmp_path / "raw"))
    settings.cache_clear()
    shop.reports.report([Order("r", day="2024-09-30")])
    shop.reports.increment(DAY, [Order("a")])
    shop.load(DAY)
    ((newest,),) = shop.query("SELECT path FROM raw.fetch ORDER BY fetch_id DESC LIMIT 1")
    (tmp_path / "raw" / newest).write_text("tampered")
    done = run_with_warehouse("doctor")
    assert f"!! raw files: {newest}: the raw file was changed or truncated since it was fetched" in done.stdout
    assert "read and verified" not in done.stdout

    monkeypatch.setenv("RAW_FILES_URL", str(tmp_path / "another"))
    done = run_with_warehouse("doctor")
    assert done.returncode == 1
    lines = [line for line in done.stdout.splitlines() if line.startswith("!! raw files: ")]
    assert len(lines) == 2
    assert lines[0] == (
        f"!! raw files: {newest}: can't be read from {tmp_path}/another: No such file or directory; RAW_FILES_URL is"
        " a folder here, so files that other machines have fetched are not seen"
    )


def pending_days(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return doctor's findings about days, except how far the loads are behind."""
    lines = [line for line in done.stdout.splitlines() if line[3:].startswith("days: ")]
    return [line.removeprefix("!! days: ") for line in lines if "days: loaded up to" not in line]


def test_doctor_reports_each_cause_once(run_with_warehouse: Run, shop: Shop) -> None:
    """An unreadable report that affects thirty days is one finding, which excludes a day loaded from an increment."""
    orders = "date_time,city_id\n2024-09-01,1\n2024-09-30,1\n"
    shop.reports.report(None, user_orders_log=orders, user_activity_log="uid,when\n")
    shop.reports.increment("2024-09-10", [Order("b", day="2024-09-10")])
    shop.fail_to_load("2024-09-01", "2024-09-30")
    found = pending_days(run_with_warehouse("doctor"))
    assert len(found) == 2
    assert re.match(r"2024-09-01 to 2024-09-30: user_activity_log of the report: .+: there is no header: ", found[0])
    assert re.match(
        r"2024-09-01 to 2024-09-09, 2024-09-11 to 2024-09-30: user_orders_log of the report: .+: the header lacks ",
        found[1],
    )


@pytest.mark.parametrize("file", ["custom_research", "user_activity_log", "price_log"])
def test_doctor_checks_the_other_three_files(run_with_warehouse: Run, shop: Shop, file: str) -> None:
    shop.reports.report([Order("r", day="2024-09-30")])
    shop.reports.increment(DAY, [Order("a", day=DAY)])
    (shop.reports.folder / "inc" / DAY / f"{file}_inc.csv").write_text(f"{ORDER_COLUMNS}\n", encoding="utf-8")
    shop.fail_to_load(DAY)
    (finding,) = pending_days(run_with_warehouse("doctor"))
    assert finding.startswith(f"{DAY}: {file} of the increment: this looks like user_orders_log: found 'id,uniq_id,")


def test_doctor_reports_a_day_that_was_fetched_but_never_parsed(
    run_with_warehouse: Run, shop: Shop, query: Callable[..., object]
) -> None:
    shop.reports.report([Order("r", day=DAY)])
    shop.load(DAY)  # loaded from the report: the day has no increment
    assert pending_days(run_with_warehouse("doctor")) == ["ok days: every requested day is done"]
    query("TRUNCATE staging.fetch_reading, staging.staged_day, staging.fetch_day")
    (finding,) = pending_days(run_with_warehouse("doctor"))
    assert re.match(rf"{DAY}: user_orders_log of the report: .+: it was not parsed yet", finding)


def test_doctor_reports_a_database_without_write_privileges(
    run_with_warehouse: Run, query: Callable[..., object], warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run doctor with a role that may read all tables and write none."""
    role = f"reader_{secrets.token_hex(4)}"
    query(f"CREATE ROLE {role} LOGIN IN ROLE pg_read_all_data")
    try:
        monkeypatch.setenv("WAREHOUSE_URL", warehouse_url.replace("user=sales", f"user={role}"))
        done = run_with_warehouse("doctor")
    finally:
        query(f"DROP ROLE {role}")
    assert done.returncode == 1
    assert "!! warehouse: permission denied for table delivery" in done.stdout


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql:///nowhere?host=/nowhere", "no way"),
        (None, "at revision none, needs"),
    ],
)
def test_doctor_continues_without_a_warehouse(
    run_in_process: Run,
    new_database: Callable[..., str],
    dagster_storage: str,
    monkeypatch: pytest.MonkeyPatch,
    url: str | None,
    expected: str,
) -> None:
    monkeypatch.setattr("sales_assets.postgres.connection._RESTART_SECONDS", 0.2)
    monkeypatch.setenv("WAREHOUSE_URL", url or new_database("template1"))
    monkeypatch.setenv("DAGSTER_STORAGE_URL", dagster_storage)
    done = run_in_process("doctor")
    assert done.returncode == 1
    assert "!! warehouse: " in done.stdout
    if url is None:
        assert expected in done.stdout
    assert "ok Dagster storage: database dagster_of_commands" in done.stdout
    assert "!! report API: " in done.stdout


@pytest.mark.external
def test_doctor_creates_no_warehouse(run_in_process: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo would refuse a home with a warehouse that it did not create."""
    monkeypatch.delenv("WAREHOUSE_URL", raising=False)
    done = run_in_process("doctor")
    assert findings(done, "warehouse") == ["!! warehouse: embedded, not created yet"]
    assert findings(done, "Dagster storage") == ["   Dagster storage: embedded, not created yet"]
    assert "next step: run `sales-assets migrate`" in done.stdout
    assert not embedded().data.exists()


def test_doctor_reports_broker_partner_and_outbox(
    run_with_warehouse: Run, query: Callable[..., list[tuple[object, ...]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RABBITMQ_URL", "amqp://guest:hush@127.0.0.1:9//hush")
    lines = run_with_warehouse("doctor").stdout.splitlines()
    # Without a configured partner, a missing broker is not an error.
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
    done = run_with_warehouse("doctor")
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
def test_doctor_finds_broker_and_partner(run_with_warehouse: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    need_broker()
    monkeypatch.setenv("RABBITMQ_URL", BROKER_URL)
    with running(PartnerApi()) as url:
        monkeypatch.setenv("PARTNERAPI_URL", url)
        lines = run_with_warehouse("doctor").stdout.splitlines()
    assert f"ok partner API: {url.removeprefix('http://')} answers" in lines
    assert any(line.startswith("ok broker: RabbitMQ at ") for line in lines)


def findings(done: subprocess.CompletedProcess[str], subject: str) -> list[str]:
    """Return doctor's findings on a subject, with their marks."""
    return [line for line in done.stdout.splitlines() if line[3:].startswith(f"{subject}: ")]


def test_doctor_explains_dagster_yaml_and_the_daemon(
    run_with_warehouse: Run, dagster_storage: str, new_database: Callable[..., str]
) -> None:
    """Operator changes of dagster.yaml are accepted; another storage or another SALES_HOME is an error."""
    home = Path(os.environ["SALES_HOME"]) / "dagster"
    file = home / "dagster.yaml"
    assert findings(run_with_warehouse("doctor"), "dagster.yaml") == [
        f"ok dagster.yaml: {file} is written by the next command that needs Dagster"
    ]
    run_with_warehouse("env")
    text = file.read_text(encoding="utf-8")
    done = run_with_warehouse("doctor")
    assert findings(done, "dagster.yaml") == [f"ok dagster.yaml: {file} equals the template one-machine"]
    (finding,) = findings(done, "daemon")
    assert finding.startswith("   daemon: not running: queued runs, schedules and sensors wait")

    file.write_text(text.replace("max_concurrent_runs: 2", "max_concurrent_runs: 8"), encoding="utf-8")
    (finding,) = findings(run_with_warehouse("doctor"), "dagster.yaml")
    assert finding == (
        f"ok dagster.yaml: {file} contains your changes; nearest template one-machine, differences: "
        "run_coordinator.config.max_concurrent_runs is 8 instead of 2"
    )
    file.write_text(text.replace(str(home.parent), "/elsewhere"), encoding="utf-8")
    (finding,) = findings(run_with_warehouse("doctor"), "dagster.yaml")
    assert finding.startswith("!! dagster.yaml: DAGSTER_HOME/dagster.yaml was written for SALES_HOME=/elsewhere, but ")

    for url, mark in ((dagster_storage, "ok"), (new_database("template1"), "!!")):
        storage = {"postgres": {"postgres_url": f"{url}&application_name=hush"}}
        file.write_text(json.dumps({"storage": storage}), encoding="utf-8")
        done = run_with_warehouse("doctor")
        (finding,) = findings(done, "dagster.yaml")
        assert finding.startswith(f"{mark} dagster.yaml: ")
        assert ("configures another storage database than the settings" in finding) == (mark == "!!")
        assert "hush" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("is_held", "age", "expected"),
    [
        (True, 5, r"ok daemon: a-host 17 is active, last heartbeat \d+ s ago; 0 stand by$"),
        (False, 5, r"   daemon: last heartbeat \d+ s ago, but no daemon holds the lock: "),
        (False, 500, "   daemon: not running: "),
    ],
)
def test_doctor_shows_the_daemon(
    run_with_warehouse: Run, dagster_storage: str, is_held: bool, age: int, expected: str
) -> None:
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
            (found,) = findings(run_with_warehouse("doctor"), "daemon")
        finally:
            daemon.execute("DELETE FROM daemon_heartbeats")
    assert re.match(expected, found), found


@pytest.fixture
def lake(
    warehouse_url: str, new_database: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Lake:
    """A lake in a folder, and a separate Dagster storage without events of other tests."""
    monkeypatch.setenv("DAGSTER_STORAGE_URL", new_database("template1"))
    use_lake(monkeypatch, str(tmp_path / "lake"))
    return Lake(Warehouse())


def lake_only(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stdout.splitlines() if line[3:].startswith("lake: ")]


def test_doctor_does_not_mention_an_unconfigured_lake(run_with_warehouse: Run) -> None:
    assert lake_only(run_with_warehouse("doctor")) == []


def test_doctor_reports_on_the_lake(run_in_process: Run, lake: Lake, shop: Shop, tmp_path: Path) -> None:
    place = f"file://{tmp_path}/lake"
    (first,) = lake_only(run_in_process("doctor"))
    assert first == f"ok lake: {place} can be read and written, lake.f_sales: empty"
    assert files_of(tmp_path / "lake") == set()  # doctor creates no file

    shop.reports.increment(DAY, [Order("a")])
    shop.load(DAY)
    for _ in lake.replace_days([dt.date.fromisoformat(DAY)], "test"):
        pass
    home = write_configuration()
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization(F_SALES, partition=DAY))
    healthy, waiting = lake_only(run_in_process("doctor"))
    assert re.fullmatch(rf"ok lake: {place} can be .*, lake.f_sales: 1 rows, last commit \d{{4}}-.*", healthy)
    assert re.match(rf"   lake: {DAY} were loaded since \d{{4}}-.* and are not copied yet; the sensor changed", waiting)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doctor, "_LONGEST_LAKE_DELAY", dt.timedelta())
        done = run_in_process("doctor")
    assert done.returncode == 1
    assert lake_only(done)[1].startswith(f"!! lake: {DAY} were loaded since ")

    with dg.DagsterInstance.from_config(str(home)) as instance:
        copied = dg.AssetMaterialization(LAKE_F_SALES, partition=DAY, tags={DATA_VERSION_TAG: "1000000"})
        instance.report_runless_asset_event(copied)
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(asset_key=LAKE_F_SALES, check_name=EQUAL_TO_MART.name, passed=False, metadata={})
        )
    assert lake_only(run_in_process("doctor"))[1:] == [
        "ok lake: every loaded day is copied",
        "!! lake: the check equal_to_mart failed: materialize lake/f_sales for the days that it names",
    ]


def test_doctor_reports_a_lake_that_can_not_be_read_or_written(
    run_in_process: Run, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in lake.replace_days([dt.date.fromisoformat(DAY)], "test"):
        pass
    (metadata,) = (tmp_path / "lake" / "f_sales" / "metadata").glob("*.metadata.json")
    metadata.unlink()
    done = run_in_process("doctor")
    assert done.returncode == 1
    assert lake_only(done)[0].startswith(f"!! lake: the lake at file://{tmp_path}/lake: FileNotFoundError: ")

    (tmp_path / "file").touch()
    use_lake(monkeypatch, str(tmp_path / "file" / "lake"))
    assert lake_only(run_in_process("doctor"))[0].startswith(
        f"!! lake: the lake at file://{tmp_path}/file/lake: NotADirectory"
    )
