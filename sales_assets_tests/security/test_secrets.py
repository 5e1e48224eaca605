"""API key, passwords and signed parameters are not stored or printed anywhere, after successful and failed runs.

The test searches the output of the command, every file below its home, every row of the warehouse and of Dagster's
storage (the source of all that the UI and GraphQL show), and the command lines of the processes.
"""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from sales_assets import settings as settings_module
from sales_assets.services.http.server import running
from sales_assets.simulators.report_api.app import ReportApi
from sales_assets.simulators.report_api.faults import Faults
from sales_assets_tests.builders import Order, ReportFolderBuilder
from sales_assets_tests.cli.conftest import command
from sales_assets_tests.cli.processes import Command
from sales_assets_tests.fixtures import stored_files

__all__ = ["command"]

KEY, PASSWORD, WRONG_KEY = "key-c0ffee-0f-the-shop", "pa55word-0f-the-shop", "wr0ng-key-0f-the-shop"
SECRETS = (KEY, PASSWORD, WRONG_KEY, "X-Amz-", "AWS4-HMAC")
DAYS = ("--from", "2024-10-01", "--to", "2024-10-02")


def cells(url: str) -> Iterator[str]:
    """Yield each row of each table as text."""
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT table_schema, table_name FROM information_schema.tables"
            " WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        for schema, table in tables:
            name = sql.Identifier(schema, table)
            for (row,) in connection.execute(sql.SQL("SELECT t::text FROM {} AS t").format(name)):
                yield f"{schema}.{table}: {row}"


def found_in(texts: Iterator[str]) -> list[str]:
    return [text[:300] for text in texts if any(secret in text for secret in SECRETS)]


@pytest.fixture
def leaky_api(reports: ReportFolderBuilder, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReportApi]:
    api = ReportApi(reports.folder, api_key=KEY, report_seconds=0)
    with running(api) as url:
        monkeypatch.setenv("REPORT_API_URL", url)
        settings_module.settings.cache_clear()
        yield api


def test_no_secret_is_stored_or_printed(
    command: Command,
    leaky_api: ReportApi,
    reports: ReportFolderBuilder,
    warehouse_url: str,
    new_database: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    storage = new_database("template1")
    monkeypatch.setenv("WAREHOUSE_URL", f"{warehouse_url}&password={PASSWORD}")
    monkeypatch.setenv("DAGSTER_STORAGE_URL", f"{storage}&password={PASSWORD}")
    reports.report([Order("r", day="2024-09-30")])
    reports.increment("2024-10-01", [Order("a"), "a bad line"])
    reports.increment("2024-10-02", [Order("b", day="2024-10-02")])

    lines: set[str] = set()
    ended = threading.Event()

    def watch_processes() -> None:
        while not ended.wait(0.05):
            lines.update(command.processes().values())

    watcher = threading.Thread(target=watch_processes)
    watcher.start()
    try:
        printed = []
        for faults, key, good in (
            (Faults(), KEY, True),
            (Faults(cut=1, expired_links=1), KEY, False),
            (Faults(), WRONG_KEY, False),
        ):
            leaky_api.faults = faults
            monkeypatch.setenv("REPORT_API_KEY", key)
            done = command("load", *DAYS)
            assert (done.returncode == 0) is good, done.stderr
            printed += [done.stdout, done.stderr]
        monkeypatch.setenv("WAREHOUSE_URL", f"{warehouse_url.replace('user=sales', 'user=nobody')}&password={PASSWORD}")
        done = command("doctor")
        assert done.returncode == 1
        printed += [done.stdout, done.stderr]
    finally:
        ended.set()
        watcher.join()

    assert any("load --from" in line for line in lines)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    stored = stored_files()
    assert any(path.endswith(".json") for path in stored)
    assert found_in(iter([*printed, *lines])) == []
    assert found_in(path.read_text(errors="replace") for path in files) == []
    assert found_in(contents.decode(errors="replace") for contents in stored.values()) == []
    stored_cells = [*cells(warehouse_url), *cells(storage)]
    assert any(row.startswith("public.event_logs") for row in stored_cells)
    assert found_in(iter(stored_cells)) == []
