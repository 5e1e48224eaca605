"""Run Dagster's daemon under an advisory lock in the database of Dagster's storage: one is active, the others stand by.

Two daemons would both start a queued run, which Dagster does not support. The lock belongs to a session of the daemon's
own process, so that neither outlives the other: a killed process closes its session, and a process that loses its
session replaces itself with a new one that stands by.
"""

import asyncio
import contextlib
import logging
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NoReturn

import dagster as dg
import psycopg

from sales_assets.connection_strings import ConnectionStringError, parse
from sales_assets.dagster_internals import retry_runs_when_code_is_reachable
from sales_assets.postgres.connection import connect, connect_async, connect_psycopg2
from sales_assets.postgres.queries import statements
from sales_assets.settings import SettingsError

# Below Dagster's logger, whose format it gets once the daemon runs.
_log = logging.getLogger("dagster.daemon.lock")

_PURPOSE = "sales_assets daemon"
_POLL_SECONDS = 1
# The holder of the lock notices that the server is out of reach within 2 + 5 s.
_PING_SECONDS = 2
_ANSWER_SECONDS = 5
# The server ends a silent session only after its client has given it up, so that two daemons are never active.
_LEASE_SECONDS = 12
# A server that was restarted or failed over has lost all locks, without notifying their holders: a daemon that then
# gets the lock waits until the former holder must have noticed.
_SETTLE_SECONDS = 8
# Pause between two searches for lost launches.
_LAUNCH_SECONDS = 10

WORKING = "this daemon is active: it launches runs, and evaluates schedules and sensors"
STANDING_BY = "this daemon stands by, and takes over if the active daemon of this storage ends"


@dataclass(frozen=True)
class DaemonSession:
    """A daemon's session in the storage's database: `name` is host and process, `holds` whether it has the lock."""

    name: str
    since: Any
    holds: bool


def run_daemon(workspace: Path, notify: Callable[[str], None]) -> None:
    """Wait for the storage's lock, then run Dagster's daemon until Ctrl-C or SIGTERM.

    `notify` gets the role of this daemon, once it is known and at each change. The instance is read from DAGSTER_HOME.
    """
    with dg.DagsterInstance.get() as instance:
        url = storage_url(instance)
    # Loaded before the lock is taken: a daemon that takes over starts seconds earlier.
    (program,) = entry_points(group="console_scripts", name="dagster-daemon")
    main = program.load()
    lock = _Lock(url, notify)
    lock.wait()
    threading.Thread(target=_watch_launches, name="launches", daemon=True).start()
    retry_runs_when_code_is_reachable()
    sys.argv = ["dagster-daemon", "run", "--workspace", str(workspace)]
    # stdout is reserved for the role messages; Dagster would log there.
    with contextlib.redirect_stdout(sys.stderr):
        main()


def _watch_launches() -> None:
    """Have the run launcher look for lost launches, if it can, as long as this process has the lock.

    Dagster itself gives up a run that does not start after `start_timeout_seconds`; with workers, that is hours.
    """
    while True:
        try:
            with dg.DagsterInstance.get() as instance:
                requeue = getattr(instance.run_launcher, "requeue_lost_launches", None)
                while requeue is not None:
                    time.sleep(_LAUNCH_SECONDS)
                    for run_id in requeue():
                        _log.warning("run %s was lost while it was launched, and is queued again", run_id)
                return
        except Exception as error:  # noqa: BLE001  of the database, the broker, or Dagster
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            _log.warning("could not look for lost launches: %s", reason)
            time.sleep(_LAUNCH_SECONDS)


def storage_url(instance: dg.DagsterInstance) -> str:
    """Return the connection string of an instance's storage. Raises `SettingsError` if it is not in PostgreSQL."""
    url = getattr(instance.run_storage, "postgres_url", None)
    try:
        parse(url or "")
    except ConnectionStringError as error:
        raise SettingsError(f"the storage in dagster.yaml {error}") from None
    if not url:
        raise SettingsError(
            f"the storage in {instance.root_directory}/dagster.yaml is not in PostgreSQL, whose locks ensure "
            "that only one daemon is active: use the storage that `sales-assets dagster-yaml` prints"
        )
    return str(url)


def daemon_sessions(url: str) -> list[DaemonSession]:
    """List the daemons on a storage, the active one first. Raises `psycopg.OperationalError`."""
    parameters = {"schema": _schema(url), "prefix": f"{_PURPOSE} "}
    with connect(url, "sales_assets doctor", writing=False) as connection:
        rows = connection.execute(statements("dagster/daemon_lock")["sessions"], parameters).fetchall()
    return [DaemonSession(_host_and_process(row["name"]), row["since"], row["holds"]) for row in rows]


def _host_and_process(name: str) -> str:
    return name.removeprefix(f"{_PURPOSE} ")


def _schema(url: str) -> str:
    """Return the schema of Dagster's tables, which the connection string may choose."""
    with contextlib.closing(connect_psycopg2(url, "sales_assets storage")) as connection, connection.cursor() as cursor:
        cursor.execute(statements("dagster/daemon_lock")["schema"])
        return str(cursor.fetchone()[0])


class _Lock:
    """The daemon's lock, taken and guarded by a separate thread, which replaces the process if the lock is lost."""

    def __init__(self, url: str, notify: Callable[[str], None]) -> None:
        self._url = url
        self._notify = notify
        self._schema = _schema(url)
        self._is_held = threading.Event()

    def wait(self) -> None:
        """Wait until this process has the lock."""
        threading.Thread(target=self._guard, name="daemon-lock", daemon=True).start()
        self._is_held.wait()

    def _guard(self) -> None:
        try:
            asyncio.run(self._hold())
        except BaseException:  # noqa: BLE001  a daemon without a guard must not continue
            traceback.print_exc()
            _replace_process()

    async def _hold(self) -> NoReturn:
        is_reconnected = False
        while True:
            try:
                purpose = f"{_PURPOSE} {socket.gethostname()} {os.getpid()}"
                session = await connect_async(self._url, purpose, connect_seconds=_ANSWER_SECONDS)
                try:
                    await self._hold_in(session, is_reconnected=is_reconnected)
                finally:
                    await session.close()
            except (psycopg.Error, OSError) as error:
                reason = next(iter(str(error).splitlines()), "") or type(error).__name__
                if self._is_held.is_set():
                    _log.error("lost the session that holds the daemon's lock, standing by: %s", reason)
                    _replace_process()
                _log.warning("could not request the daemon's lock: %s", reason)
            is_reconnected = True
            await asyncio.sleep(_POLL_SECONDS)

    async def _hold_in(self, session: "psycopg.AsyncConnection[Any]", *, is_reconnected: bool) -> NoReturn:
        """Wait for the lock in a session and keep it; raises when the session is lost."""
        await _answer(session, "lease", seconds=_LEASE_SECONDS)
        holder = None
        while not (await _answer(session, "acquire", schema=self._schema))[0]["acquired"]:
            rows = await _answer(session, "sessions", schema=self._schema, prefix=f"{_PURPOSE} ")
            found = next((_host_and_process(row["name"]) for row in rows if row["holds"]), holder)
            if found != holder:
                holder = found
                self._notify(f"{STANDING_BY} ({holder})")
            await asyncio.sleep(_POLL_SECONDS)
        if is_reconnected:
            await asyncio.sleep(_SETTLE_SECONDS)
            await _answer(session, "ping")
        self._notify(WORKING)
        self._is_held.set()
        while True:
            # Raises at once if the server closes the connection.
            async for _ in session.notifies(timeout=_PING_SECONDS):
                pass
            await _answer(session, "ping")


async def _answer(session: "psycopg.AsyncConnection[Any]", name: str, **parameters: object) -> Sequence[Any]:
    """Run a statement; raises `TimeoutError`, an OSError, if the server is silent.

    The statement is abandoned instead of cancelled: psycopg would wait 10 s more for the server's response.
    """

    async def run() -> Sequence[Any]:
        cursor = await session.execute(statements("dagster/daemon_lock")[name], parameters)
        return await cursor.fetchall() if cursor.description else []

    task = asyncio.ensure_future(run())
    done, _ = await asyncio.wait({task}, timeout=_ANSWER_SECONDS)
    if not done:
        raise TimeoutError(f"the server did not answer within {_ANSWER_SECONDS} s")
    return task.result()


def _replace_process() -> NoReturn:
    """Start this program again in this process: every thread of the daemon ends at once, and every session closes."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  this process's command line
