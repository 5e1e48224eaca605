"""Staging: the rows sent, their batches, and the recorded parse results."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from sales_assets.pipeline import stage
from sales_assets.pipeline.file_selection import RawFile, SelectedFile
from sales_assets.pipeline.parse_file import ParsedFile, parse_file
from sales_assets.pipeline.stage import _parse_result, batches_of, names_of, replaced_days, selected_rows
from sales_assets.schemas.report_files import USER_ORDERS_LOG
from sales_assets_tests.builders import Order, order_file

DAYS = (20241001, 20241002, 20241003)
TEXTS = ("2024-10-01", "2024-10-02", "2024-10-03")


def selected(*days: int, fetch_id: int = 1, staged: bool = False) -> list[SelectedFile]:
    return [SelectedFile(day, fetch_id, 1, staged) for day in days]


def parsed(orders: list[Order], folder: Path, header_end: str = "") -> ParsedFile:
    def read() -> Iterator[bytes]:
        yield order_file(orders, statuses=True).replace("\n", f"{header_end}\n", 1).encode()

    first, last, found = dt.date(2024, 10, 1), dt.date(2024, 10, 3), dt.datetime(2024, 10, 5, tzinfo=dt.UTC)
    raw_file = RawFile(1, "report", "orders.csv", "", first, last, len(orders), corrected=False, found_at=found)
    return parse_file(read, USER_ORDERS_LOG, raw_file, {}, folder)


@pytest.fixture
def file(tmp_path: Path) -> ParsedFile:
    """Return a parsed file with two rows on each of three days."""
    orders = [Order(f"{text} {n}", day=text, city_name=f"{n}") for text in TEXTS for n in (1, 2)]
    return parsed(orders, tmp_path)


def test_days_are_split_into_batches_of_a_limited_number_of_rows(
    file: ParsedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    for most, expected in ((1, [1, 1, 1]), (2, [1, 1, 1]), (3, [2, 1]), (4, [2, 1]), (5, [3]), (100, [3])):
        monkeypatch.setattr(stage, "_ROWS_PER_TRANSACTION", most)
        batches = batches_of(selected(*DAYS), {1: file})
        assert [len(batch) for batch in batches] == expected
        assert [day.date_id for batch in batches for day in batch] == list(DAYS)
    assert batches_of([], {}) == []


def test_rows_are_combined_into_blocks(file: ParsedFile, monkeypatch: pytest.MonkeyPatch) -> None:
    for most, expected in ((1, [2, 2, 2]), (2, [2, 2, 2]), (3, [4, 2]), (6, [6]), (100, [6])):
        monkeypatch.setattr(stage, "_ROWS_PER_BLOCK", most)
        blocks = list(selected_rows(selected(*DAYS), {1: file}))
        assert [block.num_rows for block in blocks] == expected
        assert [line for block in blocks for line in block.column("line_no").to_pylist()] == [2, 3, 4, 5, 6, 7]
    assert list(selected_rows([], {})) == []


def test_rows_are_sent_with_their_fetch_and_without_names(file: ParsedFile, tmp_path: Path) -> None:
    other = parsed([Order("x", day=TEXTS[1])], tmp_path / "other")
    days = [*selected(DAYS[0]), *selected(DAYS[1], fetch_id=2)]
    (rows,) = selected_rows(days, {1: file, 2: other})
    assert rows.column("fetch_id").to_pylist() == [1, 1, 2]
    assert rows.schema.field("fetch_id").type == pa.int64()
    assert rows.column("uniq_id").to_pylist() == [f"{TEXTS[0]} 1", f"{TEXTS[0]} 2", "x"]
    assert rows.schema.names == [*(column.name for column in USER_ORDERS_LOG.staged), "fetch_id"]


def test_names_are_collected_in_parts(file: ParsedFile, monkeypatch: pytest.MonkeyPatch) -> None:
    for most, expected in ((1, 3), (2, 3), (3, 2), (6, 1), (100, 1)):
        monkeypatch.setattr(stage, "_ROWS_PER_NAMES", most)
        tables = list(names_of(selected(*DAYS), {1: file}))
        assert len(tables) == expected
        cities = {name for table in tables for name in table.column("first").to_pylist()}
        assert {"1", "2"} <= cities
    assert list(names_of([], {})) == []


def test_days_that_are_already_staged_are_replaced() -> None:
    assert replaced_days([*selected(1, 2, staged=True), *selected(3)]) == [1, 2]


def test_the_recorded_parse_result_of_a_file(tmp_path: Path) -> None:
    """Rows before the platform's first day are counted; rejected and discarded rows are counted as bad."""
    orders = [*(Order(text, day=text) for text in TEXTS), Order("a", quantity="x"), Order("b", day="2024-10-04")]
    file = parsed([*orders, orders[0]], tmp_path)
    file.discarded = 3
    result = {
        "fetch_id": 1,
        "verdict": "usable",
        "reason": None,
        "header": ["id", *file.header[1:]],
        "has_status": True,
        "extra_columns": [],
        "lines": 6,
        "kept": 3,
        "repeats": 1,
        "bad": 5,
        "before_first_day": 0,
        "outside_period": 1,
        "read_at": "2024-10-05T00:00:00+00:00",
        "resolved_at": None,
    }
    assert _parse_result(file, 20241001) == result
    assert _parse_result(file, 20241003) == result | {"before_first_day": 2}


def test_a_file_whose_rows_are_all_rejected_is_not_used(tmp_path: Path) -> None:
    """An empty file is used; for an unreadable file, the reader's reason is recorded."""
    empty = _parse_result(parsed([], tmp_path / "empty"), 20241001)
    assert (empty["verdict"], empty["reason"]) == ("usable", None)
    bad = _parse_result(parsed([Order("a", quantity="x")], tmp_path / "bad"), 20241001)
    assert (bad["verdict"], bad["bad"]) == ("failed", 1)
    assert bad["reason"] == "orders.csv: every row rejected (1, see `sales-assets quarantine list`)"
    unreadable = _parse_result(parsed([Order("a")], tmp_path / "unreadable", header_end=",status"), 20241001)
    assert unreadable["verdict"] == "failed"
    assert str(unreadable["reason"]).startswith("orders.csv: the header has status more than once")
