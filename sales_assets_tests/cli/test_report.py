"""`sales-assets report`: the HTML page for a range of days, written completely or not at all."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pytest

from sales_assets.reports.figures import Overview
from sales_assets_tests.cli.conftest import Run
from sales_assets_tests.reports.conftest import LAST, cache, insert_sale, one_cache

__all__ = ["cache", "insert_sale", "one_cache"]

pytestmark = pytest.mark.external  # Matplotlib runs a program to list the fonts of the machine


def test_the_page_of_a_range_is_written_once(
    insert_sale: Callable[..., None], run_in_process: Run, tmp_path: Path
) -> None:
    insert_sale(LAST)
    insert_sale(LAST - dt.timedelta(days=89))
    insert_sale(LAST - dt.timedelta(days=90))
    file = tmp_path / "sales.html"
    done = run_in_process("report", str(file))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{file}: 80 rows, 2024-07-05 to 2024-10-02\n", "")
    assert "<h1>Sales from 2024-07-05 to 2024-10-02</h1>" in file.read_text(encoding="utf-8")

    again = run_in_process("report", str(file))
    assert (again.returncode, again.stderr) == (1, f"error: {file} exists: --force replaces it\n")
    other = run_in_process("report", "--force", "--from", "2024-10-01", "--to", "2024-10-01", str(file))
    assert (other.returncode, other.stdout) == (0, f"{file}: 0 rows, 2024-10-01 to 2024-10-01\n")
    assert "There are no sales in this period." in file.read_text(encoding="utf-8")


def test_failed_report_writes_no_file(
    insert_sale: Callable[..., None], run_in_process: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "sales.html"
    done = run_in_process("report", "--from", "2024-10-02", "--to", "2024-10-01", str(file))
    assert (done.returncode, done.stderr) == (1, "error: the period is reversed: 2024-10-02 is after 2024-10-01\n")
    monkeypatch.setattr(Overview, "differences", lambda _: ["items: rows 1, in the mart 2"])
    done = run_in_process("report", str(file))
    assert (done.returncode, done.stderr) == (
        1,
        "error: the charts don't equal the mart: items: rows 1, in the mart 2\n",
    )
    assert list(tmp_path.glob("*sales.html*")) == []
