"""`sales-assets migrate`: upgrade, downgrade and list of revisions."""

from collections.abc import Callable

import pytest

from sales_assets.postgres import migrations
from sales_assets_tests.cli.conftest import Run


def test_warehouse_is_upgraded_and_downgraded(
    run_in_process: Run, new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAREHOUSE_URL", new_database("template1"))
    latest = migrations.latest_revision()
    results = [run_in_process("migrate", *arguments) for arguments in ([], [], ["--to", "0003"], ["--to", "base"])]
    assert [done.returncode for done in results] == [0] * 4
    assert [done.stdout for done in results] == [
        f"the warehouse was migrated from revision base to {latest}\n",
        f"the warehouse is at revision {latest} already\n",
        f"the warehouse was migrated from revision {latest} to 0003\n",
        "the warehouse was migrated from revision 0003 to base\n",
    ]


def test_revisions_are_listed_without_a_warehouse(run_in_process: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAREHOUSE_URL", "postgresql://127.0.0.1:1/nowhere")
    done = run_in_process("migrate", "--list")
    assert done.returncode == 0
    listed = [line.split("  ", 1) for line in done.stdout.splitlines()]
    assert [revision for revision, _ in listed] == [revision for revision, _ in migrations.revisions()]
    assert ["0004", "f_sales learns status and source; old readers and writers go on."] in listed


def test_unknown_revision_is_an_error(
    run_in_process: Run, new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAREHOUSE_URL", new_database("template1"))
    done = run_in_process("migrate", "--to", "9999")
    assert (done.returncode, done.stdout) == (1, "")
    assert "error: there is no revision '9999'; known are base, 0001" in done.stderr
