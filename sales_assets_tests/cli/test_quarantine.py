"""`sales-assets quarantine`: list rejected rows, resolve them one by one or with a file."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sales_assets.simulators.report_api.app import ReportApi
from sales_assets_tests.builders import Order, ReportFolderBuilder
from sales_assets_tests.cli.conftest import Run

Query = Callable[..., list[tuple[object, ...]]]

DAY = "2024-10-01"
# Markup and emoji codes of the printing library, and line separators that do not end a line in CSV and JSON.
MARKUP = "[/bold] :boom: \u2028\x85 [red]"
GOOD, REFUND = Order("a" * 32), Order("b" * 32, amount="10", status="refunded")


@pytest.fixture
def three_rejected_rows(run_with_warehouse: Run, reports: ReportFolderBuilder, report_api: ReportApi) -> Run:
    """One valid row, and three rows rejected for status, amount and quantity."""
    bad = [
        REFUND.but(status="refnuded"),
        Order("c" * 32, amount="1e2", city_name=MARKUP),
        Order("d" * 32, quantity="-1"),
    ]
    reports.increment(DAY, [GOOD, *bad])
    done = run_with_warehouse("load", "--from", DAY, "--to", DAY)
    assert done.returncode == 0, done.stderr
    assert "rows in quarantine" in done.stdout
    return run_with_warehouse


def listed(command: Run, *arguments: str) -> list[dict[str, object]]:
    done = command("quarantine", "list", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.split("\n") if line]


def test_rejected_rows_are_listed_shown_and_resolved_one_by_one(three_rejected_rows: Run, query: Query) -> None:
    command = three_rejected_rows
    table = command("quarantine", "list", "--day", DAY)
    assert table.returncode == 0, table.stderr
    assert "[/bold] :boom:" in table.stdout
    assert "quarantine is empty" in command("quarantine", "list", "--day", "2024-10-02").stdout
    first, second, third = listed(command)
    assert [row["line_no"] for row in (first, second, third)] == [3, 4, 5]

    shown = command("quarantine", "show", str(second["quarantine_id"]))
    assert "[/bold] :boom:" in shown.stdout
    assert "line_no  4" in shown.stdout

    number = str(first["quarantine_id"])
    line = str(first["line_text"]).replace("refnuded", "refunded")
    done = command("quarantine", "replay", number, "--line", line)
    assert (done.returncode, done.stdout) == (0, f"{number}: corrected\n"), done.stderr
    done = command("quarantine", "replay", str(third["quarantine_id"]), "--discard")
    assert (done.returncode, done.stdout) == (0, f"{third['quarantine_id']}: discarded\n"), done.stderr
    assert query("SELECT amount::text, status FROM mart.f_sales ORDER BY amount") == [
        ("-10.00", "refunded"),
        ("200.00", "shipped"),
    ]
    still = command("quarantine", "replay", str(second["quarantine_id"]))
    assert still.returncode == 1
    assert still.stdout.startswith(f"{second['quarantine_id']}: open (")
    assert [row["quarantine_id"] for row in listed(command)] == [second["quarantine_id"]]
    assert len(listed(command, "--all")) == 3


def test_a_list_is_corrected_in_a_file_and_replayed(three_rejected_rows: Run, query: Query, tmp_path: Path) -> None:
    command = three_rejected_rows
    file = tmp_path / "bad lines.jsonl"
    text = command("quarantine", "list", "--json").stdout
    file.write_text(
        text.replace("refnuded", "refunded").replace("1e2", "100").replace(",-1,", ",1,") + "\n", encoding="utf-8"
    )
    for _ in range(2):
        done = command("quarantine", "replay", "--file", str(file))
        assert done.returncode == 0, done.stderr
        assert [line.partition(": ")[2] for line in done.stdout.splitlines()] == ["corrected"] * 3
        assert query("SELECT count(*), sum(amount)::text FROM mart.f_sales") == [(4, "490.00")]
    assert (MARKUP,) in query("SELECT first FROM staging.name WHERE dimension = 'd_city'")


def test_an_inherited_resolution_is_visible(
    three_rejected_rows: Run, reports: ReportFolderBuilder, query: Query
) -> None:
    """The list and `why` show the row whose resolution is inherited; a replay names the rows that inherit it."""
    command = three_rejected_rows
    refund = listed(command)[0]
    number, text = refund["quarantine_id"], str(refund["line_text"])
    assert command("quarantine", "replay", str(number), "--line", text.replace("refnuded", "refunded")).returncode == 0
    reports.increment(DAY, [GOOD, text, Order("e" * 32)])
    done = command("load", "--from", DAY, "--to", DAY)
    assert done.returncode == 0, done.stderr
    assert query("SELECT sum(amount)::text FROM mart.f_sales") == [("390.00",)]
    (inheriting_row,) = [row for row in listed(command, "--all", "--day", DAY) if row["inherited_from"] is not None]
    assert (inheriting_row["state"], inheriting_row["inherited_from"]) == ("corrected", number)
    for output in (command("quarantine", "list", "--all").stdout, command("why", DAY).stdout):
        assert f"corrected, inherited from {number}" in " ".join(output.split())
    done = command("quarantine", "replay", str(number), "--discard")
    assert done.stdout.splitlines() == [
        f"{number}: discarded",
        f"inherited by identical rows of other contents: {inheriting_row['quarantine_id']}",
    ]
    assert query("SELECT sum(amount)::text FROM mart.f_sales") == [("400.00",)]


def test_a_discarded_row_is_reopened(three_rejected_rows: Run, query: Query) -> None:
    """Reopening a row loads its day again, and succeeds although the row is rejected again."""
    command = three_rejected_rows
    number = str(listed(command)[0]["quarantine_id"])
    refused = command("quarantine", "reopen", number)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"{number}: was neither corrected nor discarded" in refused.stderr
    assert command("quarantine", "replay", number, "--discard").returncode == 0
    assert len(listed(command)) == 2
    done = command("quarantine", "reopen", number)
    assert (done.returncode, done.stdout) == (0, f"{number}: open (status 'refnuded' is unknown)\n"), done.stderr
    assert len(listed(command)) == 3
    assert query("SELECT action, via FROM staging.resolution ORDER BY resolution_id") == [
        ("discard", "command"),
        ("reopen", "command"),
    ]
    assert query("SELECT count(*) FROM staging.resolution_day WHERE loaded_at IS NULL") == [(0,)]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("4711",), 1, "not in quarantine: 4711; `sales-assets quarantine list --all` lists the rows"),
        ((), 2, "give numbers, or --file"),
        (("1", "--file", "{file}"), 2, "give numbers, or --file"),
        (("1", "2", "--line", "x"), 2, "--line requires a single number"),
        (("1", "--line", "x", "--discard"), 2, "--line requires a single number"),
        (("--file", "{file}", "--discard"), 2, "--discard requires numbers"),
        (("--file", "{file}"), 1, "line 1: expected a JSON object with quarantine_id and line_text"),
    ],
)
def test_impossible_resolutions_are_refused(
    run_with_warehouse: Run, tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    file = tmp_path / "wrong"
    file.write_bytes(b'{"quarantine_id": 1}\n' if code == 1 else b"\xff")
    done = run_with_warehouse("quarantine", "replay", *(argument.format(file=file) for argument in arguments))
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_corrections_file_that_is_not_utf8_is_refused(run_with_warehouse: Run, tmp_path: Path) -> None:
    file = tmp_path / "wrong"
    file.write_bytes(b"\xff\xfe")
    done = run_with_warehouse("quarantine", "replay", "--file", str(file))
    assert done.returncode == 1
    assert "is not UTF-8" in done.stderr
    assert "Traceback" not in done.stderr


def test_rows_of_a_day_include_the_rows_of_its_file(
    run_with_warehouse: Run, reports: ReportFolderBuilder, report_api: ReportApi
) -> None:
    """The rows of a day include every row of its increment, of any date, and rows of a report without a valid date."""
    reports.report([Order("r", day="2024-09-29"), Order("s", day="2024-09-30"), Order("t", day="2024-09-31")])
    reports.increment(DAY, [GOOD, Order("b", amount="x"), Order("c", day="2024-10-02"), Order("d", day="soon"), "1,2"])
    reports.increment(
        "2024-10-02", [Order("e", day="2024-10-02"), Order("f", day=DAY), Order("g", day="2024-10-02", quantity="x")]
    )
    loaded = run_with_warehouse("load", "--report", "--from", "2024-09-29", "--to", "2024-10-02")
    assert loaded.returncode == 0, loaded.stderr

    def rows_of(day: str) -> list[str]:
        found = listed(run_with_warehouse, "--day", day)
        return sorted(f"{str(row['line_text']).partition(',')[2][:1]} line {row['line_no']}" for row in found)

    assert rows_of(DAY) == ["2 line 6", "b line 3", "c line 4", "d line 5", "f line 3"]
    assert rows_of("2024-10-02") == ["c line 4", "f line 3", "g line 4"]
    assert rows_of("2024-09-29") == rows_of("2024-09-30") == ["t line 4"]
    assert rows_of("2024-10-03") == []
