"""`sales-assets dev`: it ends with everything that it has started."""

import signal
import socket

import pytest

from sales_assets_tests.cli.processes import Command, free_port, no_process_is_left


@pytest.fixture(autouse=True)
def _no_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo brings its own report API, and a key for it."""
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
    no_process_is_left(command)


def test_a_taken_port_ends_dev_with_the_server_that_it_started(command: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = command("dev", "--port", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"error: port {port} is taken: choose another with --port" in done.stderr
    no_process_is_left(command)
