"""`sales-assets dev`: restarts its daemon, and stops every process that it has started."""

import os
import signal
import socket
import subprocess
from collections.abc import Callable

import pytest

from sales_assets.deploy.daemon import WORKING
from sales_assets_tests.cli.processes import Command, assert_no_process_left, free_port


@pytest.fixture(autouse=True)
def _no_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset the key of the report API, which `dev` must not need."""
    monkeypatch.delenv("REPORT_API_KEY")
    monkeypatch.delenv("REPORT_API_PATIENCE")


def test_dev_ends_what_it_has_started_before_it_is_ready(command: Command) -> None:
    dev = command.start("dev", "--port", str(free_port()))
    command.wait_until(
        lambda: any("dagster_webserver" in line for line in command.processes().values()), "the UI is started"
    )
    dev.send_signal(signal.SIGTERM)
    _, errors = dev.communicate(timeout=90)
    assert "Traceback" not in errors
    assert_no_process_left(command)


def test_taken_port_stops_dev_and_its_database_server(command: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = command("dev", "--port", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"error: port {port} is taken: choose another with --port" in done.stderr
    assert_no_process_left(command)


def test_dev_restarts_its_daemon_and_leaves_no_process_when_killed(
    loading: Command, new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_STORAGE_URL", new_database("template1"))  # its daemon's heartbeats remain
    dev = loading.start("dev", "--port", str(free_port()))
    assert _next_line(dev).startswith("Dagster UI: ")
    assert _next_line(dev) == WORKING
    os.kill(_daemon(loading), signal.SIGKILL)
    assert _next_line(dev).startswith("the daemon exited with code -9 and is started again")
    assert _next_line(dev) == WORKING
    assert _daemon(loading)
    dev.kill()
    dev.communicate(timeout=90)
    loading.wait_until(lambda: not loading.processes(), "all processes of the home are gone")


def _daemon(command: Command) -> int:
    return next(number for number, line in command.processes().items() if "sales_assets.cli daemon" in line)


def _next_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()
