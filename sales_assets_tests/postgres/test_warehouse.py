"""The warehouse: schema revision, wrong addresses, restarts, locks, and Dagster's database next to the warehouse."""

import contextlib
import random
import re
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.json import Jsonb

from sales_assets import settings as settings_module
from sales_assets.postgres import connection as connection_module
from sales_assets.postgres import migrations
from sales_assets.postgres.connection import connect
from sales_assets.postgres.embedded import EmbeddedPostgres
from sales_assets.postgres.queries import sql_folder
from sales_assets.postgres.warehouse import (
    DayLock,
    Transaction,
    Warehouse,
    WarehouseError,
    Writer,
    dagster_storage_url,
)
from sales_assets_tests.services.partner_orders.fixtures import until

Query = Callable[..., list[tuple[object, ...]]]


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """Yield a server that the test may stop and start."""
    server = EmbeddedPostgres(tmp_path / "own")
    server.ensure_running()
    yield server
    server.stop()


def use(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("WAREHOUSE_URL", url)
    settings_module.settings.cache_clear()


def test_a_warehouse_that_is_not_migrated_is_refused_with_the_command(
    new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = new_database("template1")
    use(monkeypatch, url)
    with pytest.raises(WarehouseError, match=r"at revision none.*run `sales-assets migrate`"):
        Warehouse().rows("raw/delivery", "latest_report")
    migrations.migrate(url, "0002")
    with pytest.raises(WarehouseError, match=r"at revision 0002.*run `sales-assets migrate`"):
        Warehouse().rows("raw/delivery", "latest_report")
    migrations.migrate(url)
    assert Warehouse().rows("raw/delivery", "latest_report") == []


@pytest.mark.external
def test_an_embedded_warehouse_is_created_and_migrated_on_first_use() -> None:
    settings = settings_module.settings()
    assert settings.warehouse_url is None
    try:
        assert Warehouse().rows("raw/delivery", "latest_report") == []
    finally:
        EmbeddedPostgres(settings.sales_home / "postgres").stop()


@pytest.mark.parametrize("database", ["database", "role", "host"])
def test_a_wrong_address_fails_at_once(server: EmbeddedPostgres, database: str) -> None:
    wrong = {
        "database": server.url("no_such_database"),
        "role": server.url("sales").replace("user=sales", "user=nobody"),
        "host": "postgresql://no-such-host.invalid/sales",
    }[database]
    started = time.monotonic()
    with pytest.raises(psycopg.OperationalError, match=r"does not exist|failed to resolve"):
        connect(wrong, "test")
    assert time.monotonic() - started < connection_module._RESTART_SECONDS / 2


@pytest.mark.external
def test_connecting_to_an_unreachable_server_fails_after_a_while(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    default = connection_module._RESTART_SECONDS
    monkeypatch.setattr(connection_module, "_RESTART_SECONDS", 0.5)
    started = time.monotonic()
    with pytest.raises(psycopg.OperationalError):
        connect(f"postgresql:///sales?host={tmp_path}", "test")
    assert 0.5 <= time.monotonic() - started < default / 2


def test_a_statement_waits_for_a_restart_of_the_server(
    own_server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrations.migrate(own_server.url("sales"))
    use(monkeypatch, own_server.url("sales"))
    warehouse = Warehouse()
    assert warehouse.rows("raw/delivery", "latest_report") == []
    own_server.stop()
    starting = threading.Timer(0.5, own_server.ensure_running)
    starting.start()
    assert warehouse.rows("raw/delivery", "latest_report") == []
    starting.join()


def test_a_transaction_is_committed_completely_or_not_at_all(warehouse_url: str, query: Query) -> None:
    def record(day: str) -> None:
        with Warehouse().transaction("test") as transaction:
            delivery = {"kind": "increment", "first_day": day, "last_day": day, "outcome": "not_found"}
            transaction.rows("raw/delivery", "record", deliveries=Jsonb([delivery]))
            if day.endswith("02"):
                raise ZeroDivisionError

    record("2024-10-01")
    with pytest.raises(ZeroDivisionError):
        record("2024-10-02")
    assert query("SELECT first_day::text FROM raw.delivery") == [("2024-10-01",)]


def test_a_read_only_transaction_cannot_write(warehouse_url: str) -> None:
    with (
        pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
        Warehouse().transaction("test", read_only=True) as transaction,
    ):
        transaction.connection.execute("DELETE FROM mart.f_sales")


def session_of(transaction: Transaction) -> tuple[int, str]:
    (row,) = transaction.connection.execute(
        "SELECT pg_backend_pid() AS pid, current_setting('application_name') AS name"
    )
    return row["pid"], row["name"]


def test_kept_connections_are_reused_by_transactions(warehouse_url: str, query: Query) -> None:
    with Warehouse().keeping_connections() as warehouse:
        with warehouse.transaction("reading", read_only=True) as first, warehouse.transaction("beside") as second:
            sessions = {session_of(first)[0], session_of(second)[0]}
            assert len(sessions) == 2
        with warehouse.transaction("writing") as transaction:
            pid, name = session_of(transaction)
            assert (pid in sessions, name) == (True, "writing")
            transaction.connection.execute("CREATE TABLE kept ()")
    assert query("SELECT count(*) FROM kept") == [(0,)]
    open_sessions = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY (%s)"
    until(lambda: query(open_sessions, list(sessions)) == [(0,)])


def test_a_connection_with_a_failed_transaction_is_not_reused(warehouse_url: str, query: Query) -> None:
    with Warehouse().keeping_connections() as warehouse:
        with contextlib.suppress(ZeroDivisionError), warehouse.transaction("failing") as transaction:
            failed, _ = session_of(transaction)
            transaction.connection.execute("CREATE TABLE half ()")
            raise ZeroDivisionError
        with warehouse.transaction("next", read_only=True) as transaction:
            assert session_of(transaction)[0] != failed
    assert query("SELECT to_regclass('half')") == [(None,)]


def test_kept_connections_survive_a_restart(own_server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    migrations.migrate(own_server.url("sales"))
    use(monkeypatch, own_server.url("sales"))
    with Warehouse().keeping_connections() as warehouse:
        with warehouse.transaction("before") as transaction:
            session_of(transaction)
        own_server.stop()
        own_server.ensure_running()
        with warehouse.transaction("after") as transaction:
            assert session_of(transaction)[1] == "after"


# --- locks ------------------------------------------------------------------------------------------------

DAYS = (20241001, 20241002, 20241003)
Hold = Callable[[], contextlib.AbstractContextManager[Writer]]


def hold(*days: int, kind: DayLock = DayLock.REPORT_API) -> Hold:
    """Return a function that opens a writer with locks on the given days or, without days, on everything."""
    warehouse = Warehouse()
    if not days:
        return lambda: warehouse.writing_everything("second")
    return lambda: warehouse.writing_days("second", days, kind)


def waiting(url: str) -> list[str]:
    """Return the purposes of the sessions that are blocked by an advisory lock."""
    statement = (
        "SELECT application_name FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"
    )
    with psycopg.connect(url, autocommit=True) as connection:
        return [name for (name,) in connection.execute(statement.encode())]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (hold(DAYS[1]), hold(*DAYS)),
        (hold(DAYS[1], kind=DayLock.PARTNER_ORDERS), hold(DAYS[1], kind=DayLock.PARTNER_ORDERS)),
        (hold(DAYS[1]), hold()),
        (hold(), hold(DAYS[1])),
        (hold(), hold(DAYS[1], kind=DayLock.PARTNER_ORDERS)),
        (hold(), hold()),
        (hold(DAYS[1]), hold(*range(401))),  # too many days are locked as everything
    ],
    ids=["day", "order day", "everything last", "everything first", "order day after all", "everything", "many days"],
)
def test_writers_of_the_same_days_wait_for_each_other(warehouse_url: str, first: Hold, second: Hold) -> None:
    order: list[str] = []
    waited: list[float] = []

    def write() -> None:
        with second() as writer:
            order.append("second")
            waited.append(writer.waited_seconds)

    with first() as writer:
        assert writer.waited_seconds == 0
        thread = threading.Thread(target=write)
        thread.start()
        until(lambda: waiting(warehouse_url) == ["second"])
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert waited[0] > 0


def test_writers_of_different_days_and_sources_do_not_wait(warehouse_url: str) -> None:
    with (
        hold(DAYS[0], DAYS[2])() as one,
        hold(DAYS[1])() as other,
        hold(*DAYS, kind=DayLock.PARTNER_ORDERS)() as orders,
    ):
        assert (one.waited_seconds, other.waited_seconds, orders.waited_seconds) == (0, 0, 0)


def test_days_are_locked_in_ascending_order(warehouse_url: str, query: Query) -> None:
    """Whatever the order of the given days, a writer that waits for a day holds all earlier days and no later one."""
    days = list(range(1, 101))
    random.Random(1).shuffle(days)

    def write() -> None:
        with hold(*days)():
            pass

    with hold(50)():
        thread = threading.Thread(target=write)
        thread.start()
        until(lambda: waiting(warehouse_url) == ["second"])
        held = query(
            "SELECT objid::integer FROM pg_locks JOIN pg_stat_activity USING (pid)"
            " WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND wait_event = 'advisory' ORDER BY 1"
        )
        assert held == [(day,) for day in range(1, 50)]
    thread.join()


def test_every_advisory_lock_has_a_unique_documented_number() -> None:
    """Two purposes with the same number would block each other: a relay of orders would block every load."""
    listed = (sql_folder() / "locks.sql").read_text(encoding="utf-8")
    users: dict[str, set[str]] = defaultdict(set)
    for path in sql_folder().rglob("*.sql"):
        if "versions" not in path.parts:
            for number in re.findall(r"advisory\w*\(\s*(\d+)", path.read_text(encoding="utf-8")):
                users[number].add(path.name)
    assert {number: files for number, files in users.items() if len(files) > 1} == {}
    numbers = {*users, *(str(int(kind)) for kind in DayLock), str(migrations._MIGRATION_LOCK)}
    assert {number for number in numbers if number not in listed} == set()


def test_a_writer_that_lost_its_locks_commits_nothing(warehouse_url: str, query: Query) -> None:
    """After a restart between two transactions, new connections work, but another writer may hold the days."""
    work = """CREATE TABLE written (n int); SELECT pg_terminate_backend(pid) FROM pg_locks
        WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
    with (
        Warehouse().writing_days("w", DAYS) as writer,
        pytest.raises(psycopg.OperationalError),
        writer.transaction("t") as writing,
    ):
        writing.connection.execute(work.encode())
    assert query("SELECT to_regclass('written')") == [(None,)]


# --- Dagster's own storage --------------------------------------------------------------------------------


def test_dagsters_database_is_next_to_the_warehouse(warehouse_url: str, server: EmbeddedPostgres) -> None:
    name = f"{conninfo_to_dict(warehouse_url)['dbname']}_dagster"
    try:
        url = dagster_storage_url()
        assert url == dagster_storage_url()
        with psycopg.connect(url) as connection:
            assert connection.info.dbname == name
    finally:
        with psycopg.connect(server.url("sales"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name}".encode())


@pytest.mark.parametrize(
    "form",
    [
        "postgresql://sales@/{name}?{query}",
        "postgresql:///?dbname={name}&{query}",
        "postgresql+psycopg:///{name}?{query}",
    ],
)
def test_dagsters_database_is_derived_from_every_form_of_the_warehouse_url(
    warehouse_url: str, server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    address, _, query = warehouse_url.partition("?")
    name = address.rpartition("/")[2]
    use(monkeypatch, form.format(name=name, query=query))
    try:
        with psycopg.connect(dagster_storage_url()) as connection:
            assert connection.info.dbname == f"{name}_dagster"
    finally:
        with psycopg.connect(server.url("sales"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name}_dagster".encode())


def test_two_processes_may_create_dagsters_database_concurrently(warehouse_url: str, server: EmbeddedPostgres) -> None:
    script = "from sales_assets.postgres.warehouse import dagster_storage_url; print(dagster_storage_url())"
    both = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=60) for process in both]
    assert outputs[0][0] == outputs[1][0] != "", outputs
    with psycopg.connect(server.url("sales"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {conninfo_to_dict(outputs[0][0].strip())['dbname']}".encode())


def test_a_role_that_may_not_create_dagsters_database_gets_an_error_with_the_remedy(
    warehouse_url: str, server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = conninfo_to_dict(warehouse_url)["dbname"]
    with psycopg.connect(server.url("sales"), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name}_humble LOGIN".encode())
        try:
            use(monkeypatch, warehouse_url.replace("user=sales", f"user={name}_humble"))
            with pytest.raises(
                WarehouseError, match=f"may not create the database {name}_dagster.*DAGSTER_STORAGE_URL"
            ):
                dagster_storage_url()
        finally:
            connection.execute(f"DROP ROLE {name}_humble".encode())


def test_a_configured_dagster_storage_is_used_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_STORAGE_URL", "postgresql+psycopg2://someone@else/where")
    settings_module.settings.cache_clear()
    assert dagster_storage_url() == "postgresql://someone@else/where"
