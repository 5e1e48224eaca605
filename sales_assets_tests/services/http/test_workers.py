"""Supervisor of several worker processes; `cli/test_api_workers.py` tests the command."""

import subprocess
import sys

import pytest
from starlette.types import ASGIApp

from sales_assets.services.http.workers import serve_by_processes, shared_metrics


def broken_application() -> ASGIApp:
    raise ValueError("no such setting")


def serve_broken() -> None:
    with shared_metrics() as folder:
        serve_by_processes(
            broken_application, 2, host="127.0.0.1", port=0, trusted_proxies=[], metrics=folder, on_ready=print
        )


@pytest.mark.external
def test_an_application_that_cannot_start_ends_the_parent() -> None:
    code = f"from {__name__} import serve_broken; serve_broken()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "ValueError: no such setting" in done.stderr
    assert done.stderr.rstrip().endswith("WorkerError: a process of the service did not start")
