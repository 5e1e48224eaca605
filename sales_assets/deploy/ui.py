"""Run the Dagster UI and daemon as child processes that never outlive the command; one daemon per DAGSTER_HOME."""

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
    """The UI could not be started; the message is the reason."""


@dataclass(frozen=True)
class Ui:
    """A running UI. If `has_daemon` is false, the daemon of another UI on the same home is used."""

    url: str
    process: subprocess.Popen[bytes]
    has_daemon: bool


@contextmanager
def ui_running(port: int, home: Path) -> Iterator[Ui]:
    """Run web server and code server on loopback, and a daemon unless this home has one; yields once the UI responds.

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
        # A new session, so that the whole process group can be ended below (except after `kill -9`). The daemon
        # inherits the lock, which is therefore held as long as the daemon lives.
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
    """Run the Dagster UI, with the sensors switched on, until Ctrl-C, SIGTERM or SIGHUP. Raises `UiError`."""
    with ui_running(port, home) as ui:
        for sensor in sensors:
            start_sensor(ui.url, sensor)
        on_ready(ui)
        ui.process.wait()


def _require_short_temporary_folder() -> None:
    """Raise UiError if TMPDIR is too long for the path of a socket, which Dagster reports by a page of traceback."""
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
    """Write a workspace file below SALES_HOME, so that the command works in any folder with the same location name."""
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
            raise UiError(f"the UI exited with code {process.returncode}; see {log}")
        try:
            if requests.get(f"{url}/server_info", timeout=2).ok:
                return
        except requests.RequestException:
            pass
        time.sleep(0.2)
    raise UiError(f"the UI did not respond within {_STARTUP_SECONDS} s; see {log}")


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a process group, then kill the rest of it: `dagster dev` orphans its children when killed alone."""
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
    process.poll()  # else a zombie would count as alive
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def start_sensor(url: str, name: str) -> None:
    """Switch a sensor on, like the toggle in the UI."""
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
    """Make SIGTERM and SIGHUP end the command like Ctrl-C, through its `finally` clauses.

    Only the first signal counts: a closing terminal sends SIGHUP repeatedly, and a second Ctrl-C would interrupt the
    cleanup and leave child processes running.
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in numbers:
        signal.signal(number, interrupt)
