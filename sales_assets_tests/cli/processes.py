"""Running `sales-assets` as a process, and finding every process that it left."""

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

_LISTEN = "0A"  # state of a socket in /proc/net/tcp


def run_here(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> subprocess.CompletedProcess[str]:
    """Run the command in this process, where nothing but its words and its end is looked at: it saves seconds."""
    # Set here, so that what the command sets goes with the test.
    defaults = {"DAGSTER_HOME": "", "DAGSTER_STORAGE_URL": "", "DAGSTER_EVENT_BATCH_SIZE": "100"}
    for name, value in (defaults | {"DAGSTER_DISABLE_TELEMETRY": "1"}).items():
        monkeypatch.setenv(name, os.environ.get(name, value))
    for module in (load, sales_assets.definitions):
        monkeypatch.setattr(module, "defs", definitions)
    monkeypatch.setattr(sys, "argv", ["sales-assets", *arguments])
    settings_module.settings.cache_clear()
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli.main()
    settings_module.settings.cache_clear()
    told = capsys.readouterr()
    code = ended.value.code
    return subprocess.CompletedProcess(list(arguments), code if isinstance(code, int) else 1, told.out, told.err)


def listening(processes: Iterable[int]) -> set[str]:
    """The addresses that processes listen on by TCP, as the kernel knows them: "127.0.0.1:3000", "::1:3000"."""
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
    """An address as the kernel writes it: 32 bits at a time, each in the machine's own order."""
    host, _, port = text.partition(":")
    words = [bytes.fromhex(host[n : n + 8])[::-1] for n in range(0, len(host), 8)]
    return f"{ipaddress.ip_address(b''.join(words))}:{int(port, 16)}"


def beyond_this_machine(addresses: Iterable[str]) -> list[str]:
    """Those that others can reach."""
    return [text for text in addresses if not ipaddress.ip_address(text.rpartition(":")[0]).is_loopback]


def as_in_the_foreground() -> None:
    """Undo what a shell does to its background jobs: they ignore SIGINT, and Dagster's processes then SIGTERM too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("│")[1:-1]]


def table(text: str, *columns: str) -> list[list[str]]:
    """The rows of the printed table with these columns first."""
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
    """Runs the command in a folder of its own; HOME and TMPDIR point into it as well.

    Attributes:
        outside: Folders that no command may write to: the current one, the user's home, the one for temporary files.
    """

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.outside = [folder / name for name in ("here", "user", "tmp")]
        for place in self.outside:
            place.mkdir()

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end. Output is read to its end, so whoever keeps it open is waited for."""
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
        """Start it, as the leader of a session, as a terminal does."""
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

    def written_outside(self) -> list[str]:
        return [str(path) for place in self.outside for path in place.rglob("*")]

    def processes(self) -> dict[int, str]:
        """{process number: command line} of everything that was started with this home, zombies left out."""
        mark = f"SALES_HOME={self.home}\0".encode()
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if int(entry.name) != os.getpid() and mark in (entry / "environ").read_bytes() + b"\0":
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        return {number: line for number, line in found.items() if line}

    def wait_until(self, happened: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + SECONDS
        while not happened():
            assert time.monotonic() < deadline, f"in vain: {what}; running: {self.processes()}"
            time.sleep(0.05)

    def kill_what_is_left(self) -> None:
        for number in self.processes():
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)


def no_process_is_left(command: Command) -> None:
    command.wait_until(lambda: not command.processes(), "all processes of the home are gone")
    # PostgreSQL's processes write over their environment, by which the others are found.
    assert not EmbeddedPostgres(command.home / "postgres").is_running()
