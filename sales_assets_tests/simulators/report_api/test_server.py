"""Simulator as a process: starts fast, prints one line, and stops on a signal."""

import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import requests

from sales_assets.services.http.server import running, serve
from sales_assets.simulators.report_api.app import ReportApi
from sales_assets_tests.simulators.report_api.conftest import HEADERS, KEY, orders, write

pytestmark = pytest.mark.external

PROGRAM = """
import sys
from pathlib import Path
from sales_assets.simulators.report_api.app import ReportApi
from sales_assets.services.http.server import serve
heavy = {"dagster", "numpy", "pandas", "pyarrow", "sqlalchemy"} & set(sys.modules)
assert not heavy, heavy
serve(ReportApi(Path(sys.argv[1]), api_key=sys.argv[2]), on_ready=lambda url: print(url, flush=True))
print("cleaned up")
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_process_imports_little_responds_and_stops_cleanly(tmp_path: Path, how: signal.Signals) -> None:
    """The start is fast because the process imports no heavy package, which the program itself asserts."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path), KEY],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            url = process.stdout.readline().strip()
            with requests.Session() as session:
                # The session keeps its connection open, which must not delay the shutdown.
                response = session.post(f"{url}/generate_report", headers=HEADERS, timeout=60)
                assert response.status_code == 200
                process.send_signal(how)
                rest, errors = process.stdout.read(), process.stderr.read()
            assert process.wait(60) == 0
            assert (rest, errors) == ("cleaned up\n", "")
        finally:
            process.kill()


def test_taken_port_is_an_error_at_once(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(OSError, match="is taken: choose another with --port"),
    ):
        serve(ReportApi(tmp_path, api_key=KEY), port=other.getsockname()[1])


def test_running_stops_at_the_end_of_its_block_while_a_client_reads(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "main" / "user_orders_log.csv", orders(*["2024-09-08"] * 200_000))
    with running(ReportApi(tmp_path, api_key=KEY, report_seconds=0)) as url:
        task = requests.post(f"{url}/generate_report", headers=HEADERS, timeout=5).json()
        report = requests.get(f"{url}/get_report", params=task, headers=HEADERS, timeout=5).json()["data"]
        stalled = requests.get(report["s3_path"]["user_orders_log"], stream=True, timeout=5)
        before = time.monotonic()
    assert time.monotonic() - before < 5
    stalled.close()
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert not [thread for thread in threading.enumerate() if thread.name == "report-api"]
    with pytest.raises(requests.ConnectionError):
        requests.post(f"{url}/generate_report", headers=HEADERS, timeout=5)
