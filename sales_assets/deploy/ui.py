"""Run the Dagster UI and daemon as child processes that never outlive the command."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, NoReturn

import requests

from sales_assets.deploy import child

LOCATION = "sales_assets"
CODE = "sales_assets.definitions"
DAEMON = "daemon"

_SOCKET = "c"

# The kernel's limit is 108 bytes on Linux and 104 on macOS, the closing NUL included.
_LONGEST_SOCKET_PATH = 103
_STARTUP_SECONDS = 120
_SHUTDOWN_SECONDS = 20
_RESTART_SECONDS = 5
# Exit code of our commands for wrong settings.
_WRONG_SETTINGS = 2


class UiError(Exception):
    """The UI could not be started; the message is the reason."""


@dataclass(frozen=True)
class Ui:
    """A running UI with its processes by name: code server, web server and daemon."""

    url: str
    processes: Mapping[str, subprocess.Popen[bytes]]
    log: Path
    start_daemon: Callable[[], None]

    def wait(self, notify: Callable[[str], None]) -> NoReturn:
        """Forward the daemon's role messages and restart it if it exits; raises `UiError` if another process exits.

        The daemon exits if its database stays unreachable; the UI continues to run.
        """
        self._forward_role_changes(notify)
        while True:
            time.sleep(1)
            for name, process in self.processes.items():
                code = process.poll()
                if code is not None and (name != DAEMON or code == _WRONG_SETTINGS):
                    raise UiError(f"the {name} exited with code {code}; see {self.log}")
            if (code := self.processes[DAEMON].returncode) is not None:
                notify(f"the daemon exited with code {code} and is started again; see {self.log}")
                time.sleep(_RESTART_SECONDS)
                self.start_daemon()
                self._forward_role_changes(notify)

    def _forward_role_changes(self, notify: Callable[[str], None]) -> None:
        output = self.processes[DAEMON].stdout
        assert output is not None

        def read() -> None:
            with output:
                for line in output:
                    notify(line.decode().strip())

        threading.Thread(target=read, name="daemon-role", daemon=True).start()


@contextmanager
def ui_running(port: int, home: Path) -> Iterator[Ui]:
    """Run code server, web server and daemon on loopback; yields once the UI responds.

    The daemon is active or stands by, see `sales_assets.deploy.daemon`. Runs are processes of the code server.
    """
    url = f"http://127.0.0.1:{port}"
    _require_short_temporary_folder()
    if not _is_free(port):
        raise UiError(f"port {port} is taken: choose another with --port")
    log = home / "ui.log"
    processes: dict[str, subprocess.Popen[bytes]] = {}
    with ExitStack() as stack:
        output = stack.enter_context(log.open("ab"))
        # In a private folder: write access to the socket allows running code.
        address = Path(stack.enter_context(tempfile.TemporaryDirectory())) / _SOCKET
        stack.callback(lambda: end_groups(processes.values()))

        def start(name: str, *arguments: str, stdout: int | IO[bytes] = output) -> subprocess.Popen[bytes]:
            # A new session, so that the process can be ended with its children; stdin ends with this process.
            processes[name] = subprocess.Popen(
                [sys.executable, "-m", child.__name__, *arguments],
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=output,
                start_new_session=True,
            )
            return processes[name]

        module = ["-m", CODE, "--location-name", LOCATION]
        code = start("code server", "dagster", "code-server", "start", "--socket", str(address), *module)
        _wait_until("code server", lambda: _accepts(address), code, log)
        # Not in the home, which another `dev` may use: Dagster reads the file again at each reload.
        workspace = address.with_name("workspace.yaml")
        write_workspace(workspace, {"grpc_server": {"socket": str(address), "location_name": LOCATION}})
        arguments = ["--workspace", str(workspace)]

        def start_daemon() -> None:
            start(DAEMON, "sales_assets.cli", "daemon", *arguments, stdout=subprocess.PIPE)

        start_daemon()
        web = start("UI", "dagster_webserver", *arguments, "--host", "127.0.0.1", "--port", str(port))
        _wait_until("UI", lambda: _answers(url), web, log)
        yield Ui(url, processes, log, start_daemon)


def serve_ui(
    port: int,
    home: Path,
    *,
    sensors: Sequence[str] = (),
    on_ready: Callable[[str], None],
    notify: Callable[[str], None],
) -> NoReturn:
    """Run the Dagster UI, with the sensors switched on, until Ctrl-C, SIGTERM or SIGHUP. Raises `UiError`.

    `on_ready` gets the URL; `notify` gets the role of the daemon, at first and at each change.
    """
    with ui_running(port, home) as ui:
        for sensor in sensors:
            start_sensor(ui.url, sensor)
        on_ready(ui.url)
        ui.wait(notify)


def write_workspace(file: Path, location: Mapping[str, object]) -> None:
    """Write a workspace file with one code location. JSON is YAML."""
    file.write_text(json.dumps({"load_from": [location]}, indent=2), encoding="utf-8")


def _require_short_temporary_folder() -> None:
    """Raise UiError if TMPDIR is too long for the path of a socket; Dagster would show a page of traceback."""
    folder = tempfile.gettempdir()
    longest = _LONGEST_SOCKET_PATH - len(f"/{tempfile.gettempprefix()}12345678/{_SOCKET}")
    if len(os.fsencode(folder)) > longest:
        raise UiError(
            f"TMPDIR is too long for Dagster's sockets ({folder}): set it to a path of at most {longest} bytes"
        )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _wait_until(name: str, is_ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _STARTUP_SECONDS
    while not is_ready():
        if process.poll() is not None:
            raise UiError(f"the {name} exited with code {process.returncode}; see {log}")
        if time.monotonic() > deadline:
            raise UiError(f"the {name} did not respond within {_STARTUP_SECONDS} s; see {log}")
        time.sleep(0.2)


def _accepts(address: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(address))
        except OSError:
            return False
    return True


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/server_info", timeout=2).ok
    except requests.RequestException:
        return False


def end_groups(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """Interrupt the process groups of these leaders together, then kill the remaining processes."""
    processes = list(processes)
    for number, patience in ((signal.SIGINT, _SHUTDOWN_SECONDS), (signal.SIGKILL, 5)):
        for process in processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        deadline = time.monotonic() + patience
        while any(map(_group_lives, processes)) and time.monotonic() < deadline:
            time.sleep(0.1)
    for process in processes:
        process.wait()


def _group_lives(process: subprocess.Popen[bytes]) -> bool:
    process.poll()  # otherwise a zombie would count as alive
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
