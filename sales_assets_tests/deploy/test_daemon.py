"""One active daemon per storage: other daemons stand by, and take over when it dies or loses its database session."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from sales_assets.deploy.daemon import STANDING_BY, WORKING, daemon_sessions
from sales_assets_tests.deploy.daemons import SECONDS, assert_started_once, daemons, events, until

RUNS = 2
TAKEOVER_SECONDS = 30


@pytest.fixture
def storage(new_database: Callable[..., str]) -> str:
    return new_database("template1")


def test_a_second_daemon_stands_by_and_takes_over(storage: str, tmp_path: Path) -> None:
    """Each run is started exactly once, although the first daemon is killed while runs are queued."""
    with daemons(tmp_path, storage, runs=RUNS) as start:
        first = start("first")
        first.expect_line(WORKING)
        second = start("second")
        second.expect_line(STANDING_BY)
        working, standing_by = daemon_sessions(storage)
        assert (working.holds, standing_by.holds) == (True, False)
        assert [session.name.split()[1] for session in (working, standing_by)] == [
            str(daemon.process.pid) for daemon in (first, second)
        ]
        # The remaining runs are queued. A run killed while launching would be given up only after
        # `start_timeout_seconds`.
        until(lambda: events(storage, "PIPELINE_START"), "a run has started")
        (beating,) = beating_daemons(storage)
        first.kill()
        killed = time.monotonic()
        second.expect_line(WORKING)
        until(lambda: beating_daemons(storage) - {beating}, "the second sends heartbeats")
        assert time.monotonic() - killed < TAKEOVER_SECONDS
        until(lambda: len(events(storage, "PIPELINE_SUCCESS")) == RUNS, "all runs have succeeded")
        assert_started_once(storage, RUNS)


def beating_daemons(storage: str) -> set[str]:
    """Return the ids of the daemons with the latest heartbeats; a daemon on standby sends none."""
    with psycopg.connect(storage) as connection:
        return {row[0] for row in connection.execute("SELECT daemon_id FROM daemon_heartbeats").fetchall()}


def test_a_lost_session_ends_the_daemon_before_another_starts(storage: str, tmp_path: Path) -> None:
    """First an administrator terminates the daemon's session; then a stopped daemon loses its session by a timeout."""
    with daemons(tmp_path, storage, runs=1) as start:
        first = start("first")
        first.expect_line(WORKING)
        second = start("second")
        second.expect_line(STANDING_BY)
        # A run that is being launched when its daemon ends would be given up only after `start_timeout_seconds`.
        until(lambda: events(storage, "PIPELINE_START"), "the run has started")
        with psycopg.connect(storage, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid = 7205008"
            )
        second.expect_line(WORKING)
        first.expect_line(STANDING_BY)
        os.killpg(second.process.pid, signal.SIGSTOP)
        first.expect_line(WORKING)
        os.killpg(second.process.pid, signal.SIGCONT)
        second.expect_line(STANDING_BY)
        assert [session.holds for session in daemon_sessions(storage)] == [True, False]
        for daemon in (first, second):
            daemon.process.terminate()
            assert daemon.process.wait(SECONDS) in (0, 130)
    assert_started_once(storage, 1)
