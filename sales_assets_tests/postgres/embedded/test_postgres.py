"""The embedded server: created, shared, stopped, and recovered after every kind of violent end."""

import os
import pwd
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from sales_assets.postgres.embedded import DATABASES, EmbeddedPostgres, EmbeddedPostgresError, binary, postgres
from sales_assets.postgres.embedded.server_settings import render_settings
from sales_assets.postgres.embedded.unprivileged import candidates

pytestmark = pytest.mark.external

# Code of a process that starts the server of the home given as its argument. It enables Ctrl-C, which is ignored in the
# processes of a shell's background job.
START = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "import sys, pathlib; from sales_assets.postgres.embedded import EmbeddedPostgres; "
    "server = EmbeddedPostgres(pathlib.Path(sys.argv[1])); server.ensure_running(); "
    "print(server.url('sales'), flush=True); "
)
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """Yield one running server, for tests that only read."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("shared") / "postgres")
    server.ensure_running()
    yield server
    server.stop()


@pytest.fixture
def make() -> Iterator[Callable[[Path], EmbeddedPostgres]]:
    """Yield a function that creates servers; stop these servers after the test."""
    made: list[EmbeddedPostgres] = []

    def _make(home: Path) -> EmbeddedPostgres:
        made.append(EmbeddedPostgres(home))
        return made[-1]

    yield _make
    for server in made:
        server.stop()
        if server._socket_dir.parent != server.home:
            shutil.rmtree(server._socket_dir, ignore_errors=True)


@pytest.fixture
def server(tmp_path: Path, make: Callable[[Path], EmbeddedPostgres]) -> EmbeddedPostgres:
    """Return a server that is not running yet."""
    return make(tmp_path / "postgres")


def value(server: EmbeddedPostgres, query: str, database: str = "sales") -> object:
    with psycopg.connect(server.url(database), autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def execute(server: EmbeddedPostgres, statement: str) -> None:
    with psycopg.connect(server.url("sales"), autocommit=True) as connection:
        connection.execute(statement.encode())


def pid_of(server: EmbeddedPostgres) -> int:
    return int((server.data / "postmaster.pid").read_text().splitlines()[0])


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def start_in_subprocess(server: EmbeddedPostgres, then: str = "", *prefix: str) -> subprocess.Popen[str]:
    command = [*prefix, sys.executable, "-c", START + then, str(server.home)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def test_a_second_start_finds_the_running_server(shared: EmbeddedPostgres) -> None:
    pid = pid_of(shared)
    EmbeddedPostgres(shared.home).ensure_running()
    assert pid_of(shared) == pid
    assert shared.is_running()


@pytest.mark.parametrize("database", DATABASES)
def test_the_url_works_with_psycopg_and_psql_in_any_environment(shared: EmbeddedPostgres, database: str) -> None:
    assert value(shared, "SELECT current_database()", database) == database
    foreign = os.environ | {"PGPORT": "1", "PGUSER": "nobody", "PGHOST": "/nowhere", "PGDATABASE": "none"}
    done = subprocess.run(
        [str(binary("psql")), shared.url(database), "-XAtc", "SELECT current_database() || current_user"],
        env=foreign,
        capture_output=True,
        text=True,
    )
    assert (done.stdout.strip(), done.stderr) == (f"{database}sales", "")


def test_the_environment_of_the_starting_process_does_not_affect_the_server(server: EmbeddedPostgres) -> None:
    starter = start_in_subprocess(server, "", "env", "PGCLIENTENCODING=LATIN1", "PGDATA=/nowhere", "PGPORT=1")
    assert starter.communicate(timeout=60) == (server.url("sales") + "\n", "")
    assert value(server, "SELECT reset_val FROM pg_settings WHERE name = 'client_encoding'") == "UTF8"


def test_only_the_owner_can_reach_the_server(shared: EmbeddedPostgres) -> None:
    assert value(shared, "SELECT current_setting('listen_addresses')") == ""
    assert stat.S_IMODE(shared._socket_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE(shared.data.stat().st_mode) == 0o700
    assert stat.S_IMODE(shared.log_path.stat().st_mode) == 0o600


def test_the_log_of_the_server_has_no_values_of_slow_statements(shared: EmbeddedPostgres) -> None:
    """The values may be names and phones, which `sales-assets forget` can't erase from a log."""
    with psycopg.connect(shared.url("sales"), autocommit=True) as connection:
        connection.execute("SET log_min_duration_statement = 0")
        connection.execute("SELECT 'a slow statement', %s", ["79997772211"])
    wait_until(lambda: "a slow statement" in shared.log_path.read_text())
    assert "79997772211" not in shared.log_path.read_text()


def test_every_server_setting_is_valid_and_applied(shared: EmbeddedPostgres) -> None:
    assert value(shared, "SELECT count(*) FROM pg_file_settings WHERE NOT applied") == 0
    assert value(shared, "SELECT count(*) FROM pg_file_settings WHERE applied") == len(
        re.findall(r"^\w+ = ", (shared.data / "postgresql.conf").read_text(), re.MULTILINE)
    )
    for name, wanted in {
        "synchronous_commit": "on",
        "fsync": "on",
        "data_checksums": "on",
        "server_encoding": "UTF8",
        "TimeZone": "UTC",
    }.items():
        assert value(shared, f"SELECT current_setting('{name}')") == wanted


@pytest.mark.parametrize(("gigabytes", "buffers"), [(2, "256MB"), (8, "512MB"), (64, "1024MB")])
def test_buffers_depend_on_the_memory_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gigabytes: int, buffers: str
) -> None:
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": gigabytes << 18}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    assert f"shared_buffers = '{buffers}'\n" in render_settings(tmp_path, 5432)


@pytest.mark.parametrize("database", DATABASES)
def test_text_sorts_by_code_point_and_supports_cyrillic_case(shared: EmbeddedPostgres, database: str) -> None:
    names = ["ёлка", "Яна", "анна", "Ёж", "Zoe", "Анна", "zoe", "я"]
    in_order = f"SELECT array_agg(n ORDER BY n) FROM unnest(ARRAY{names!r}) n"
    assert value(shared, in_order, database) == sorted(names)
    assert value(shared, "SELECT lower('ЁЖ') || upper('анна')", database) == "ёжАННА"
    assert value(shared, "SELECT 'АННА' ILIKE 'анна'", database) is True


@contextmanager
def killed_with_an_orphan(server: EmbeddedPostgres) -> Iterator[None]:
    """Kill the server while one session is stopped and can't notice; a busy session might end by chance."""
    with psycopg.connect(server.url("sales")) as session:
        orphan = session.info.backend_pid
        os.kill(orphan, signal.SIGSTOP)
        try:
            os.kill(pid_of(server), signal.SIGKILL)
            yield
        finally:
            os.kill(orphan, signal.SIGCONT)


def test_a_caller_that_captures_output_does_not_hang(server: EmbeddedPostgres) -> None:
    command = [sys.executable, "-c", START, str(server.home)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (done.stdout.strip(), done.stderr) == (server.url("sales"), "")
    assert server.is_running()
    pid = pid_of(server)
    assert os.getsid(pid) not in {pid, os.getsid(0)}
    if Path("/proc").exists():
        opened = [str(Path(f"/proc/{pid}/fd/{n}").readlink()) for n in range(3)]
        assert opened == ["/dev/null", str(server.log_path), str(server.log_path)]


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_the_server_outlives_the_process_that_started_it(server: EmbeddedPostgres, end: signal.Signals) -> None:
    owner = start_in_subprocess(server, "import time; time.sleep(600)")
    assert owner.stdout is not None
    assert owner.stdout.readline().strip() == server.url("sales")
    pid = pid_of(server)
    os.killpg(owner.pid, end)
    owner.communicate(timeout=20)
    assert server.is_running()
    server.ensure_running()
    assert pid_of(server) == pid


def test_a_killed_server_recovers_with_all_committed_data(server: EmbeddedPostgres) -> None:
    server.ensure_running()
    execute(server, "CREATE TABLE kept AS SELECT 42 AS n")
    with ThreadPoolExecutor(1) as pool:
        with killed_with_an_orphan(server):
            assert not server.is_running()
            restarting = pool.submit(server.ensure_running)
            wait_until(lambda: server.log_path.read_text().count("pre-existing shared memory block") > 1)
            assert not restarting.done()
        restarting.result(20)
    assert value(server, "SELECT n FROM kept") == 42


def test_a_reused_process_id_is_not_mistaken_for_the_server_and_not_killed(server: EmbeddedPostgres) -> None:
    server.ensure_running()
    execute(server, "CREATE TABLE kept AS SELECT 42 AS n")
    os.kill(pid_of(server), signal.SIGKILL)
    wait_until(lambda: not postgres._processes_in(server.data))
    stranger = subprocess.Popen(["sleep", "600"])
    try:
        lines = (server.data / "postmaster.pid").read_text().splitlines()
        (server.data / "postmaster.pid").write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        assert not server.is_running()
        server.stop()
        assert stranger.poll() is None
        server.ensure_running(timeout=20)
        assert value(server, "SELECT n FROM kept") == 42
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_deleted_home_is_not_mistaken_for_its_last_server(
    tmp_path: Path, make: Callable[[Path], EmbeddedPostgres]
) -> None:
    # With a long path, the socket is outside home, and the server notices the loss only within a minute.
    server = make(tmp_path / ("x" * 120))
    server.ensure_running()
    pid = pid_of(server)
    shutil.rmtree(server.home)
    assert not server.is_running()
    os.kill(pid, signal.SIGQUIT)
    server.ensure_running()
    assert pid_of(server) != pid


def test_processes_that_start_concurrently_share_one_server(server: EmbeddedPostgres) -> None:
    starters = [start_in_subprocess(server) for _ in range(4)]
    outputs = [starter.communicate(timeout=60) for starter in starters]
    assert outputs == [(server.url("sales") + "\n", "")] * 4
    assert server.log_path.read_text().count("starting PostgreSQL") == 1


def test_threads_that_start_concurrently_share_one_server(server: EmbeddedPostgres) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: EmbeddedPostgres(server.home).ensure_running(), range(4)))
    assert server.log_path.read_text().count("starting PostgreSQL") == 1


def test_a_start_killed_during_initdb_leaves_no_data_folder(
    server: EmbeddedPostgres,
) -> None:
    starter = start_in_subprocess(server)
    wait_until(lambda: any(server.home.glob("initdb-*/PG_VERSION")))
    os.killpg(starter.pid, signal.SIGKILL)
    starter.communicate(timeout=20)
    assert not server.data.exists()
    server.ensure_running()
    assert list(server.home.glob("initdb-*")) == []


def test_stop_ends_every_process_and_can_be_repeated(server: EmbeddedPostgres) -> None:
    server.stop()
    assert not server.home.exists()
    server.ensure_running()
    execute(server, "CREATE TABLE kept AS SELECT 42 AS n")
    server.stop()
    assert not server.is_running()
    assert not (server.data / "postmaster.pid").exists()
    assert postgres._processes_in(server.data) == set()
    server.stop()
    server.ensure_running()
    assert value(server, "SELECT n FROM kept") == 42


def test_stop_ends_open_sessions(server: EmbeddedPostgres) -> None:
    server.ensure_running()
    with psycopg.connect(server.url("sales")) as session:
        session.execute("SELECT 1")
        server.stop(timeout=20)
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")


@pytest.mark.parametrize(
    "name",
    ["x" * 120, "a, b", 'it\'s "50%" \\ #? &host=no', "данные магазина"],
    ids=["long", "comma", "quotes", "cyrillic"],
)
def test_any_folder_name_is_accepted(tmp_path: Path, make: Callable[[Path], EmbeddedPostgres], name: str) -> None:
    server = make(tmp_path / name / "postgres")
    server.ensure_running()
    server.stop()
    server.ensure_running()
    assert value(server, "SELECT current_setting('data_directory')") == str(server.data)
    assert stat.S_IMODE(server._socket_dir.stat().st_mode) == 0o700


def test_the_socket_folder_outside_home_is_the_same_for_every_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / ("x" * 120)
    here = EmbeddedPostgres(home).url("sales")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "link").symlink_to(tmp_path)
    assert EmbeddedPostgres(tmp_path / "link" / home.name).url("sales") == here
    assert EmbeddedPostgres(home.with_name("y" * 120)).url("sales") != here


@pytest.mark.parametrize("pitfall", ["symlink", "file", pytest.param("foreign", marks=root_only)])
def test_a_socket_folder_prepared_by_another_user_is_refused(
    tmp_path: Path, make: Callable[[Path], EmbeddedPostgres], pitfall: str
) -> None:
    server = make(tmp_path / ("x" * 120))
    folder = server._socket_dir
    if pitfall == "symlink":
        folder.symlink_to(tmp_path)
    elif pitfall == "file":
        folder.touch()
    else:
        folder.mkdir()
        os.chown(folder, 12345, 12345)
    try:
        with pytest.raises(EmbeddedPostgresError, match=f"socket folder {folder} belongs to another user"):
            server.ensure_running(timeout=20)
    finally:
        folder.rmdir() if pitfall == "foreign" else folder.unlink()


def test_data_of_another_major_version_is_not_changed(server: EmbeddedPostgres) -> None:
    server.data.mkdir(parents=True)
    (server.data / "PG_VERSION").write_text("16\n")
    with pytest.raises(EmbeddedPostgresError, match=rf"{server.data} was written by PostgreSQL 16.* 18"):
        server.ensure_running()
    assert [path.name for path in server.data.iterdir()] == ["PG_VERSION"]


def test_a_folder_with_other_files_is_not_changed(server: EmbeddedPostgres) -> None:
    server.data.mkdir(parents=True)
    (server.data / "diary.txt").write_text("mine")
    with pytest.raises(EmbeddedPostgresError, match=f"{server.data} is not a data folder of PostgreSQL"):
        server.ensure_running()
    assert (server.data / "diary.txt").read_text() == "mine"


def test_a_home_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    home = tmp_path / "file" / "postgres"
    with pytest.raises(EmbeddedPostgresError, match=f"{home}: .*Not a directory"):
        EmbeddedPostgres(home).ensure_running()


def test_a_server_that_cannot_start_reports_the_reason_at_once(server: EmbeddedPostgres) -> None:
    server.ensure_running()
    server.stop()
    with (server.data / "postgresql.auto.conf").open("a") as settings:
        settings.write("shared_buffers = 'plenty'\n")
    start_time = time.monotonic()
    with pytest.raises(EmbeddedPostgresError, match=f"{server.log_path} ends with:(?s:.*)shared_buffers"):
        server.ensure_running()
    assert time.monotonic() - start_time < 10


def test_a_start_without_disk_space_is_reported_and_leaves_nothing(server: EmbeddedPostgres) -> None:
    # The kernel refuses every file above 1 MB, while a full disk would refuse all files: initdb gets a failed write.
    starter = subprocess.Popen(
        [sys.executable, "-c", START, str(server.home)],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, resource.RLIM_INFINITY)),
    )
    _, stderr = starter.communicate(timeout=60)
    assert starter.returncode != 0
    assert re.search(rf"EmbeddedPostgresError: embedded PostgreSQL in {server.home}: initdb failed", stderr)
    assert "File too large" in stderr
    assert [path.name for path in server.home.iterdir()] == ["lock"]
    server.ensure_running()


def test_a_timeout_while_another_process_starts_the_server_is_an_error(server: EmbeddedPostgres) -> None:
    server.home.mkdir()
    with (
        server._locked(time.monotonic() + 1),
        pytest.raises(EmbeddedPostgresError, match=f"{server.home}.* another process"),
    ):
        EmbeddedPostgres(server.home).ensure_running(timeout=0.2)


def test_a_large_log_is_rotated(server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "_LOG_LIMIT", 10)
    server.ensure_running()
    server.stop()
    server.ensure_running()
    assert "shut down" in (server.home / "server.log.1").read_text()
    assert server.log_path.read_text().count("starting PostgreSQL") == 1


@root_only
def test_root_changes_no_permissions_of_parent_folders(
    tmp_path: Path, make: Callable[[Path], EmbeddedPostgres], monkeypatch: pytest.MonkeyPatch
) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    for way in candidates():
        monkeypatch.setattr(postgres, "candidates", lambda way=way: [way])
        server = make(private / way.prefix[0])
        server.ensure_running()
        assert value(server, "SELECT current_setting('data_directory')") == str(server.data)
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        assert {path.stat().st_uid for path in [server.data, *server.data.rglob("*")]} == {way.uid}


@root_only
@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["unshare-setpriv", "setpriv-unshare"])
def test_a_home_created_with_one_method_opens_with_the_other(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch, order: tuple[int, int]
) -> None:
    first, second = (candidates()[index] for index in order)
    monkeypatch.setattr(postgres, "candidates", lambda: [first, second])
    server.ensure_running()
    execute(server, "CREATE TABLE kept AS SELECT 42 AS n")
    monkeypatch.setattr(postgres, "candidates", lambda: [second, first])
    server.ensure_running()
    assert server.data.stat().st_uid == first.uid
    with (
        killed_with_an_orphan(server),
        pytest.raises(EmbeddedPostgresError, match="processes of the former server are still there"),
    ):
        server.ensure_running(timeout=0.5)
    assert server.data.stat().st_uid == first.uid
    server.ensure_running()
    assert server.data.stat().st_uid == second.uid
    assert value(server, "SELECT n FROM kept") == 42


@root_only
def test_data_of_an_ordinary_user_is_not_taken_over_by_root(server: EmbeddedPostgres) -> None:
    server.ensure_running()
    server.stop()
    os.chown(server.data, 12345, 12345)
    with pytest.raises(EmbeddedPostgresError, match=f"{server.data} belongs to uid 12345: run as that user"):
        server.ensure_running(timeout=20)


@root_only
def test_an_error_names_the_methods_tried_as_root(server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EmbeddedPostgresError, match=r"as root.*\(tried: unshare, setpriv\)"):
        server.ensure_running()


@root_only
def test_an_ordinary_user_needs_no_helper_program(server: EmbeddedPostgres) -> None:
    # In a user namespace, this root is user 1000, and still owns the private folder of the test.
    starter = start_in_subprocess(
        server,
        "import os; assert os.geteuid() == 1000; server.stop(); server.ensure_running()",
        "unshare",
        "--user",
        "--map-user=1000",
        # No program that could change the user may be found: the start has to work without such a program.
        "env",
        "PATH=/nowhere",
    )
    assert starter.communicate(timeout=60) == (server.url("sales") + "\n", "")
    assert value(server, "SELECT current_user") == "sales"


_FOREIGN_UID = 12_345


@pytest.fixture
def foreign_home() -> Iterator[Path]:
    """A folder owned by a uid without an entry in the passwd file."""
    folder = Path(tempfile.mkdtemp(prefix="stranger-", dir="/tmp"))
    os.chown(folder, _FOREIGN_UID, _FOREIGN_UID)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def run_as_foreign_uid(home: Path, path: str) -> subprocess.CompletedProcess[str]:
    """Start and stop a server as `_FOREIGN_UID`, without HOME, with only the programs in `path`."""
    with pytest.raises(KeyError):
        pwd.getpwuid(_FOREIGN_UID)
    # The interpreter may be in a private folder of root: root starts it, and then the process changes its uid.
    preload = "import os, encodings.ascii, encodings.idna; "
    become = f"{preload}os.setgroups([]); os.setgid({_FOREIGN_UID}); os.setuid({_FOREIGN_UID}); "
    able = f"os.access({str(binary('initdb'))!r}, os.X_OK) or sys.exit('no access'); "
    script = START.replace("server = ", f"{become}{able}server = ") + "server.stop()"
    done = subprocess.run(
        [sys.executable, "-c", script, home / "postgres"],
        env={"PATH": path}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if done.stderr == "no access\n":
        pytest.skip(f"uid {_FOREIGN_UID} may not execute PostgreSQL in this checkout")
    return done


@root_only
@pytest.mark.parametrize("way", ["unshare", "nss_wrapper"])
def test_a_server_of_a_uid_without_a_passwd_entry(foreign_home: Path, way: str) -> None:
    """Such a uid occurs in OpenShift and with `docker run --user`; the data can later be opened on any machine."""
    programs = foreign_home / "bin"  # the folder of the test is private
    programs.mkdir()
    for name in ("id", "env") if way == "nss_wrapper" else ("id", "unshare"):
        (programs / name).symlink_to(str(shutil.which(name)))
    if way == "nss_wrapper" and not list(Path("/usr/lib").glob("**/libnss_wrapper.so")):
        pytest.skip("libnss_wrapper.so is not installed (apt-get install libnss-wrapper)")
    made = run_as_foreign_uid(foreign_home, str(programs))
    assert (made.returncode, made.stderr) == (0, "")
    assert (foreign_home / "postgres" / "nss-passwd").exists() is (way == "nss_wrapper")
    opened = run_as_foreign_uid(foreign_home, "/nowhere")
    assert (opened.returncode, opened.stderr) == (0, "")


@root_only
def test_the_error_for_a_uid_without_a_passwd_entry_names_the_remedy(foreign_home: Path) -> None:
    message = run_as_foreign_uid(foreign_home, "/nowhere").stderr.splitlines()[-1]
    assert "uid 12345 has no entry in /etc/passwd, which PostgreSQL's initdb needs: install nss_wrapper" in message
    assert "set WAREHOUSE_URL" in message
    assert [path.name for path in (foreign_home / "postgres").iterdir()] == ["lock"]
