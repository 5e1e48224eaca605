"""Dagster's UI as a child process: signal handling, and errors at the start."""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sales_assets.deploy.ui import UiError, ui_running
from sales_assets_tests.cli.processes import free_port

pytestmark = pytest.mark.external

# A program that shuts down like `dev` and receives three more signals during its cleanup.
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_further_signals_do_not_interrupt_the_cleanup(number: signal.Signals) -> None:
    process = subprocess.Popen([sys.executable, "-c", _CLEANING_UP], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    assert out == "cleaned up\n"


def test_a_too_long_tmpdir_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with (
        pytest.raises(UiError, match=r"^TMPDIR is too long for Dagster's sockets .* at most 89 bytes$"),
        ui_running(free_port(), tmp_path),
    ):
        pass
