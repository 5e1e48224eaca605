"""Parsing a raw file: kept rows, duplicates and rejected rows, for any hashes of the keys."""

import datetime as dt
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from sales_assets.pipeline import parse_file as module
from sales_assets.pipeline import spill
from sales_assets.pipeline.file_selection import RawFile
from sales_assets.pipeline.parse_file import DayCounts, ParsedFile, parse_file
from sales_assets.schemas.report_files import REPORT_FILES, USER_ORDERS_LOG
from sales_assets_tests.builders import Order, order_file

FIRST, LAST = dt.date(2024, 10, 1), dt.date(2024, 10, 2)
ORDERS = [
    Order("a"),
    Order("b"),
    Order("a"),
    Order("c", amount="1"),
    Order("c", amount="2"),
    Order("b", day="2024-10-02"),
    Order("b", status="refunded"),
    Order("d", day="2024-10-02"),
    Order("d", day="2024-10-02"),
    Order("e", day="2024-10-03"),
]


def parsed(
    text: str,
    folder: Path,
    file: str = USER_ORDERS_LOG.name,
    corrections: Mapping[int, str | None] | None = None,
    last: dt.date = LAST,
) -> ParsedFile:
    def read() -> Iterator[bytes]:
        yield text.encode()

    found = dt.datetime(2024, 10, 5, tzinfo=dt.UTC)
    raw_file = RawFile(1, "report", "orders.csv", "", FIRST, last, text.count("\n"), corrected=False, found_at=found)
    return parse_file(read, REPORT_FILES[file], raw_file, corrections or {}, folder)


def summary(result: ParsedFile) -> tuple[object, ...]:
    days = {day: result.days.get(day) for day in (20241001, 20241002)}
    lines = {day: sorted(n for rows in result.rows(day) for n in rows.column("line_no").to_pylist()) for day in days}
    rejected = sorted(zip(*(result.rejected.column(name).to_pylist() for name in ("line_no", "reason")), strict=True))
    return lines, days, rejected


@pytest.mark.parametrize("hashes", ["as they are", "all the same"])
def test_rows_are_compared_by_their_texts_even_if_hashes_collide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hashes: str
) -> None:
    """Different keys with the same hash are not duplicates, and cause no rejection."""
    if hashes == "all the same":
        monkeypatch.setattr(module, "_key_hashes", lambda _file, rows: np.zeros(rows.num_rows, np.int64))
    result = parsed(order_file(ORDERS, statuses=True), tmp_path)
    lines, days, rejected = summary(result)
    assert lines == {20241001: [2, 3, 8], 20241002: [7, 9]}
    assert (result.lines, result.kept, result.duplicates, result.rejected_count) == (10, 5, 2, 3)
    assert [line_no for line_no, _ in rejected] == [5, 6, 11]  # type: ignore[attr-defined]
    assert days[20241001].duplicates == 1  # type: ignore[index]


def test_a_row_without_uniq_id_gets_one_from_its_contents(tmp_path: Path) -> None:
    """A row whose customer has no other row in the file gets an id too."""
    orders = [Order("", customer_id=customer) for customer in ("7", "8", "8")]
    lines = [line.split(",") for line in order_file(orders, statuses=False).splitlines(keepends=True)]
    text = "".join(",".join(cells[:1] + cells[2:]) for cells in lines)
    result = parsed(text, tmp_path)
    ids = [uniq_id for rows in result.rows(20241001) for uniq_id in rows.column("uniq_id").to_pylist()]
    assert len(set(ids)) == 2
    assert all(len(uniq_id) == 32 for uniq_id in ids)
    assert (result.kept, result.duplicates) == (2, 1)


@pytest.mark.parametrize("held", [1, 1 << 20])
def test_one_duplicate_among_many_blocks_of_distinct_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    """Most blocks contain no row to compare."""
    monkeypatch.setattr(spill, "HELD_BYTES", held)
    monkeypatch.setattr(spill, "_ROWS_PER_BATCH", 2)
    monkeypatch.setattr(module, "_ROWS_PER_DISTRIBUTION", 2)
    monkeypatch.setattr("sales_assets.pipeline.csv_reader.BLOCK_SIZE", 64)
    orders = [Order(str(n)) for n in range(20)]
    result = parsed(order_file([*orders, orders[7], Order("3", status="refunded")], statuses=True), tmp_path)
    lines, days, _ = summary(result)
    assert lines == {20241001: [*range(2, 22), 23], 20241002: []}
    assert days[20241001] == DayCounts(kept=21, duplicates=1)  # type: ignore[index]


def test_a_resolved_line_is_replaced_or_discarded(tmp_path: Path) -> None:
    """Neighbouring lines, valid or rejected, don't change. A correction may be invalid too."""
    orders = [Order("a"), Order("b", quantity="x"), Order("c", quantity="x"), Order("d"), Order("e", quantity="x")]
    text = order_file([*orders, Order("f", quantity="x")], statuses=True)
    corrections = {3: Order("b", day="2024-10-02").line(9, statuses=True), 4: None, 6: "no line", 5: None}
    result = parsed(text, tmp_path, corrections=corrections)
    lines, days, rejected = summary(result)
    assert lines == {20241001: [2], 20241002: [3]}
    assert days == {20241001: DayCounts(kept=1, rejected=1), 20241002: DayCounts(kept=1)}
    assert rejected == [(6, "1 fields, expected 13"), (7, "quantity 'x' is not a plain decimal number")]
    assert (result.lines, result.kept, result.discarded, result.rejected_count) == (6, 2, 2, 2)


def test_conflicting_records_over_several_lines_are_rejected_with_their_whole_text(tmp_path: Path) -> None:
    orders = [Order("a", item_name='"Milk\n\n3%"', amount=amount) for amount in ("1", "2")]
    result = parsed(order_file([Order("b"), *orders, Order("c")], statuses=True, end="\r\n"), tmp_path)
    found = {row["line_no"]: row for row in result.rejected.to_pylist()}
    texts = {3 + 3 * n: order.line(2 + n, statuses=True) for n, order in enumerate(orders)}
    assert {line_no: row["text"] for line_no, row in found.items()} == texts
    assert {(row["date_id"], row["reason"][:26]) for row in found.values()} == {
        (20241001, "2 different lines share da")
    }
    assert [line for rows in result.rows(20241001) for line in rows.column("line_no").to_pylist()] == [2, 9]


def test_an_unreadable_file_has_a_reason_and_no_rows(tmp_path: Path) -> None:
    result = parsed(order_file(ORDERS, statuses=True).partition("\n")[2], tmp_path)
    assert result.unreadable
    assert result.unreadable.startswith("there is no header: found '?,?,?,?,")
    assert (result.lines, result.kept, result.rejected.num_rows, [*result.rows(20241001)]) == (0, 0, 0, [])


@pytest.mark.parametrize("at_once", [3, 1_000])
def test_days_that_share_a_uniq_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """A uniq_id that occurs twice on one day does not count as shared with another day."""
    monkeypatch.setattr(module, "_HASHES_AT_ONCE", at_once)
    first, second = "2024-10-01", "2024-10-02"
    apart = [Order(f"{day}{n}", day=day) for day in (first, second) for n in (1, 2, 3, 1)]
    text = order_file(apart, statuses=True)
    assert parsed(text, tmp_path / "apart").days_sharing_uniq_ids() == set()
    shared = order_file([*apart, Order("b", day=second), Order("b", day=first)], statuses=True)
    assert parsed(shared, tmp_path / "shared").days_sharing_uniq_ids() == {20241001, 20241002}
    third = [Order(uniq_id, day=day) for day in (second, "2024-10-03") for uniq_id in "bcdef"]
    later = parsed(order_file([*apart, *third], statuses=True), tmp_path / "later", last=dt.date(2024, 10, 3))
    assert later.days_sharing_uniq_ids() == {20241002, 20241003}
    without = "".join(",".join(line.split(",")[:1] + line.split(",")[2:]) for line in text.splitlines(keepends=True))
    assert parsed(without, tmp_path / "without").days_sharing_uniq_ids() == {20241001, 20241002}
