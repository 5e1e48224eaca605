"""Running the Dagster UI and daemon as children that never outlive the command that started them.

Belongs here: processes, signals, one daemon a home. Does not belong here: what Dagster is told (`instance`).
"""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

import requests

LOCATION = "sales_assets"

# The kernel's limit is 108 bytes on Linux and 104 on macOS, the closing NUL included.
_LONGEST_SOCKET_PATH = 103
_STARTUP_SECONDS = 120
_SHUTDOWN_SECONDS = 20


class UiError(Exception):
    """The UI could not be started; the message says why."""


@dataclass(frozen=True)
class Ui:
    """The UI that answers at `url`. Without `has_daemon`, that of another one on the same home does the work."""

    url: str
    process: subprocess.Popen[bytes]
    has_daemon: bool


@contextmanager
def ui_running(port: int, home: Path) -> Iterator[Ui]:
    """Web server and code server on loopback, and the daemon where none runs on this home; given once it answers.

    Two daemons would both start a queued run, which Dagster does not support: one of the two processes fails it.
    """
    url = f"http://127.0.0.1:{port}"
    _require_short_temporary_folder()
    if not _is_free(port):
        raise UiError(f"port {port} is taken: choose another with --port")
    log = home / "ui.log"
    with log.open("ab") as output, (home / "daemon.lock").open("ab") as lock:
        has_daemon = _is_ours(lock)
        program = ["dagster", "dev"] if has_daemon else ["dagster_webserver"]
        # A session of its own: `kill -9` aside, its whole group is ended below, whatever it has started. The lock is
        # handed over, so that it lives as long as the daemon's own process.
        process = subprocess.Popen(
            [sys.executable, "-m", *program, "-w", _workspace(home), "--host", "127.0.0.1", "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=[lock.fileno()] if has_daemon else [],
        )
    try:
        _wait_until_it_answers(url, process, log)
        yield Ui(url, process, has_daemon)
    finally:
        end_group(process)


def serve_ui(port: int, home: Path, *, sensors: Sequence[str] = (), on_ready: Callable[[Ui], None]) -> None:
    """Run the Dagster UI, with the sensors switched on, until Ctrl-C, TERM or the terminal's end. Raises `UiError`."""
    with ui_running(port, home) as ui:
        for sensor in sensors:
            start_sensor(ui.url, sensor)
        on_ready(ui)
        ui.process.wait()


def _require_short_temporary_folder() -> None:
    """Dagster's processes meet at sockets below TMPDIR; a path that no kernel takes would be a page of traceback."""
    folder = tempfile.gettempdir()
    longest = _LONGEST_SOCKET_PATH - len(f"/{tempfile.gettempprefix()}12345678")
    if len(os.fsencode(folder)) > longest:
        raise UiError(
            f"TMPDIR is too long for Dagster's sockets ({folder}): set it to a path of at most {longest} bytes"
        )


def _is_ours(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _workspace(home: Path) -> str:
    """Write a workspace file below SALES_HOME: the command works from any folder, and the location keeps its name."""
    file = home / "workspace.yaml"
    file.write_text(
        "load_from:\n  - python_module:\n      module_name: sales_assets.definitions\n"
        f"      location_name: {LOCATION}\n",
        encoding="utf-8",
    )
    return str(file)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _STARTUP_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise UiError(f"the UI ended with {process.returncode}; {log} says why")
        try:
            if requests.get(f"{url}/server_info", timeout=2).ok:
                return
        except requests.RequestException:
            pass
        time.sleep(0.2)
    raise UiError(f"the UI did not answer within {_STARTUP_SECONDS} s; {log} says why")


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Interrupt the group, then kill what is left of it: `dagster dev` orphans its children when it is killed alone."""
    for number, patience in ((signal.SIGINT, _SHUTDOWN_SECONDS), (signal.SIGKILL, 5)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        deadline = time.monotonic() + patience
        while _group_lives(process) and time.monotonic() < deadline:
            time.sleep(0.1)
    process.wait()


def _group_lives(process: subprocess.Popen[bytes]) -> bool:
    process.poll()  # a zombie of ours would count as alive
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def start_sensor(url: str, name: str) -> None:
    """Switch a sensor on, as the toggle in the UI does."""
    mutation = """mutation ($selector: SensorSelector!) { startSensor(sensorSelector: $selector) {
        __typename ... on PythonError { message } } }"""
    selector = {
        "repositoryName": "__repository__",
        "repositoryLocationName": LOCATION,
        "sensorName": name,
    }
    answer = requests.post(
        f"{url}/graphql", json={"query": mutation, "variables": {"selector": selector}}, timeout=30
    ).json()
    if answer.get("errors") or answer["data"]["startSensor"]["__typename"] != "Sensor":
        raise UiError(f"the sensor {name} could not be started: {answer}")


def end_on_signals() -> None:
    """Let TERM and the death of the terminal end the command as Ctrl-C does: through its `finally` clauses.

    The first signal counts. A dying terminal sends HUP more than once, and an impatient second Ctrl-C would break off
    the cleaning up and leave the children running.
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in numbers:
        signal.signal(number, interrupt)
