"""Backup and restore: a restored platform equals the original as of one point in time."""

import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from sales_assets.connection_strings import ConnectionStringError
from sales_assets.deploy import backup
from sales_assets.deploy.backup import BackupError, read_manifest, restore_backup, write_backup
from sales_assets.postgres import dump
from sales_assets.postgres.connection import connect
from sales_assets.postgres.dump import DumpError
from sales_assets.postgres.migrations import latest_revision
from sales_assets.settings import settings
from sales_assets_tests.builders import Order
from sales_assets_tests.cli.conftest import Run
from sales_assets_tests.cli.processes import run_command_in_process
from sales_assets_tests.fixtures import Shop, change_stored_file, stored_files

DAYS = ("2024-10-01", "2024-10-03")


@pytest.fixture
def run_in_process(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command in this process."""
    return lambda *arguments: run_command_in_process(arguments, capsys, monkeypatch)


@pytest.fixture
def storage(new_database: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> str:
    """A storage for Dagster: a backup needs only a database with tables and rows."""
    url = new_database("template1")
    with connect(url, "test", autocommit=True) as connection:
        connection.execute("CREATE TABLE runs (id bigserial PRIMARY KEY, run_id text, status text)")
        connection.execute("INSERT INTO runs (run_id, status) VALUES ('first', 'SUCCESS'), (E'second\\n', NULL)")
    use(monkeypatch, DAGSTER_STORAGE_URL=url)
    return url


@pytest.fixture
def platform(storage: str, engine_shop: Shop) -> Shop:
    """A loaded platform: two days with refunds, a rejected row and names that need escaping; one pending message."""
    engine_shop.reports.report([Order("r", day="2024-09-30")])
    engine_shop.reports.increment("2024-10-01", [Order("a"), "bad one", Order("b", city_name='"Тверь"')])
    engine_shop.reports.increment("2024-10-02", [Order("c", day="2024-10-02", status="refunded")])
    engine_shop.load("2024-10-01", "2024-10-02")
    engine_shop.query(
        "INSERT INTO mailings.client (phone, operator_code, timezone) VALUES ('79001234567', '900', 'UTC')"
    )
    engine_shop.query(
        "INSERT INTO mailings.mailing (start_time, end_time, text, state)"
        " VALUES (now(), now() + interval '1 day', 'hello', 'scheduled')"
    )
    return engine_shop


@pytest.fixture
def use_empty_platform(
    platform: Shop, new_database: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], dict[str, str]]:
    """Return a function that points the settings at an empty platform and returns the URLs of its databases."""

    def switch() -> dict[str, str]:
        urls = {"warehouse": new_database("template1"), "dagster": new_database("template1")}
        use(
            monkeypatch,
            WAREHOUSE_URL=urls["warehouse"],
            DAGSTER_STORAGE_URL=urls["dagster"],
            SALES_HOME=str(tmp_path / "elsewhere"),
            RAW_FILES_URL=str(tmp_path / "elsewhere" / "raw"),
        )
        return urls

    return switch


def use(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()


def schemas(url: str) -> set[str]:
    with connect(url, "test") as connection:
        found = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema)'")
        return {row["nspname"] for row in found}


def rows(url: str) -> dict[str, list[str]]:
    """Return all rows of all tables, as text, and the values of all sequences."""
    with connect(url, "test") as connection:
        names = [tuple(name.split(".", 1)) for name in dump.row_counts(connection)]
        found = {}
        for name in names:
            query = sql.SQL("SELECT t::text AS row FROM {} AS t ORDER BY 1").format(sql.Identifier(*name))
            found[".".join(name)] = [row["row"] for row in connection.execute(query)]
        sequences = connection.execute("SELECT schemaname || '.' || sequencename AS name, last_value FROM pg_sequences")
        return found | {row["name"]: [str(row["last_value"])] for row in sequences}


def silently(_: str) -> None:
    pass


@pytest.fixture
def written(platform: Shop, tmp_path: Path) -> Path:
    write_backup(tmp_path / "backup", silently)
    return tmp_path / "backup"


def test_restored_platform_equals_the_original(
    platform: Shop, storage: str, written: Path, use_empty_platform: Callable[[], dict[str, str]]
) -> None:
    before = rows(settings().warehouse_url.get_secret_value()), rows(storage), stored_files()  # type: ignore[union-attr]
    urls = use_empty_platform()
    restored = restore_backup(written, silently)
    assert (rows(urls["warehouse"]), rows(urls["dagster"]), stored_files()) == before
    assert restored.messages == 1
    assert len(before[2]) == 6
    assert written.stat().st_mode & 0o077 == 0

    # The restored platform works: the next day gets new ids.
    platform.reports.increment("2024-10-03", [Order("d", day="2024-10-03")])
    platform.load("2024-10-03")
    with psycopg.connect(urls["warehouse"]) as connection:
        ids = connection.execute("SELECT id FROM mart.f_sales ORDER BY id").fetchall()
    assert len(ids) == len(before[0]["mart.f_sales"]) + 1 == len(set(ids))


def test_backup_is_consistent_as_of_one_point_in_time(
    platform: Shop, storage: str, tmp_path: Path, use_empty_platform: Callable[[], dict[str, str]]
) -> None:
    """A day that is loaded during the backup is in no part of the backup."""
    platform.reports.increment("2024-10-03", [Order("d", day="2024-10-03")])
    before = rows(storage)["public.runs"]

    def load_meanwhile(step: str) -> None:
        if step == "dumping dagster":
            platform.load("2024-10-03")
            with psycopg.connect(storage) as connection:
                connection.execute("INSERT INTO runs (run_id) VALUES ('third')")

    write_backup(tmp_path / "backup", load_meanwhile)
    assert platform.sales("2024-10-03") != []
    urls = use_empty_platform()
    restore_backup(tmp_path / "backup", silently)
    assert rows(urls["dagster"])["public.runs"] == before  # only rows: sequences may be ahead
    assert not any("2024-10-03" in path for path in stored_files())
    with psycopg.connect(urls["warehouse"]) as connection:
        assert connection.execute("SELECT max(date_id) FROM mart.f_sales").fetchone() == (20241002,)


def test_backup_blocks_commands_that_rewrite_raw_files(platform: Shop, tmp_path: Path) -> None:
    seen = []

    def try_locks(_: str) -> None:
        seen.extend(platform.query("SELECT pg_try_advisory_lock(7205002) OR pg_try_advisory_lock(7205025)"))

    write_backup(tmp_path / "backup", try_locks)
    assert seen
    assert not any(acquired for (acquired,) in seen)


def test_damaged_raw_file_is_reported_and_the_rest_is_backed_up(
    platform: Shop, run_in_process: Run, tmp_path: Path, use_empty_platform: Callable[[], dict[str, str]]
) -> None:
    [(path,)] = platform.query(
        "SELECT path FROM raw.fetch WHERE file = 'user_orders_log' AND first_day = '2024-10-01' AND kind = 'increment'"
    )
    change_stored_file(str(path), b"tampered")
    done = run_in_process("backup", str(tmp_path / "backup"))
    assert done.returncode == 1
    assert f"not backed up: {path}: the raw file was changed" in done.stderr
    assert not (tmp_path / "backup" / "raw" / str(path)).exists()
    use_empty_platform()
    done = run_in_process("restore", str(tmp_path / "backup"))
    assert done.returncode == 0, done.stderr
    assert f"not part of the backup: {path}" in done.stderr
    assert path not in stored_files()
    assert len(stored_files()) == 4


def test_commands_report_the_result_and_the_next_step(
    platform: Shop, run_in_process: Run, tmp_path: Path, use_empty_platform: Callable[[], dict[str, str]]
) -> None:
    folder = str(tmp_path / "backup")
    done = run_in_process("backup", folder)
    assert done.returncode == 0, done.stderr
    assert "rows in 2 databases, " in done.stdout
    again = run_in_process("backup", folder)
    assert (again.returncode, again.stderr) == (1, f"error: {folder} exists: a backup is written to a new folder\n")
    occupied = run_in_process("restore", folder)
    assert occupied.stdout.startswith("nothing restored: the databases already have as many rows as the backup of ")
    platform.query("DELETE FROM mart.d_city")
    occupied = run_in_process("restore", folder)
    assert occupied.returncode == 1
    assert "warehouse: the database has other tables or rows" in occupied.stderr
    use_empty_platform()
    restored = run_in_process("restore", folder)
    assert restored.returncode == 0, restored.stderr
    assert "0 events of partner orders, 1 messages" in restored.stderr
    assert restored.stdout.endswith("next: `sales-assets doctor`\n")


def test_an_interrupted_restore_can_be_repeated(
    written: Path, use_empty_platform: Callable[[], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = use_empty_platform()
    restored: list[str] = []

    def interrupted(folder: Path, *arguments: object, **options: bool) -> None:
        if restored:
            raise KeyboardInterrupt
        restored.append(folder.name)
        dump.restore(folder, *arguments, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(backup, "restore", interrupted)
        with pytest.raises(KeyboardInterrupt):
            restore_backup(written, silently)
    restore_backup(written, silently)
    manifest = read_manifest(written)
    for name, url in urls.items():
        with connect(url, "test") as connection:
            assert dump.row_counts(connection) == manifest.databases[name].rows  # type: ignore[index]


@pytest.mark.parametrize("damaged", ["warehouse/toc.dat", "raw"])
def test_a_damaged_backup_restores_nothing(
    written: Path, damaged: str, use_empty_platform: Callable[[], dict[str, str]]
) -> None:
    file = written / damaged
    if file.is_dir():
        file = next(file.rglob("*.csv"))
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    urls = use_empty_platform()
    with pytest.raises(BackupError, match=f"{file} is missing or differs"):
        restore_backup(written, silently)
    assert (rows(urls["warehouse"]), rows(urls["dagster"])) == ({}, {})
    assert not Path(settings().raw_files_location).exists()


def test_restore_compares_the_row_counts(
    written: Path, use_empty_platform: Callable[[], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def restore_in_part(folder: Path, url: str, *arguments: object, **options: object) -> None:
        dump.restore(folder, url, *arguments, **options)  # type: ignore[arg-type]
        if folder.name == "warehouse":
            with connect(url, "test") as connection:
                connection.execute("DELETE FROM mailings.mailing")

    monkeypatch.setattr(backup, "restore", restore_in_part)
    use_empty_platform()
    with pytest.raises(BackupError, match="warehouse: the restored tables have other rows"):
        restore_backup(written, silently)


def change_manifest(backup: Path, **fields: object) -> None:
    file = backup / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"revision": "9999"}, "at revision 9999, which this version does not know"),
        ({"format": 2}, "format: "),
        ({"raw_files": [{"path": "../x", "sha256": ""}]}, "leads out of the raw files"),
        ({"raw_files": [{"path": "/x", "sha256": ""}]}, "leads out of the raw files"),
    ],
)
def test_invalid_manifest_is_refused(
    written: Path, fields: dict[str, object], reason: str, use_empty_platform: Callable[[], dict[str, str]]
) -> None:
    change_manifest(written, **fields)
    use_empty_platform()
    with pytest.raises(BackupError, match=reason):
        restore_backup(written, silently)


def test_a_folder_without_a_manifest_is_not_a_backup(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match=r"is not a backup: it has no manifest\.json"):
        read_manifest(tmp_path)


def test_restore_of_an_older_backup_asks_for_a_migration(
    written: Path,
    run_in_process: Run,
    use_empty_platform: Callable[[], dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sales_assets.postgres.migrations.latest_revision", lambda: f"{latest_revision()}+1")
    use_empty_platform()
    assert "next: `sales-assets migrate`" in run_in_process("restore", str(written)).stdout


@pytest.fixture
def reader(platform: Shop) -> Iterator[str]:
    """A database role with a privilege in the warehouse."""
    platform.query('CREATE ROLE "a ""reader"""')
    platform.query('GRANT USAGE ON SCHEMA mart TO "a ""reader"""')
    yield '"a ""reader"""'
    platform.query('DROP OWNED BY "a ""reader"""')


@pytest.mark.xdist_group("roles")
def test_privileges_are_restored_if_their_roles_exist(
    reader: str, tmp_path: Path, platform: Shop, use_empty_platform: Callable[[], dict[str, str]]
) -> None:
    folder = tmp_path / "backup"
    write_backup(folder, silently)
    urls = use_empty_platform()
    restore_backup(folder, silently)
    with psycopg.connect(urls["warehouse"], autocommit=True) as connection:
        may = connection.execute("SELECT has_schema_privilege('a \"reader\"', 'mart', 'USAGE')").fetchone()
        assert may == (True,)
        connection.execute(f"DROP OWNED BY {reader}".encode())
    platform.query(f"DROP OWNED BY {reader}")
    platform.query(f"DROP ROLE {reader}")
    use_empty_platform()
    with pytest.raises(BackupError, match='run CREATE ROLE "a ""reader""", or use --no-privileges'):
        restore_backup(folder, silently)
    restore_backup(folder, silently, privileges=False)
    platform.query(f"CREATE ROLE {reader}")


def test_a_restore_that_fails_changes_nothing(
    written: Path, use_empty_platform: Callable[[], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement fails far into the script, like one for an extension that the server lacks."""
    urls = use_empty_platform()
    with psycopg.connect(urls["warehouse"]) as connection:
        connection.execute("CREATE SEQUENCE public.blocker")
        connection.execute("CREATE SCHEMA staging")
    with pytest.raises(DumpError, match=r'the dump can.t be restored: .*schema "staging" already exists'):
        restore_backup(written, silently)
    assert list(rows(urls["warehouse"])) == ["public.blocker"]
    assert schemas(urls["warehouse"]) == {"public", "staging"}


def test_incomplete_dump_is_not_committed(written: Path, use_empty_platform: Callable[[], dict[str, str]]) -> None:
    """pg_restore fails after it has written statements; psql must not commit them."""
    urls = use_empty_platform()
    largest = max((written / "warehouse").glob("*.dat.gz"), key=lambda file: file.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    with pytest.raises(DumpError, match="pg_restore failed"):
        dump.restore(written / "warehouse", urls["warehouse"], 180_000, privileges=False)
    assert schemas(urls["warehouse"]) == {"public"}


def test_every_day_loaded_in_dagster_is_in_the_warehouse(
    platform: Shop,
    storage: str,
    tmp_path: Path,
    use_empty_platform: Callable[[], dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A day loaded between the two snapshots is in the warehouse of the backup, its run not in Dagster's storage."""
    platform.reports.increment("2024-10-03", [Order("d", day="2024-10-03")])
    taken: list[str] = []

    @contextmanager
    def loading_between(url: str, purpose: str) -> Iterator[dump.Snapshot]:
        if taken:
            platform.load("2024-10-03")
            with psycopg.connect(storage) as connection:
                connection.execute("INSERT INTO runs (run_id) VALUES ('third')")
        with dump.snapshot(url, purpose) as one:
            taken.append(url)
            yield one

    monkeypatch.setattr(backup, "snapshot", loading_between)
    write_backup(tmp_path / "backup", silently)
    assert len(taken) == 2
    urls = use_empty_platform()
    restore_backup(tmp_path / "backup", silently)
    assert not any("third" in row for row in rows(urls["dagster"])["public.runs"])
    with psycopg.connect(urls["warehouse"]) as connection:
        assert connection.execute("SELECT max(date_id) FROM mart.f_sales").fetchone() == (20241003,)


@pytest.mark.xdist_group("roles")
def test_missing_roles_are_created_on_the_embedded_server(
    platform: Shop, warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = f'an "analyst" {secrets.token_hex(4)}'
    monkeypatch.delenv("WAREHOUSE_URL")
    settings.cache_clear()
    backup._require_roles([role], warehouse_url)
    assert platform.query("SELECT rolcanlogin FROM pg_roles WHERE rolname = %s", role) == [(False,)]
    platform.query(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)).as_string())


def test_password_is_not_a_command_line_argument() -> None:
    """Command-line arguments are visible to all users of the machine."""
    conninfo, environment = dump._address("postgresql://me:s%40cret@h/d?sslmode=require")
    assert "s@cret" not in conninfo
    assert environment["PGPASSWORD"] == "s@cret"
    with pytest.raises(ConnectionStringError, match="sslpassword"):
        dump._address("postgresql://h/d?sslpassword=s")


def test_settings_since_17_are_not_sent_to_older_servers(
    written: Path, use_empty_platform: Callable[[], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """This server is newer than 17, so the test forces the filter; the rest of the script must arrive unchanged."""
    monkeypatch.setattr(dump, "_SETTING_SINCE_17_VERSION", 990_000)
    urls = use_empty_platform()
    restore_backup(written, silently)
    assert len(rows(urls["warehouse"])["mart.f_sales"]) == 3


def test_newer_server_needs_installed_client_programs(
    platform: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dump, "MAJOR", 1)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DumpError, match="pg_dump is not installed, and the bundled one is of PostgreSQL 1 "):
        write_backup(tmp_path / "backup", silently)
    assert not (tmp_path / "backup").exists()
    assert list(tmp_path.glob(".backup*")) == []


def test_an_unmigrated_warehouse_is_not_backed_up(
    new_database: Callable[[str], str], storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, WAREHOUSE_URL=new_database("template1"))
    with pytest.raises(BackupError, match="nothing to back up"):
        write_backup(tmp_path / "backup", silently)


def test_shared_database_is_dumped_once(platform: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = settings().warehouse_url.get_secret_value()  # type: ignore[union-attr]
    use(monkeypatch, DAGSTER_STORAGE_URL=f"{url}&options=-csearch_path%3Ddagster")
    assert list(write_backup(tmp_path / "backup", silently).databases) == ["warehouse"]
