"""Concurrent loads, and PostgreSQL killed during a load or a migration: clear failures that the next run repairs."""

import datetime as dt
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from sales_assets.defs.automation.new_increments import new_increments
from sales_assets.postgres import migrations
from sales_assets.postgres.embedded import EmbeddedPostgres
from sales_assets.postgres.queries import statements
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.resources.report_api import ReportApi as ReportApiResource
from sales_assets.settings import settings
from sales_assets.simulators.report_api.app import ReportApi
from sales_assets_tests.builders import Order, ReportFolderBuilder, job
from sales_assets_tests.faults.subprocess_targets import (
    KillScenario,
    TargetProcess,
    contents,
    load_undisturbed,
    unequal_to_staging,
)
from sales_assets_tests.fixtures import Shop

DAYS = ("2024-10-01", "2024-10-02")


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """Yield a running embedded server in a SALES_HOME of this test only."""
    server = EmbeddedPostgres(tmp_path / "home" / "postgres")
    server.ensure_running()
    yield server
    server.stop()


def kill(server: EmbeddedPostgres) -> None:
    os.kill(int((server.data / "postmaster.pid").read_text().splitlines()[0]), signal.SIGKILL)


def wait_for_waiter(url: str, *, seconds: float = 60) -> None:
    """Wait until a session waits for an advisory lock."""
    _wait_for(url, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted", seconds)


def wait_for_waiters(url: str, *, count: int, seconds: float = 60) -> None:
    """Wait until a number of sessions are blocked by locks of any kind."""
    _wait_for(url, f"SELECT 1 FROM pg_locks WHERE NOT granted HAVING count(*) >= {count}", seconds)


def _wait_for(url: str, statement: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    with psycopg.connect(url, autocommit=True) as connection:
        while not connection.execute(statement.encode()).fetchone():
            assert time.monotonic() < deadline, "nobody came"
            time.sleep(0.02)


def test_postgresql_killed_during_a_load_changes_nothing(
    own_server: EmbeddedPostgres, reports: ReportFolderBuilder, report_api: ReportApi
) -> None:
    reports.report([Order("r", day="2024-09-30")])
    for day in DAYS:
        reports.increment(day, [Order(day, day=day)])
    load_undisturbed(os.environ, DAYS)
    url = own_server.url("sales")
    before = contents(url)
    reports.increment(DAYS[1], [Order("new", day=DAYS[1])])
    with psycopg.connect(url, autocommit=True) as holder, TargetProcess(os.environ, days=DAYS) as target_process:
        holder.execute(statements("locks")["everything"])
        wait_for_waiter(url)
        kill(own_server)
        assert target_process.finish()
    assert target_process.failures
    # The message depends on whether the load was in a statement or about to open its next connection.
    messages = ("server closed the connection", "terminating connection", "Connection refused")
    assert any(words in target_process.failures[0] for words in messages)
    own_server.ensure_running()
    assert contents(url) == before
    load_undisturbed(os.environ, DAYS)
    assert [row[0] for rows in contents(url).values() for row in rows] == [DAYS[0], "new"]


def test_postgresql_killed_during_a_migration_rolls_the_revision_back(own_server: EmbeddedPostgres) -> None:
    url = own_server.url("sales")
    migrations.migrate(url, "0003")
    messages: list[str] = []

    def migrate() -> None:
        try:
            migrations.migrate(url)
        except (migrations.MigrationError, psycopg.OperationalError) as error:
            messages.append(str(error))

    # The table that the next revision alters is locked, so the server is killed during that revision.
    holder = psycopg.connect(url)
    holder.execute("LOCK TABLE mart.f_sales IN ACCESS SHARE MODE")
    thread = threading.Thread(target=migrate)
    thread.start()
    deadline = time.monotonic() + 30
    with psycopg.connect(url, autocommit=True) as connection:
        while not connection.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone():
            assert time.monotonic() < deadline, "the migration did not come to the table"
            time.sleep(0.02)
    kill(own_server)
    thread.join(60)
    holder.close()
    assert messages
    own_server.ensure_running()
    assert migrations.current_revision(url) == "0003"
    assert migrations.migrate(url)[1] == migrations.latest_revision()


def test_concurrent_loads_in_several_processes_produce_the_mart_of_one_load(scenario: KillScenario) -> None:
    """Two loads have the same range, one overlaps it: no deadlocks, no duplicate rows."""
    ranges = [("2024-10-01", "2024-10-30"), ("2024-10-01", "2024-10-30"), ("2024-10-05", "2024-10-20")]
    with scenario.copy() as database, ExitStack() as stack:
        target_processes = [
            stack.enter_context(TargetProcess(scenario.environment(database), days=days)) for days in ranges
        ]
        for target_process in target_processes:
            assert target_process.finish()
            assert target_process.failures == []
        url = scenario.server.url(database)
        assert contents(url) == scenario.new
        assert unequal_to_staging(url) == []


def test_two_concurrent_loads_of_a_day_write_it_once(shop: Shop) -> None:
    """Both loads are blocked just before they write the day, so neither of them has seen the day staged."""
    day = DAYS[0]
    shop.reports.increment(day, [Order("a", day=day), Order("b", day=day)])
    shop.fetch_report()
    url = settings().warehouse_url.get_secret_value()  # type: ignore[union-attr]
    with (
        psycopg.connect(url) as holder,
        TargetProcess(os.environ, days=(day, day)) as one,
        TargetProcess(os.environ, days=(day, day)) as other,
    ):
        holder.execute("LOCK TABLE staging.user_orders_log IN SHARE MODE")
        wait_for_waiters(url, count=2)
        holder.rollback()
        for target_process in (one, other):
            assert target_process.finish()
            assert target_process.failures == []
    assert [name for name, _ in shop.sales()] == ["a", "b"]
    assert unequal_to_staging(url) == []


def test_two_platforms_on_one_home_share_its_server(
    reports: ReportFolderBuilder, report_api: ReportApi, tmp_path: Path, make_stopped: Callable[[Path], None]
) -> None:
    """Neither platform finds a running server; one of them starts it, and both load."""
    home = tmp_path / "home"
    make_stopped(home)
    reports.report([Order("r", day="2024-09-30")])
    for day in DAYS:
        reports.increment(day, [Order(day, day=day)])
    with TargetProcess(os.environ, days=DAYS) as one, TargetProcess(os.environ, days=DAYS) as other:
        for target_process in (one, other):
            assert target_process.finish()
            assert target_process.failures == []
    found = contents(EmbeddedPostgres(home / "postgres").url("sales"))
    assert [row[0] for rows in found.values() for row in rows] == list(DAYS)


def test_a_backfill_next_to_the_sensor_produces_the_mart_of_one_load(shop: Shop, today: dt.date) -> None:
    """Backfill and sensor write the same week concurrently; once all is loaded, the sensor requests nothing."""
    url = settings().warehouse_url.get_secret_value()  # type: ignore[union-attr]
    days = [(today - dt.timedelta(days=age)).isoformat() for age in range(7, 0, -1)]
    for day in days:
        shop.reports.increment(day, [Order(f"{day} {n}", day=day) for n in range(20)])
    shop.fetch_report()
    loaded = []

    def let_both_write(holder: psycopg.Connection) -> None:
        try:
            wait_for_waiters(url, count=2)
        finally:
            holder.rollback()

    with (
        psycopg.connect(url) as holder,
        ThreadPoolExecutor(1) as pool,
        TargetProcess(os.environ, days=(days[0], days[-1])) as backfill,
    ):
        holder.execute("LOCK TABLE staging.user_orders_log IN SHARE MODE")
        meeting = pool.submit(let_both_write, holder)
        for _ in range(10):
            tick = new_increments(
                dg.build_sensor_context(instance=shop.instance), warehouse=Warehouse(), report_api=ReportApiResource()
            )
            assert isinstance(tick, dg.SensorResult)
            run_requests = list(tick.run_requests or [])
            for request in run_requests:
                run = job("load_days").execute_in_process(
                    instance=shop.instance, partition_key=request.partition_key, tags=dict(request.tags)
                )
                assert run.success
                loaded.append(request.partition_key)
            if not run_requests:
                break
        assert backfill.finish()
        meeting.result()
    assert backfill.failures == []
    assert run_requests == []
    assert loaded
    assert [name for name, _ in shop.sales()] == sorted(f"{day} {n}" for day in days for n in range(20))
    assert unequal_to_staging(url) == []


@pytest.fixture
def make_stopped() -> Iterator[Callable[[Path], None]]:
    """Yield a function that registers a home, and stop the servers of registered homes after the test."""
    homes: list[Path] = []
    yield homes.append
    for home in homes:
        EmbeddedPostgres(home / "postgres").stop()
