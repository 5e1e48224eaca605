"""Fixtures shared by all folders: a database per test on one real PostgreSQL, and separate settings."""

import contextlib
import datetime as dt
import gc
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import hypothesis
import psycopg
import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg import sql

from sales_assets import settings as settings_module
from sales_assets.postgres import connection, migrations
from sales_assets.postgres.embedded import EmbeddedPostgres
from sales_assets.services.http.server import running
from sales_assets.settings import OUR_PREFIXES
from sales_assets.simulators.report_api.app import ReportApi
from sales_assets_tests.builders import ReportFolderBuilder
from sales_assets_tests.clock import today_lasting
from sales_assets_tests.fixtures import EngineShop, Shop

# If setproctitle is installed (by mutmut), Celery sets the titles of its processes, which overwrites their environment.
# Tests find the processes of a command by that environment.
os.environ.setdefault("SPT_NOENV", "1")

KEY = "a-key-of-the-tests"
SHARED_SERVER = "TESTS_SHARED_SERVER"
_MEMORY = Path("/dev/shm")
_ROOM = 4 << 30

pytest_plugins = ["sales_assets_tests.scheduling", "sales_assets_tests.unit"]

# `make unit` uses a quarter of the examples.
hypothesis.settings.register_profile("quick", max_examples=25)

_read_revisions = ScriptDirectory.from_config
_revisions_read: dict[str | None, ScriptDirectory] = {}


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect tests without garbage collection, which takes 1.5 s and would free nothing."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True)
def _clean_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Isolate the settings of each test from the machine and from other tests."""
    for name in list(os.environ):
        if name.startswith((*OUR_PREFIXES, "DAGSTER_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SALES_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REPORT_API_KEY", KEY)
    monkeypatch.setenv("REPORT_API_PATIENCE", "2")
    for cached in (settings_module.settings, settings_module.definition_settings):
        cached.cache_clear()
    yield
    for cached in (settings_module.settings, settings_module.definition_settings):
        cached.cache_clear()


@pytest.fixture(autouse=True)
def _raw_files_in_object_storage(
    request: pytest.FixtureRequest,
    _clean_settings: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With TEST_RAW_FILES=s3, store each test's raw files in a folder of a bucket, unless the test sets a location."""
    if os.environ.get("TEST_RAW_FILES") == "s3" and not request.node.get_closest_marker("unit"):
        from sales_assets_tests.resources.object_storage import BUCKET, use_object_storage

        location = f"s3://{BUCKET}/{secrets.token_hex(6)}"
        use_object_storage(monkeypatch, request.getfixturevalue("object_storage"), location)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[EmbeddedPostgres]:
    """Yield the embedded PostgreSQL, one per test process, with a migrated template for new databases.

    `make mutants` runs a test process per mutant: these processes share one server that outlives them.
    """
    if SHARED_SERVER in os.environ:
        yield EmbeddedPostgres(Path(os.environ[SHARED_SERVER]))
        return
    with _in_memory(tmp_path_factory.mktemp(f"postgres-{worker_id}")) as folder:
        embedded = EmbeddedPostgres(folder)
        prepare(embedded)
        yield embedded
        embedded.stop()


@contextlib.contextmanager
def _in_memory(on_disk: Path) -> Iterator[Path]:
    """Yield a folder in memory if there is enough space, else the given folder.

    A new database has 450 files: on a disk, creating them takes most of the processor time of a small test.
    """
    if not _MEMORY.is_dir() or shutil.disk_usage(_MEMORY).free < _ROOM:
        yield on_disk
        return
    prefix = "sales-assets-tests-"
    for left in _MEMORY.glob(f"{prefix}*"):
        number = left.name.removeprefix(prefix).partition("-")[0]
        if left.lstat().st_uid == os.geteuid() and not Path("/proc", number).exists():  # its process was killed
            EmbeddedPostgres(left).stop()
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{prefix}{os.getpid()}-", dir=_MEMORY) as folder:
        yield Path(folder)


def prepare(embedded: EmbeddedPostgres) -> None:
    """Start a server for tests and create its template."""
    embedded.ensure_running()
    with psycopg.connect(embedded.url("sales"), autocommit=True) as connection:
        # A database per test means a checkpoint per test, after which each page is written to the WAL in full. Tests of
        # power cuts and kills use servers with the defaults.
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("ALTER SYSTEM SET full_page_writes = off")
        connection.execute("ALTER SYSTEM SET max_wal_size = '256MB'")  # the folder may be in memory
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("CREATE DATABASE migrated_template")
    migrations.migrate(embedded.url("migrated_template"))


def copy_database(server: EmbeddedPostgres, template: str, name: str) -> str:
    """Copy a database without connections; return the URL of the copy."""
    with psycopg.connect(server.url("sales"), autocommit=True) as connection:
        # Copying files takes a quarter of the processor time of the default, which copies pages through the WAL.
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
        connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
    return server.url(name)


@pytest.fixture(scope="session")
def storage_of_commands(server: EmbeddedPostgres) -> str:
    """Create a database for Dagster's storage, shared by all commands of this test process, and return its URL."""
    return copy_database(server, "template1", f"dagster_of_commands_{os.getpid()}")


@pytest.fixture
def dagster_storage(storage_of_commands: str) -> Iterator[str]:
    """URL of Dagster's storage for commands.

    A test that starts a daemon needs a separate storage: here the daemon's heartbeats would remain, and for two minutes
    all other tests would find a running daemon.
    """
    yield storage_of_commands
    with psycopg.connect(storage_of_commands) as connection:
        if connection.execute("SELECT to_regclass('daemon_heartbeats')").fetchone() != (None,):
            assert connection.execute("SELECT daemon_type FROM daemon_heartbeats").fetchall() == []


@pytest.fixture
def new_database(server: EmbeddedPostgres) -> Iterator[Callable[[str], str]]:
    """Yield a function that copies a template ('template1' is empty) and returns the URL; then drop the copies."""
    created: list[str] = []

    def make(template: str = "migrated_template") -> str:
        created.append(f"test_{secrets.token_hex(6)}")
        return copy_database(server, template, created[-1])

    yield make
    with psycopg.connect(server.url("sales"), autocommit=True) as connection:
        for name in created:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def warehouse_url(new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Create an empty, migrated warehouse, set its URL in the settings, and return the URL."""
    url = new_database()
    monkeypatch.setenv("WAREHOUSE_URL", url)
    settings_module.settings.cache_clear()
    return url


@pytest.fixture
def query(warehouse_url: str) -> Iterator[Callable[..., list[tuple[object, ...]]]]:
    """Yield a function that executes and commits one statement on the warehouse, and returns its rows, if any."""
    # One session for all statements of a thread: opening a session costs the server more than most statements. No
    # statement is prepared, because tests change the types of columns.
    of_thread = threading.local()
    with contextlib.ExitStack() as sessions:

        def run(statement: str, *parameters: object) -> list[tuple[object, ...]]:
            session: psycopg.Connection | None = getattr(of_thread, "session", None)
            if session is None or session.closed:
                session = of_thread.session = psycopg.connect(warehouse_url, prepare_threshold=None)
                sessions.callback(session.close)
            with session.transaction():
                cursor = session.execute(statement.encode(), parameters or None)
                return cursor.fetchall() if cursor.description else []

        yield run


@pytest.fixture
def no_waiting_for_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set each session's lock timeout to 200 ms; sessions would override a default of the database."""
    pinned = connection._session
    monkeypatch.setattr(connection, "_session", lambda *limits: pinned(*limits) | {"lock_timeout": "200"})


@pytest.fixture
def today() -> dt.date:
    """Return today in UTC; less than two minutes before midnight, wait until midnight has passed."""
    return today_lasting(120)


@pytest.fixture
def reports(tmp_path: Path) -> ReportFolderBuilder:
    """Return an empty folder of report files."""
    return ReportFolderBuilder(tmp_path / "reports")


@pytest.fixture
def report_api(reports: ReportFolderBuilder, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReportApi]:
    """Run the simulator that serves `reports`, and set its URL in the settings."""
    api = ReportApi(reports.folder, api_key=KEY, report_seconds=0)
    with running(api) as url:
        monkeypatch.setenv("REPORT_API_URL", url)
        settings_module.settings.cache_clear()
        yield api


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """Yield an ephemeral Dagster instance."""
    # Dagster records the revision of its storage, for which Alembic reads a hundred modules each time.
    with mock.patch.object(ScriptDirectory, "from_config", _revisions):
        ephemeral = dg.DagsterInstance.ephemeral()
    events: Any = ephemeral.event_log_storage
    runs: Any = ephemeral.run_storage
    _keep_connections(events)
    _keep_connections(runs)
    with (
        mock.patch.object(events, "_connect", _locked(events)),
        mock.patch.object(runs, "connect", runs._engine.begin),
        ephemeral,
    ):
        yield ephemeral


def _keep_connections(storage: Any) -> None:
    """Let an in-memory storage keep its connections: Dagster would open and configure one for each statement."""
    storage._engine = sa.create_engine(
        storage._engine.url, poolclass=sa.QueuePool, connect_args={"check_same_thread": False}
    )
    sa.event.listen(storage._engine, "connect", lambda created, _: created.execute("PRAGMA foreign_keys=ON"))


def _locked(storage: Any) -> Callable[[], contextlib.AbstractContextManager[sa.Connection]]:
    """Return a replacement for the event log's `_connect`: one transaction at a time."""

    @contextlib.contextmanager
    def connect() -> Iterator[sa.Connection]:
        with storage._db_lock, storage._engine.begin() as connection:
            yield connection

    return connect


def _revisions(config: Config) -> ScriptDirectory:
    """Replace `ScriptDirectory.from_config`: read each folder only once."""
    folder = config.get_main_option("script_location")
    if folder not in _revisions_read:
        _revisions_read[folder] = _read_revisions(config)
    return _revisions_read[folder]


@pytest.fixture
def dagster_shop(
    request: pytest.FixtureRequest,
    reports: ReportFolderBuilder,
    report_api: ReportApi,
    query: Callable[..., list[tuple[object, ...]]],
) -> Shop:
    """Return report files, simulator and warehouse as one object; loads are runs of Dagster."""
    return Shop(reports, report_api, lambda: request.getfixturevalue("instance"), query)


@pytest.fixture
def engine_shop(
    request: pytest.FixtureRequest,
    reports: ReportFolderBuilder,
    report_api: ReportApi,
    query: Callable[..., list[tuple[object, ...]]],
) -> Shop:
    """Return a shop that loads with the engine, without Dagster, for tests of data rules."""
    return EngineShop(reports, report_api, lambda: request.getfixturevalue("instance"), query)


@pytest.fixture
def shop(dagster_shop: Shop) -> Shop:
    """Return the shop whose loads are Dagster runs; folders with tests of data rules override this fixture."""
    return dagster_shop


@pytest.fixture(scope="session")
def object_storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run an S3 server, one per test process; yield its URL. `use_object_storage` sets it in the settings."""
    from sales_assets_tests.resources.object_storage import s3_server  # s3fs takes a second

    with s3_server(tmp_path_factory.mktemp("s3")) as url:
        yield url


@pytest.fixture(scope="session")
def worker_id(request: pytest.FixtureRequest) -> str:
    """Return pytest-xdist's name of this process, or "main" without xdist."""
    return str(getattr(request.config, "workerinput", {}).get("workerid", "main"))
