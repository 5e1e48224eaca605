"""`sales-assets report-api`: starts within seconds, and stops with every terminating signal."""

import signal
from pathlib import Path

import pytest
import requests

from sales_assets_tests.builders import Order, ReportFolderBuilder
from sales_assets_tests.cli.processes import Command
from sales_assets_tests.conftest import KEY

HEADERS = {"X-Nickname": "n", "X-Cohort": "1", "X-Project": "True", "X-API-KEY": KEY}


def test_a_folder_is_served_until_stopped(command: Command, reports: ReportFolderBuilder) -> None:
    reports.report([Order("a")])
    api = command.start("report-api", "--data", str(reports.folder), "--port", "0")
    assert api.stdout is not None
    url = api.stdout.readline().removeprefix("report API: ").strip()
    assert "task_id" in requests.post(f"{url}/generate_report", headers=HEADERS, timeout=5).json()
    api.send_signal(signal.SIGTERM)
    out, errors = api.communicate(timeout=20)
    assert (api.returncode, out, errors) == (0, "", "")
    assert command.files_outside() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_generated_files_are_removed_with_the_command(command: Command, number: signal.Signals) -> None:
    api = command.start("report-api", "--generated", "--lines-per-day", "1", "--port", "0")
    assert api.stdout is not None
    assert api.stdout.readline().startswith("report API: http://127.0.0.1:")
    assert list(Path(command.home / "generated").iterdir())
    api.send_signal(number)
    _, errors = api.communicate(timeout=20)
    assert "Traceback" not in errors
    assert list(Path(command.home / "generated").iterdir()) == []


def test_a_taken_port_is_reported(command: Command, reports: ReportFolderBuilder) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = command("report-api", "--data", str(reports.folder), "--port", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: port {port} is taken: choose another with --port\n"
