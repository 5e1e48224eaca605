"""`sales-assets env`: the output for `eval` and for `.env` files."""

from pathlib import Path

import pytest

from sales_assets_tests.cli.conftest import Run

PASSWORD = "pa%23ss-of-the-warehouse"


def test_the_environment_is_printed_for_a_shell_and_without_secrets(
    run_in_process: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("REPORT_API_NICKNAME=shop\n", encoding="utf-8")
    monkeypatch.setenv("SALES_HOME", str(tmp_path / "my 'home'"))
    monkeypatch.setenv("WAREHOUSE_URL", f"postgresql://u:{PASSWORD}@127.0.0.1:1/d")  # the command opens no connection
    done = run_in_process("env")
    assert (done.returncode, done.stderr) == (0, "")
    quoted = f"{tmp_path}/my '\"'\"'home'\"'\"'"
    assert done.stdout.splitlines() == [
        f"export DAGSTER_HOME='{quoted}/dagster'",
        f"export SALES_HOME='{quoted}'",
        f"export SALES_ENV_FILE={tmp_path}/.env",
        "export DAGSTER_EVENT_BATCH_SIZE=100",
        "export DAGSTER_DISABLE_TELEMETRY=1",
        "export DAGSTER_BACKFILL_RETRY_DEFINITION_CHANGED_ERROR=1",
        "export MALLOC_ARENA_MAX=2",
    ]
    written = run_in_process("env", "--format", "dotenv").stdout
    assert written.splitlines()[0] == f"DAGSTER_HOME='{tmp_path}/my \\'home\\'/dagster'"
    assert PASSWORD not in done.stdout + written
