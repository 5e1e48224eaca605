"""Upgrades of the embedded server's data: all data are kept, even if the upgrade is interrupted at any moment."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from sales_assets.cli import warehouse
from sales_assets.postgres.embedded import MAJOR, EmbeddedPostgres, EmbeddedPostgresError, binary
from sales_assets.postgres.embedded.upgrade import upgrade

pytestmark = pytest.mark.external

FORMER = binary("pg_upgrade").parents[2] / "pginstall" / "bin"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """Yield a home with data of PostgreSQL 16, whose server is running."""
    home = EmbeddedPostgres(tmp_path / "postgres")
    home.home.mkdir(mode=0o700)
    former(home, "initdb", "--username=sales", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
    start_former(home)
    yield home
    home.stop()


def former(home: EmbeddedPostgres, program: str, *arguments: str) -> None:
    command = [*home.run_as().prefix, str(FORMER / program), f"--pgdata={home.data}", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")


def start_former(home: EmbeddedPostgres) -> None:
    options = f"-c listen_addresses='' -c unix_socket_directories='{home.make_socket_dir()}'"
    former(home, "pg_ctl", "--wait", f"--log={home.log_path}", f"--options={options}", "start")


def execute(server: EmbeddedPostgres, database: str, *statements: str) -> list[tuple[object, ...]]:
    with psycopg.connect(server.url(database), autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def test_an_upgrade_keeps_all_data_even_if_it_is_interrupted(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    execute(server, "postgres", "CREATE DATABASE sales", "CREATE DATABASE mine", "CREATE ROLE analyst LOGIN")
    execute(server, "postgres", "ALTER SYSTEM SET work_mem = '33MB'")
    execute(server, "sales", "CREATE TABLE t AS SELECT n, 'Тверь' || n AS name FROM generate_series(1, 1000) AS n")
    execute(server, "mine", "CREATE TABLE t AS SELECT 1 AS n", "GRANT SELECT ON t TO analyst")

    # A failed upgrade leaves the old data in place.
    with pytest.raises(EmbeddedPostgresError, match="the upgrade failed:"):
        upgrade(server, tmp_path)
    assert server.data_version() == "16"
    with pytest.raises(EmbeddedPostgresError, match=r"was written by PostgreSQL 16.*`sales-assets warehouse upgrade`"):
        server.ensure_running()

    # After an interruption between the two renames, no empty server replaces the data.
    rename = Path.rename

    def once(path: Path, target: Path) -> Path:
        if path == server.home / "upgrade" / "data":
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", once)
        with pytest.raises(KeyboardInterrupt):
            upgrade(server)
    with pytest.raises(EmbeddedPostgresError, match="its upgrade was interrupted: `sales-assets warehouse upgrade`"):
        server.ensure_running()
    old_data = upgrade(server)
    assert old_data == server.home / "data-16"
    assert (old_data / "PG_VERSION").read_text() == "16\n"
    assert {path.name for path in server.home.iterdir()} >= {"data", "data-16"}
    assert not (server.home / "upgrade").exists()

    server.ensure_running()
    found = execute(server, "sales", "SELECT count(*), max(name), current_setting('work_mem') FROM t")
    assert found == [(1000, "Тверь999", "33MB")]
    assert execute(server, "sales", "SHOW server_version")[0][0].startswith(f"{MAJOR}.")  # type: ignore[attr-defined]
    assert execute(server, "mine", "SELECT has_table_privilege('analyst', 't', 'SELECT')") == [(True,)]
    assert upgrade(server) is None
    assert server.is_running()


def test_without_data_there_is_nothing_to_upgrade(tmp_path: Path) -> None:
    assert upgrade(EmbeddedPostgres(tmp_path / "postgres")) is None


@pytest.fixture
def of_17(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EmbeddedPostgres:
    """Return a home whose data folder has the version file of PostgreSQL 17."""
    home = EmbeddedPostgres(tmp_path / "postgres")
    home.data.mkdir(parents=True)
    (home.data / "PG_VERSION").write_text("17\n")
    monkeypatch.setattr("sales_assets.postgres.database.embedded", lambda: home)
    return home


def test_missing_programs_of_another_release_are_requested(of_17: EmbeddedPostgres) -> None:
    with pytest.raises(EmbeddedPostgresError, match="--programs /usr/lib/postgresql/17/bin"):
        warehouse.warehouse_upgrade()


def test_upgrade_command_uses_the_programs_of_another_release(
    of_17: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[Callable[..., object] | Path] = []

    def build(_: EmbeddedPostgres, programs: Path) -> None:
        given.append(programs)
        (of_17.home / "upgrade" / "data").mkdir(parents=True)

    monkeypatch.setattr("sales_assets.postgres.embedded.upgrade._build", build)
    warehouse.warehouse_upgrade(Path("/usr/lib/postgresql/17/bin"))
    assert given == [Path("/usr/lib/postgresql/17/bin")]
    assert f"the old data are in {of_17.home / 'data-17'}" in capsys.readouterr().out


def test_the_data_saved_by_an_earlier_upgrade_are_not_overwritten(of_17: EmbeddedPostgres) -> None:
    (of_17.home / "data-17").mkdir()
    with pytest.raises(EmbeddedPostgresError, match="data-17 already exists, from an earlier upgrade"):
        upgrade(of_17)
