"""`sales-assets demo` and `dev`: everything from nothing, and nothing left: no process, no file outside the home."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from sales_assets import settings as settings_module
from sales_assets.commands.demo import demo_loaded
from sales_assets.defs.progress import Progress
from sales_assets.embedded import EmbeddedPostgres
from sales_assets.settings import SettingsError
from sales_assets_tests.commands.running import Command

# The parent of what `dev` starts: it is told to end in the midst of its cleaning up, twice.
_CLEANING_UP = """
import os, signal, sys, time
from sales_assets.deploy.ui import end_on_signals
end_on_signals()
try:
    print("started", flush=True)
    time.sleep(60)
finally:
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), number)
        time.sleep(0.02)
    print("cleaned up", flush=True)
"""


@pytest.fixture(autouse=True)
def _no_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo brings its own report API, and a key for it."""
    monkeypatch.delenv("REPORT_API_KEY")
    monkeypatch.delenv("REPORT_API_PATIENCE")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def no_process_is_left(command: Command) -> None:
    command.wait_until(lambda: not command.processes(), "all processes of the home are gone")
    # PostgreSQL's processes write over their environment, by which the others are found.
    assert not EmbeddedPostgres(command.home / "postgres").is_running()


def test_the_demo_once_shows_sales_and_leaves_nothing_running(command: Command) -> None:
    done = command("demo", "--once")
    assert done.returncode == 0, done.stderr
    assert re.search(r"│ days asked +│ 30 ", done.stdout)
    assert "the last days" in done.stdout
    assert "net amount per day" in done.stdout
    assert "█" in done.stdout
    assert "starting PostgreSQL" in done.stderr
    assert command.processes() == {}
    assert not EmbeddedPostgres(command.home / "postgres").is_running()
    assert command.written_outside() == []

    told = command("doctor").stdout
    command("warehouse", "stop")
    assert "home: holds generated data" in told


def test_the_demo_with_ui_ends_as_a_whole_when_its_terminal_dies(command: Command) -> None:
    port = free_port()
    demo = command.start("demo", "--port", str(port))
    assert demo.stdout is not None
    said = ""
    while f"Dagster UI: http://127.0.0.1:{port}" not in said:
        said = demo.stdout.readline()
        assert said, demo.communicate()[1]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info", timeout=30) as answer:
        assert answer.status == 200
    assert len(command.processes()) > 5
    os.killpg(demo.pid, signal.SIGHUP)
    demo.communicate(timeout=90)
    no_process_is_left(command)
    assert command.written_outside() == []


def test_dev_ends_what_it_has_started_before_it_is_ready(command: Command) -> None:
    dev = command.start("dev", "--port", str(free_port()))
    command.wait_until(
        lambda: any("dagster dev" in line for line in command.processes().values()), "dagster dev is started"
    )
    dev.send_signal(signal.SIGTERM)
    _, errors = dev.communicate(timeout=90)
    assert "Traceback" not in errors
    no_process_is_left(command)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_further_signals_do_not_break_off_the_cleaning_up(number: signal.Signals) -> None:
    process = subprocess.Popen([sys.executable, "-c", _CLEANING_UP], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    assert out == "cleaned up\n"


def test_a_taken_port_ends_dev_with_the_server_that_it_started(command: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = command("dev", "--port", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"error: port {port} is taken: choose another with --port" in done.stderr
    no_process_is_left(command)


def test_the_demo_keeps_away_from_a_home_that_it_did_not_make() -> None:
    home = settings_module.settings().sales_home
    (home / "postgres" / "data").mkdir(parents=True)
    with (
        pytest.raises(SettingsError, match="holds a warehouse that the demo did not make"),
        demo_loaded(Progress(), once=True),
    ):
        pytest.fail("it was started")
    assert not (home / "DEMO").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WAREHOUSE_URL", "postgresql://h/d"),
        ("DAGSTER_STORAGE_URL", "postgresql://h/d"),
        ("RAW_FILES_URL", "memory://elsewhere"),
    ],
)
def test_the_demo_keeps_away_from_what_lies_outside_its_home(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    settings_module.settings.cache_clear()
    with (
        pytest.raises(SettingsError, match=f"{name} is set: the demo keeps all it makes in SALES_HOME"),
        demo_loaded(Progress(), once=True),
    ):
        pytest.fail("it was started")
    assert not settings_module.settings().sales_home.exists()
