"""Fixtures that every folder shares: a database per test on one real PostgreSQL, and separate settings."""

import contextlib
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import dagster as dg
import hypothesis
import psycopg
import pytest
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
from sales_assets_tests.fixtures import EngineShop, Shop

# Celery sets the titles of its processes where setproctitle is installed (mutmut brings it), which overwrites their
# environment: tests find the processes of a command by it.
os.environ.setdefault("SPT_NOENV", "1")

KEY = "a-key-of-the-tests"
SHARED_SERVER = "TESTS_SHARED_SERVER"
_MEMORY = Path("/dev/shm")
_ROOM = 4 << 30

pytest_plugins = ["sales_assets_tests.scheduling", "sales_assets_tests.unit"]

# Of `make unit`, a quarter of the examples.
hypothesis.settings.register_profile("quick", max_examples=25)

_read_revisions = ScriptDirectory.from_config
_revisions_read: dict[str | None, ScriptDirectory] = {}


@pytest.fixture(autouse=True)
def _clean_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No setting of the machine reaches a test, and none that a test makes outlives it."""
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
    """With TEST_RAW_FILES=s3, every test's raw files are in a folder of a bucket, unless it chooses another place."""
    if os.environ.get("TEST_RAW_FILES") == "s3" and not request.node.get_closest_marker("unit"):
        from sales_assets_tests.resources.object_storage import BUCKET, use_object_storage

        location = f"s3://{BUCKET}/{secrets.token_hex(6)}"
        use_object_storage(monkeypatch, request.getfixturevalue("object_storage"), location)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[EmbeddedPostgres]:
    """The embedded PostgreSQL, one per test process, with a migrated template for new databases.

    `make mutants` runs a test process per mutant: they share one server that outlives them.
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
    """A folder in memory where there is room for it, else the one given.

    A new database is 450 files: on a disk, making them takes most of the processor time of a small test.
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
    """Start a server for tests and make its template."""
    embedded.ensure_running()
    with psycopg.connect(embedded.url("sales"), autocommit=True) as connection:
        # A database per test is a checkpoint per test, after which each page is written to the WAL in full. Tests of
        # power cuts and kills use servers with the defaults.
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("ALTER SYSTEM SET full_page_writes = off")
        connection.execute("ALTER SYSTEM SET max_wal_size = '256MB'")  # the folder may be in memory
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("CREATE DATABASE migrated_template")
    migrations.migrate(embedded.url("migrated_template"))


def copy_database(server: EmbeddedPostgres, template: str, name: str) -> str:
    """Copy a database that nobody is connected to; gives the URL of the copy."""
    with psycopg.connect(server.url("sales"), autocommit=True) as connection:
        # Copying the files takes a quarter of the processor time of the default, which copies pages through the WAL.
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
        connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
    return server.url(name)


@pytest.fixture(scope="session")
def dagster_storage(server: EmbeddedPostgres) -> str:
    """A database for Dagster's storage that the commands run by this test process share: making one takes a second."""
    return copy_database(server, "template1", f"dagster_of_commands_{os.getpid()}")


@pytest.fixture
def new_database(server: EmbeddedPostgres) -> Iterator[Callable[[str], str]]:
    """Make a database from a template ('template1' for an empty one) and get its URL; dropped after the test."""
    made: list[str] = []

    def make(template: str = "migrated_template") -> str:
        made.append(f"test_{secrets.token_hex(6)}")
        return copy_database(server, template, made[-1])

    yield make
    with psycopg.connect(server.url("sales"), autocommit=True) as connection:
        for name in made:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def warehouse_url(new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> str:
    """A migrated, empty warehouse; the settings of the test point at it."""
    url = new_database()
    monkeypatch.setenv("WAREHOUSE_URL", url)
    settings_module.settings.cache_clear()
    return url


@pytest.fixture
def query(warehouse_url: str) -> Iterator[Callable[..., list[tuple[object, ...]]]]:
    """Run one statement on the warehouse, committed; gives its rows, if it has any."""
    # One session for all statements of a thread: opening one costs the server more than most statements. None is
    # prepared, because tests change the types of columns.
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
    """A statement that waits for a lock fails after 200 ms. A database's default would not do: sessions are pinned."""
    pinned = connection._session
    monkeypatch.setattr(connection, "_session", lambda *limits: pinned(*limits) | {"lock_timeout": "200"})


@pytest.fixture
def reports(tmp_path: Path) -> ReportFolderBuilder:
    """An empty folder of report files, to be filled by the test."""
    return ReportFolderBuilder(tmp_path / "reports")


@pytest.fixture
def report_api(reports: ReportFolderBuilder, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReportApi]:
    """The simulator over `reports`, answering; the settings of the test point at it."""
    api = ReportApi(reports.folder, api_key=KEY, report_seconds=0)
    with running(api) as url:
        monkeypatch.setenv("REPORT_API_URL", url)
        settings_module.settings.cache_clear()
        yield api


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance that lives as long as the test."""
    # Dagster notes the revision of its storage, for which Alembic reads a hundred modules each time.
    with mock.patch.object(ScriptDirectory, "from_config", _revisions):
        ephemeral = dg.DagsterInstance.ephemeral()
    with ephemeral:
        yield ephemeral


def _revisions(config: Config) -> ScriptDirectory:
    """What `ScriptDirectory.from_config` gives, read once per folder."""
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
    """Report files, the simulator over them and the warehouse, in one; loads are runs of Dagster."""
    return Shop(reports, report_api, lambda: request.getfixturevalue("instance"), query)


@pytest.fixture
def engine_shop(
    request: pytest.FixtureRequest,
    reports: ReportFolderBuilder,
    report_api: ReportApi,
    query: Callable[..., list[tuple[object, ...]]],
) -> Shop:
    """The same, loaded by the engine alone: for tests of data rules."""
    return EngineShop(reports, report_api, lambda: request.getfixturevalue("instance"), query)


@pytest.fixture
def shop(dagster_shop: Shop) -> Shop:
    """The shop whose loads are runs of Dagster; folders and files with tests of data rules choose the other."""
    return dagster_shop


@pytest.fixture(scope="session")
def object_storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An S3 server, one per test process; `sales_assets_tests.resources.object_storage` points the settings at it."""
    from sales_assets_tests.resources.object_storage import s3_server  # s3fs takes a second

    with s3_server(tmp_path_factory.mktemp("s3")) as url:
        yield url


@pytest.fixture(scope="session")
def worker_id(request: pytest.FixtureRequest) -> str:
    """pytest-xdist's name of this process, also without xdist."""
    return str(getattr(request.config, "workerinput", {}).get("workerid", "main"))
