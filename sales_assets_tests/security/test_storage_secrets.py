"""Credentials of an object storage are not stored or printed anywhere, even after the storage refuses requests."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sales_assets.simulators.report_api.app import ReportApi
from sales_assets_tests.builders import Order, ReportFolderBuilder
from sales_assets_tests.cli.conftest import command
from sales_assets_tests.cli.processes import Command
from sales_assets_tests.resources.object_storage import (
    ACCESS_KEY,
    BUCKET,
    SECRET_KEY,
    free_ports,
    run_storage_proxy,
    use_object_storage,
)
from sales_assets_tests.security.test_secrets import cells

__all__ = ["command"]

# "canary" is in the secret key, and in every signature that the proxy in front of the storage repeats.
SECRETS = (ACCESS_KEY, SECRET_KEY, "canary", "AWS4-HMAC", "X-Amz-")
DAYS = ("--from", "2024-10-01", "--to", "2024-10-02")


def found_in(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


@pytest.mark.timeout(600)
def test_no_credential_of_the_storage_is_stored_or_printed(
    command: Command,
    report_api: ReportApi,
    reports: ReportFolderBuilder,
    warehouse_url: str,
    new_database: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    object_storage: str,
) -> None:
    """The credentials are in the location, an error response with request and signed link, and an unreachable URL."""
    storage = new_database("template1")
    monkeypatch.setenv("DAGSTER_STORAGE_URL", storage)
    reports.report([Order("r", day="2024-09-30")])
    reports.increment("2024-10-01", [Order("a"), "a bad line"])
    reports.increment("2024-10-02", [Order("b", day="2024-10-02")])
    runs: list[subprocess.CompletedProcess[str]] = []

    def run(code: int, *arguments: str) -> str:
        done = command(*arguments)
        runs.append(done)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    # The server's own files contain the key, and are outside the searched folders.
    with run_storage_proxy(object_storage) as storage_proxy:
        use_object_storage(monkeypatch, storage_proxy.url, f"s3://{ACCESS_KEY}:{SECRET_KEY}@{BUCKET}/raw")
        output = run(2, "load", *DAYS).strip()
        assert output.startswith("error: RAW_FILES_URL: must be a folder or a URL without user name, password, key")
        assert len(output.splitlines()) == 1

        use_object_storage(monkeypatch, storage_proxy.url, f"s3://{BUCKET}/raw")
        storage_proxy.failing = {"/2024-10-02/": 403}
        output = run(1, "load", *DAYS)
        assert "1 of 2 days failed" in output
        assert "2024-10-02: user_orders_log_inc/2024-10-02: can't be written to s3://" in output
        storage_proxy.failing = {".probe": 403}
        assert f"s3://{BUCKET}/raw can't be written to: " in run(1, "doctor")

        (port,) = free_ports(1)
        use_object_storage(monkeypatch, f"http://{ACCESS_KEY}:{SECRET_KEY}@127.0.0.1:{port}", f"s3://{BUCKET}/raw")
        output = run(1, "load", "--from", "2024-10-02", "--to", "2024-10-02")
        assert "2024-10-02: user_orders_log_inc/2024-10-02: can't be written to s3://" in output

    for done in runs:
        assert found_in(done.stdout + done.stderr) == [], done.args
        assert "Traceback" not in done.stdout + done.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any("compute_logs" in str(path) or "storage" in str(path) for path in files)
    assert {path.name: found_in(path.read_text(errors="replace")) for path in files} == {p.name: [] for p in files}
    rows = [*cells(warehouse_url), *cells(storage)]
    assert any(row.startswith("public.event_logs") for row in rows)
    assert [row[:300] for row in rows if found_in(row)] == []
