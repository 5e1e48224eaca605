"""Two tables of docs/: each guarantee names existing tests, and input is accepted or rejected as the day rules say."""

import re
from pathlib import Path

import pytest

from sales_assets.pipeline.csv_reader import ReportReader
from sales_assets.schemas.line_rules import MAX_LINE, UnreadableFile
from sales_assets.schemas.report_files import PRICE_LOG, USER_ORDERS_LOG, ReportFile, canonical_name
from sales_assets_tests.architecture.modules import PACKAGE, TESTS
from sales_assets_tests.pipeline.test_csv_reader import HEADER, order

DOCS = PACKAGE.parent / "docs"
GUARANTEES = DOCS / "guarantees.md"
DAY_RULES = DOCS / "data-contracts" / "day-rules.md"


def table(page: Path, first_cell: str) -> list[list[str]]:
    """Return the rows of the table whose header begins with this cell."""
    _, _, rest = page.read_text(encoding="utf-8").partition(f"| {first_cell} |")
    assert rest, f"there is no table of {first_cell}"
    rows = []
    for line in rest.splitlines()[2:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


PROMISES = table(GUARANTEES, "guarantee")


@pytest.mark.parametrize(("promise", "named"), PROMISES, ids=[row[0][:60] for row in PROMISES])
def test_each_guarantee_names_existing_tests(promise: str, named: str) -> None:
    files = re.findall(r"`([\w/]+\.py)`", named)
    assert files, "no test is named"
    folder = Path()
    for name in files:
        # A bare name is a file in the folder of the previous one, or at the top.
        places = [TESTS / name, TESTS / folder / name]
        found = [place for place in places if place.exists()]
        assert found, f"{name} does not exist"
        assert re.search(r"^def test_|^    def test_", found[0].read_text(encoding="utf-8"), re.MULTILINE)
        folder = found[0].relative_to(TESTS).parent


def read(data: bytes, file: ReportFile = USER_ORDERS_LOG) -> tuple[int, int]:
    """Return (valid rows, rejected rows) of a file. Raises `UnreadableFile`."""
    batches = list(ReportReader(iter([data]), file))
    return sum(batch.lines.num_rows for batch in batches), sum(batch.rejected.num_rows for batch in batches)


def lines(*rows: bytes, header: bytes = HEADER, end: bytes = b"\n") -> bytes:
    return b"".join(row + end for row in (header, *rows))


def columns(*, moved: bool = False, without: str = "", extra: str = "", between: bytes = b",") -> bytes:
    names, cells = HEADER.split(b","), order().split(b",")
    pairs = [pair for pair in zip(names, cells, strict=True) if pair[0] != without.encode()]
    if moved:
        pairs.reverse()
    if extra:
        pairs.append((extra.encode(), b"x"))
    return lines(b",".join(cell for _, cell in pairs), header=between.join(name for name, _ in pairs))


FINE: dict[str, list[bytes]] = {
    "other column order, spaces around header names, BOM, CRLF or LF, extra columns, a missing `status`": [
        columns(moved=True),
        columns(between=b" , "),
        b"\xef\xbb\xbf" + lines(order()),
        lines(order(), end=b"\r\n"),
        columns(extra="more"),
        columns(without="status"),
    ],
    "` Shipped `, `REFUNDED`, empty status": [lines(order(status=text)) for text in (" Shipped ", "REFUNDED", "")],
    "leading zeros, `2.00` or `2.` for 2, zeros behind the second decimal, amount 0, "
    "a time of day or zone after the date (never converted)": [
        lines(order(city_id="007")),
        lines(order(quantity="2.00")),
        lines(order(quantity="2.")),
        lines(order(quantity="2.000")),
        lines(order(payment_amount="0")),
        lines(order(date_time="2024-09-08T23:59:59+03:00")),
    ],
    "a line break in a quoted value, up to 100 lines or 64 KiB": [
        lines(order(item_name='"two\nlines"')),
        lines(order(item_name='"' + "\n" * 99 + '"')),
    ],
    "no `uniq_id` column (very old files)": [columns(without="uniq_id")],
    "blank lines": [lines(order(), b"", b"")],
}
BAD: dict[str, list[bytes]] = {
    "negative or non-numeric amounts (also `-0`), more than two decimals, more than eight digits before the point, "
    "`1e3`, `+1`, `NaN`, `1 234,50`, spaces around numbers": [
        order(payment_amount=text)
        for text in ("-1", "-0", "ten", "1.005", "123456789", "1e3", "+1", "NaN", '"1 234,50"', " 1 ")
    ],
    "a line that is not UTF-8, in a file that has other characters beyond ASCII in valid UTF-8": [
        order().decode().encode("cp1251")
    ],
    "ids that are empty, not whole numbers or beyond 32 bit; dates that do not exist, years before 1000, "
    "other text behind the date; unknown status; too few or many fields; stray quotes; NUL; over 1 MiB": [
        order(city_id=""),
        order(uniq_id=""),
        order(item_id="1.5"),
        order(customer_id="2147483648"),
        order(date_time="2024-02-30"),
        order(date_time="0000-00-00"),
        order(date_time="0999-12-31"),
        order(date_time="2024-09-08 noon"),
        order(status="cancelled"),
        order() + b",",
        order().rpartition(b",")[0],
        order(item_name='TV 55" wide'),
        order(item_name="a\0b"),
        order(item_name="x" * MAX_LINE),
    ],
}
REFUSED: list[bytes] = [
    lines(order(), header=HEADER.replace(b"quantity", b"amount")),
    columns(extra="city_id"),
    order() + b"\n",
    b"",
    b"a,b\n1,2\n",
    b"item_name,1.5\n",
    lines(order(), end=b"\r"),
    lines(order()).decode().encode("utf-16"),
    lines(*[order()] * 20).decode().encode("cp1251"),
]
ROWS = {row[0]: row[1] for row in table(DAY_RULES, "in a file")}


@pytest.mark.parametrize("row", FINE)
def test_input_documented_as_fine_is_accepted(row: str) -> None:
    assert row in ROWS
    for data in FINE[row]:
        assert read(data) == (1, 0), data[:300]


@pytest.mark.parametrize("row", BAD)
def test_input_documented_as_rejected_is_rejected(row: str) -> None:
    assert ROWS[row] == "rejected"
    for line in BAD[row]:
        assert read(lines(order(), line)) == (1, 1), line[:300]


def test_files_documented_as_refused_are_refused() -> None:
    row = (
        "a header that lacks a column, has one twice, or is that of another file; no header; "
        "0 bytes (but for price_log); UTF-16; line ends of CR alone; "
        "bytes that are not UTF-8 and no valid character beyond ASCII, as in cp1251"
    )
    assert "refused" in ROWS[row]
    for data in REFUSED:
        with pytest.raises(UnreadableFile):
            read(data)
    assert read(b"", PRICE_LOG) == (0, 0)


def test_every_row_of_the_day_rules_is_tested() -> None:
    """The rules for periods and SALES_FIRST_DAY are tested with loads of days, in mart/ and staging/."""
    elsewhere = {
        "`user_order_log`, `customer_research`",
        "a day outside the period of the file",
        "a day before `SALES_FIRST_DAY`",
    }
    refused = {row for row, guarantee in ROWS.items() if "refused" in guarantee}
    assert set(ROWS) == {*FINE, *BAD, *elsewhere, *refused}
    assert canonical_name("user_order_log_inc") == ("user_orders_log", True)
    assert canonical_name("customer_research") == ("custom_research", False)
