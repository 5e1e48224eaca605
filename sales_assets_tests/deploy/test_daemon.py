"""One active daemon per storage: other daemons stand by, and take over when it dies or loses its database session."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from sales_assets.deploy.daemon import STANDING_BY, WORKING, daemon_sessions
from sales_assets_tests.cli.processes import free_port
from sales_assets_tests.deploy.daemons import SECONDS, assert_started_once, code_server, daemons, events, until

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


def test_runs_of_a_killed_code_server_are_repeated_when_it_is_back(storage: str, tmp_path: Path) -> None:
    """The running run is lost with its server, and the queued one is due while the server is down."""
    hold = tmp_path / "hold"
    hold.touch()
    port = free_port()
    with daemons(tmp_path, storage, code_port=port) as start:
        with code_server(tmp_path, storage, port, runs=RUNS, job="held"):
            start("first").expect_line(WORKING)
            until(lambda: events(storage, "STEP_START"), "a run has started")
            until(lambda: len(events(storage, "PIPELINE_ENQUEUED")) == RUNS, "all runs are queued")
        hold.unlink()
        (lost,) = events(storage, "STEP_START")
        until(lambda: lost in events(storage, "PIPELINE_FAILURE"), "the loss is detected")
        (queued,) = events(storage, "PIPELINE_ENQUEUED").keys() - {lost}
        until(lambda: events(storage, "PIPELINE_ENQUEUED").get(queued, 0) > 1, "the other run was tried")
        time.sleep(8)  # the daemon looks for runs to retry every 5 s
        with code_server(tmp_path, storage, port, runs=RUNS):
            until(lambda: len(events(storage, "PIPELINE_SUCCESS")) == RUNS, "both runs have succeeded")
        assert events(storage, "PIPELINE_FAILURE") == {lost: 1}


def test_run_of_a_code_server_that_is_restarted_at_once_is_repeated(storage: str, tmp_path: Path) -> None:
    """The new server responds on the same port before a check fails."""
    hold = tmp_path / "hold"
    hold.touch()
    port = free_port()
    with daemons(tmp_path, storage, code_port=port) as start:
        with code_server(tmp_path, storage, port, runs=1, job="held"):
            start("first").expect_line(WORKING)
            until(lambda: events(storage, "STEP_START"), "the run has started")
        hold.unlink()
        with code_server(tmp_path, storage, port, runs=1):
            until(lambda: events(storage, "PIPELINE_SUCCESS"), "the run was repeated")
