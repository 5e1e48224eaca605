"""Failures of the command: one sentence on stderr, a traceback only with --debug."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from dagster import DagsterExecutionInterruptedError

from sales_assets.cli import why
from sales_assets_tests.cli.conftest import Run
from sales_assets_tests.cli.processes import Command

DAY = "2024-10-01"


def one_sentence(done: subprocess.CompletedProcess[str]) -> str:
    """The error of a command that failed as it should."""
    assert done.returncode == 1, done
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    return lines[0].removeprefix("error: ")


def test_an_error_of_the_database(loading_here: Run, query: Callable[..., object]) -> None:
    query("DROP TABLE staging.quarantine")
    assert one_sentence(loading_here("quarantine", "list")) == 'relation "staging.quarantine" does not exist'


def test_a_full_disk(loading_here: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "/data/x")

    monkeypatch.setattr(why, "explain", full)
    assert one_sentence(loading_here("why", DAY)) == "/data/x: No space left on device"


def test_a_mapping_file_in_another_encoding(loading_here: Run, tmp_path: Path) -> None:
    file = tmp_path / "mapping.csv"
    file.write_bytes("kind,theirs,ours\nitem,Молоко,3\n".encode("cp1251"))
    told = one_sentence(loading_here("orders", "map", str(file)))
    assert "unexpected error" not in told


@pytest.mark.parametrize("arguments", [("--debug", "why", DAY), ("why", DAY, "--debug")], ids=" ".join)
def test_a_bug(loading_here: Run, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    def mistaken(*_: object) -> None:
        raise KeyError("fetch_id")

    monkeypatch.setattr(why, "explain", mistaken)
    told = (
        "unexpected error, probably a bug in sales_assets: KeyError: 'fetch_id' "
        "(`sales-assets --debug ...` shows where)"
    )
    assert one_sentence(loading_here("why", DAY)) == told
    with_traceback = loading_here(*arguments)
    assert with_traceback.returncode == 1
    assert with_traceback.stderr.startswith("Traceback (most recent call last):")
    assert with_traceback.stderr.endswith(f"error: {told}\n")


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, DagsterExecutionInterruptedError])
def test_ctrl_c(loading_here: Run, monkeypatch: pytest.MonkeyPatch, interrupt: type[BaseException]) -> None:
    """Also while an op runs, which Dagster reports by an exception of its own."""

    def interrupted(*_: object) -> None:
        raise interrupt

    monkeypatch.setattr(why, "explain", interrupted)
    done = loading_here("why", DAY)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_reader_that_has_seen_enough(command: Command, query: Callable[..., object]) -> None:
    """`quarantine list --json | head -n 1`, with more than a pipe holds."""
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
