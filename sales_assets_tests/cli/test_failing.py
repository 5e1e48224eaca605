"""Errors of the command: one sentence on stderr, a traceback only with --debug."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from dagster import DagsterExecutionInterruptedError

from sales_assets.postgres import explanation
from sales_assets_tests.cli.conftest import Run
from sales_assets_tests.cli.processes import Command

DAY = "2024-10-01"


def one_sentence(done: subprocess.CompletedProcess[str]) -> str:
    """Check that a command failed with a single error line; return that line."""
    assert done.returncode == 1, done
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    return lines[0].removeprefix("error: ")


def test_database_error_is_one_sentence(run_with_warehouse: Run, query: Callable[..., object]) -> None:
    query("DROP TABLE staging.quarantine CASCADE")
    assert one_sentence(run_with_warehouse("quarantine", "list")) == 'relation "staging.quarantine" does not exist'


def test_a_full_disk(run_with_warehouse: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "/data/x")

    monkeypatch.setattr(explanation, "explain", full)
    assert one_sentence(run_with_warehouse("why", DAY)) == "/data/x: No space left on device"


def test_a_mapping_file_in_another_encoding(run_with_warehouse: Run, tmp_path: Path) -> None:
    file = tmp_path / "mapping.csv"
    file.write_bytes("kind,theirs,ours\nitem,Молоко,3\n".encode("cp1251"))
    error = one_sentence(run_with_warehouse("orders", "map", str(file)))
    assert "unexpected error" not in error


@pytest.mark.parametrize("arguments", [("--debug", "why", DAY), ("why", DAY, "--debug")], ids=" ".join)
def test_a_bug(run_with_warehouse: Run, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    def raise_key_error(*_: object) -> None:
        raise KeyError("fetch_id")

    monkeypatch.setattr(explanation, "explain", raise_key_error)
    error = (
        "unexpected error, probably a bug in sales_assets: KeyError: 'fetch_id' "
        "(`sales-assets --debug ...` shows where)"
    )
    assert one_sentence(run_with_warehouse("why", DAY)) == error
    with_traceback = run_with_warehouse(*arguments)
    assert with_traceback.returncode == 1
    assert with_traceback.stderr.startswith("Traceback (most recent call last):")
    assert with_traceback.stderr.endswith(f"error: {error}\n")


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, DagsterExecutionInterruptedError])
def test_ctrl_c(run_with_warehouse: Run, monkeypatch: pytest.MonkeyPatch, interrupt: type[BaseException]) -> None:
    """Ctrl-C exits with 130 and without output, also while an op runs, when Dagster raises a separate exception."""

    def interrupted(*_: object) -> None:
        raise interrupt

    monkeypatch.setattr(explanation, "explain", interrupted)
    done = run_with_warehouse("why", DAY)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_closed_output_pipe_ends_the_command_silently(command: Command, query: Callable[..., object]) -> None:
    """Run `quarantine list --json | head -n 1` with more output than a pipe buffers."""
    query(
        """WITH answer AS (
               INSERT INTO raw.delivery (kind, first_day, last_day, outcome)
               VALUES ('increment', '2024-10-01', '2024-10-01', 'delivered') RETURNING delivery_id, first_day)
           INSERT INTO raw.fetch (fetch_id, delivery_id, file, kind, first_day, last_day, url, path, sha256, bytes,
                                  line_count, fetched_at)
           SELECT 1, delivery_id, 'user_orders_log', 'increment', first_day, first_day, '', '', '', 1, 1, now()
           FROM answer"""
    )
    query(
        """INSERT INTO staging.quarantine (fetch_id, line_no, reason, line_text)
           SELECT 1, n, 'bad', repeat('x', 1000) FROM generate_series(1, 1000) AS n"""
    )
    listing = f"{sys.executable} -m sales_assets.cli quarantine list --json"
    done = subprocess.run(
        ["bash", "-c", f"{listing} | head -n 1; echo ${{PIPESTATUS[0]}}"],
        cwd=command.outside[0], capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    row, code = done.stdout.splitlines()
    assert row.startswith('{"quarantine_id": 1, ')
    assert (code, done.stderr) == ("1", "")
