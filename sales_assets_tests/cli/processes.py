"""Run `sales-assets` as a process, and find every process that it left running."""

import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import pytest

import sales_assets.definitions
from sales_assets import cli
from sales_assets import settings as settings_module
from sales_assets.cli import load
from sales_assets.postgres.embedded import EmbeddedPostgres
from sales_assets_tests.builders import definitions

SECONDS = 120

_LISTEN = "0A"  # state LISTEN of a socket in /proc/net/tcp


def run_command_in_process(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> subprocess.CompletedProcess[str]:
    """Run the command in this process, which saves seconds; for tests that check only its output and exit code."""
    # Set by monkeypatch, so that values set by the command are undone after the test.
    defaults = {"DAGSTER_HOME": "", "DAGSTER_STORAGE_URL": "", "DAGSTER_EVENT_BATCH_SIZE": "100"}
    defaults |= {"DAGSTER_DISABLE_TELEMETRY": "1", "DAGSTER_BACKFILL_RETRY_DEFINITION_CHANGED_ERROR": "1"}
    for name, value in defaults.items():
        monkeypatch.setenv(name, os.environ.get(name, value))
    for module in (load, sales_assets.definitions):
        monkeypatch.setattr(module, "defs", definitions)
    monkeypatch.setattr(sys, "argv", ["sales-assets", *arguments])
    settings_module.settings.cache_clear()
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli.main()
    settings_module.settings.cache_clear()
    captured = capsys.readouterr()
    code = ended.value.code
    return subprocess.CompletedProcess(
        list(arguments), code if isinstance(code, int) else 1, captured.out, captured.err
    )


def listening(processes: Iterable[int]) -> set[str]:
    """Return the TCP addresses that processes listen on, as in /proc: "127.0.0.1:3000", "::1:3000"."""
    found = set()
    for number in processes:
        with suppress(OSError):
            entry = Path(f"/proc/{number}")
            sockets = {str(descriptor.readlink()) for descriptor in (entry / "fd").iterdir()}
            for table in ("tcp", "tcp6"):
                for line in (entry / "net" / table).read_text().splitlines()[1:]:
                    _, local, _, state, *rest = line.split()
                    if state == _LISTEN and f"socket:[{rest[5]}]" in sockets:
                        found.add(_address(local))
    return found


def _address(text: str) -> str:
    """Parse an address of /proc/net/tcp: 32-bit words in the byte order of the machine."""
    host, _, port = text.partition(":")
    words = [bytes.fromhex(host[n : n + 8])[::-1] for n in range(0, len(host), 8)]
    return f"{ipaddress.ip_address(b''.join(words))}:{int(port, 16)}"


def beyond_this_machine(addresses: Iterable[str]) -> list[str]:
    """Return the addresses that other machines can reach."""
    return [text for text in addresses if not ipaddress.ip_address(text.rpartition(":")[0]).is_loopback]


def as_in_the_foreground() -> None:
    """Restore SIGINT, which shells ignore in background jobs; while it is ignored, Dagster ignores SIGTERM as well."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("│")[1:-1]]


def table(text: str, *columns: str) -> list[list[str]]:
    """Return the rows of the printed table whose first columns are these."""
    lines = text.splitlines()
    start = next(
        n for n, line in enumerate(lines) if [c.strip() for c in line.split("┃")[1:-1]][: len(columns)] == [*columns]
    )
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("│"):
            break
        rows.append(cells(line))
    return [row for row in rows if row[0]]


class Command:
    """Run the command in a separate folder, which also contains HOME and TMPDIR.

    Attributes:
        outside: Folders that no command may write to: the working directory, HOME and TMPDIR.
    """

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.outside = [folder / name for name in ("here", "user", "tmp")]
        for place in self.outside:
            place.mkdir()

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command; wait until it has exited and all its child processes have closed its output."""
        return subprocess.run(
            self._line(arguments),
            cwd=self.outside[0],
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the command as a session leader, as a terminal does."""
        return subprocess.Popen(
            self._line(arguments),
            cwd=self.outside[0],
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    @staticmethod
    def _line(arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "sales_assets.cli", *arguments]

    def _environment(self) -> dict[str, str]:
        _, user, temporary = (str(place) for place in self.outside)
        return os.environ | {"HOME": user, "TMPDIR": temporary, "PYTHONWARNINGS": "ignore"}

    def files_outside(self) -> list[str]:
        return [str(path) for place in self.outside for path in place.rglob("*")]

    def processes(self) -> dict[int, str]:
        """Return {pid: command line} of all processes started with this SALES_HOME, without zombies."""
        mark = f"SALES_HOME={self.home}\0".encode()
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if int(entry.name) != os.getpid() and mark in (entry / "environ").read_bytes() + b"\0":
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        return {number: line for number, line in found.items() if line}

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until the condition holds, with growing pauses: `processes` reads the environment of every process."""
        deadline = time.monotonic() + SECONDS
        pause = 0.02
        while not condition():
            assert time.monotonic() < deadline, f"timed out waiting until {what}; running: {self.processes()}"
            time.sleep(pause)
            pause = min(2 * pause, 0.2)

    def kill_remaining(self) -> None:
        for number in self.processes():
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)


def assert_no_process_left(command: Command) -> None:
    command.wait_until(lambda: not command.processes(), "all processes of the home are gone")
    # PostgreSQL's processes overwrite their environment, so `processes` does not find them.
    assert not EmbeddedPostgres(command.home / "postgres").is_running()
