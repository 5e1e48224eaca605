"""The lock of a run: shows other machines whether the process of the run is alive, without a message from it.

A separate session of Dagster's database holds the lock: when the process is killed, its session ends and releases it.
"""

import logging
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager

import dagster as dg
import psycopg

from sales_assets.postgres.connection import Row, connect
from sales_assets.postgres.queries import statements
from sales_assets.postgres.warehouse import dagster_storage_url

_log = logging.getLogger(__name__)

# Run tag: a command executes the run and holds its lock.
_LOCKED_TAG = "sales_assets/holds_lock"

_PING_SECONDS = 5
_RETRY_SECONDS = 1
_TAKE_SECONDS = 30


def _key(run_id: str) -> int:
    """Return the lock's number: the first half of the random run id."""
    return int.from_bytes(uuid.UUID(run_id).bytes[:8], signed=True)


@contextmanager
def run_lock(run_id: str, url: str | None = None) -> Iterator["psycopg.Connection[Row] | None"]:
    """Hold a run's lock, and yield the session that has it; yields None if another process has the lock.

    url: connection string of Dagster's database; None: the database of the settings.
    """
    with closing(connect(url or dagster_storage_url(), f"sales_assets run {run_id}", autocommit=True)) as session:
        session.execute(statements("dagster/run_lock")["limits"])
        try:
            session.execute(statements("dagster/run_lock")["take"], {"key": _key(run_id)})
        except psycopg.errors.LockNotAvailable:
            yield None
        else:
            yield session


@contextmanager
def command_lock(instance: dg.DagsterInstance, run_id: str) -> Iterator[dict[str, str]]:
    """Hold the lock of a run that a command executes, and yield tags for the run that make `is_lost` look for the lock.

    A thread takes the lock again after a restart of the server. Yields no tags if the storage is not in
    PostgreSQL, or if the lock is not taken within 30 s.
    """
    url = _storage_url(instance)
    if url is None:
        yield {}
        return
    taken, ended = threading.Event(), threading.Event()

    def keep() -> None:
        while not ended.is_set():
            try:
                with run_lock(run_id, url) as session:
                    taken.set()
                    while session is not None and not ended.wait(_PING_SECONDS):
                        session.execute(statements("dagster/run_lock")["ping"])
            except psycopg.Error as error:
                _log.warning("lost the lock of run %s: %s", run_id, error)
            ended.wait(_RETRY_SECONDS)

    thread = threading.Thread(target=keep, name="run-lock", daemon=True)
    thread.start()
    is_taken = taken.wait(_TAKE_SECONDS)
    try:
        yield {_LOCKED_TAG: "true"} if is_taken else {}
    finally:
        ended.set()
        thread.join(_PING_SECONDS)


def is_lost(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Return whether a command should hold the lock of the run, and does not. Raises `psycopg.OperationalError`."""
    url = _storage_url(instance)
    return _LOCKED_TAG in run.tags and url is not None and not is_executed(run.run_id, url)


def is_executed(run_id: str, url: str | None = None) -> bool:
    """Return whether a process holds the run's lock. Raises `psycopg.OperationalError`."""
    url = url or dagster_storage_url()
    with connect(url, "sales_assets run launcher", autocommit=True, writing=False) as session:
        found = session.execute(statements("dagster/run_lock")["is_held"], {"key": _key(run_id)}).fetchone()
    assert found is not None
    return bool(found["held"])


def _storage_url(instance: dg.DagsterInstance) -> str | None:
    return getattr(instance.run_storage, "postgres_url", None)
