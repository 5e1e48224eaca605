"""Daemon processes with separate homes that share one storage and one code server; counts of run events."""

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg

from sales_assets.deploy.instance import configuration_text
from sales_assets.deploy.templates import Template
from sales_assets_tests.cli.processes import free_port
from sales_assets_tests.deploy import queued_location

SECONDS = 120


def configuration(home: Path) -> Mapping[str, Any]:
    """Return the template as edited by an operator: one run at a time, and short pauses."""
    found = dg.config_from_yaml_strings([configuration_text(Template.ONE_MACHINE)])
    found["storage"]["custom"]["config"]["sales_home"] = str(home)
    found["run_coordinator"]["config"]["max_concurrent_runs"] = 1
    found["run_coordinator"]["config"]["user_code_failure_retry_delay"] = 2
    found["run_monitoring"]["poll_interval_seconds"] = 2
    return found


class Daemon:
    """A process of `sales-assets daemon`, with its lines of output."""

    def __init__(self, home: Path, workspace: Path, storage: str) -> None:
        (home / "dagster").mkdir(parents=True)
        (home / "dagster" / "dagster.yaml").write_text(json.dumps(configuration(home)), encoding="utf-8")
        self.log = home / "daemon.log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DAGSTER_")}
        environment |= {"SALES_HOME": str(home), "DAGSTER_STORAGE_URL": storage, "DAGSTER_DISABLE_TELEMETRY": "1"}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sales_assets.cli", "daemon", "--workspace", str(workspace)],
                env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True,
                start_new_session=True,
            )  # fmt: skip
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line.strip())

    def expect_line(self, text: str) -> None:
        """Wait for the next line of output, and assert that it starts with this text."""
        try:
            line = self.lines.get(timeout=SECONDS)
        except queue.Empty:
            raise AssertionError(f"it never said {text!r}: {self.log.read_text(encoding='utf-8')}") from None
        assert line.startswith(text), line

    def kill(self) -> None:
        """Kill the daemon and all its children at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()


@contextmanager
def code_server(folder: Path, storage: str, port: int, *, runs: int, job: str = "nothing") -> Iterator[None]:
    """Run a code server on a port whose sensor queues `runs` runs of a job; kill it and its runs at the end.

    Runs of the job `held` wait as long as the folder has a file `hold`.
    """
    command = [sys.executable, "-m", "dagster", "api", "grpc", "--host", "127.0.0.1", "--port", str(port)]
    own = {
        queued_location.RUNS: str(runs),
        queued_location.JOB: job,
        queued_location.HOLD: str(folder / "hold"),
        "DAGSTER_STORAGE_URL": storage,
    }
    with ExitStack() as stack:
        log = stack.enter_context((folder / "code.log").open("ab"))
        code = subprocess.Popen(
            [*command, "-m", queued_location.__name__, "--location-name", "queued"],
            env=os.environ | own,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        stack.callback(code.wait)
        stack.callback(os.killpg, code.pid, signal.SIGKILL)
        until(lambda: _listens(port), "the code server listens")
        yield


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


@contextmanager
def daemons(
    folder: Path, storage: str, *, runs: int = 0, code_port: int | None = None
) -> Iterator[Callable[[str], Daemon]]:
    """Yield a function that starts a daemon in a named home.

    Its code server queues `runs` runs; with `code_port` the test runs one on this port (`code_server`).
    """
    with ExitStack() as stack:
        port = code_port or free_port()
        if code_port is None:
            stack.enter_context(code_server(folder, storage, port, runs=runs))
        workspace = folder / "workspace.json"
        server = {"grpc_server": {"host": "127.0.0.1", "port": port, "location_name": "queued"}}
        workspace.write_text(json.dumps({"load_from": [server]}), encoding="utf-8")

        def start(name: str) -> Daemon:
            daemon = Daemon(folder / name, workspace, storage)
            stack.callback(daemon.close)
            return daemon

        yield start


def until(condition: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
    """Poll until a function returns a true value; return that value."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"timed out waiting until {what}"
        time.sleep(0.1)
    return found


def events(storage: str, kind: str) -> dict[str, int]:
    """Return {run id: number of its events of this type}."""
    with psycopg.connect(storage) as connection:
        rows = connection.execute(
            "SELECT run_id, count(*) FROM event_logs WHERE dagster_event_type = %s GROUP BY run_id", [kind]
        ).fetchall()
    return dict(rows)


def assert_started_once(storage: str, runs: int) -> None:
    """Assert that this many runs were each launched once and started once."""
    assert sorted(events(storage, "PIPELINE_STARTING").values()) == [1] * runs
    assert set(events(storage, "PIPELINE_START").values()) == {1}
