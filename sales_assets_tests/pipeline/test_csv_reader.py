"""The CSV reader with malformed files: each has one kind of fault, which must not affect other lines."""

import re
import tracemalloc
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from sales_assets.pipeline.csv_reader import (
    MAX_SPAN,
    MAX_SPAN_LINES,
    MAX_TEXT_OF_LONG_LINE,
    ReportReader,
    parse_line,
)
from sales_assets.schemas.line_rules import MAX_LINE, UnreadableFile, header_of
from sales_assets.schemas.report_files import (
    CUSTOM_RESEARCH,
    PRICE_LOG,
    REPORT_FILES,
    USER_ACTIVITY_LOG,
    USER_ORDERS_LOG,
    ReportFile,
    canonical_name,
)

REAL_DATA = next(
    (
        folder / "shared" / "data"
        for folder in Path(__file__).resolve().parents
        if (folder / "shared" / "data" / "report-2024-09").is_dir()
    ),
    None,
)

CELLS = {
    "id": "1",
    "uniq_id": "4e3e08f77ca9e77b087f0a9bc342b98b",
    "date_time": "2024-09-08T00:00:00",
    "city_id": "0",
    "city_name": "Москва",
    "customer_id": "2015",
    "first_name": "Ольга",
    "last_name": "Великая",
    "item_id": "8",
    "item_name": "Лампочка LED",
    "quantity": "3",
    "payment_amount": "900",
    "status": "shipped",
}
VALUES: dict[str, object] = {
    "date_id": 20240908,
    **CELLS,
    "city_id": 0,
    "customer_id": 2015,
    "item_id": 8,
    "quantity": Decimal(3),
    "payment_amount": Decimal(900),
}
del VALUES["id"]
HEADER = ",".join(CELLS).encode()


def order(**cells: str) -> bytes:
    return ",".join((CELLS | cells).values()).encode()


def file_of(*lines: bytes, header: bytes = HEADER) -> bytes:
    return b"".join(line + b"\n" for line in (header, *lines))


class Read:
    """A file parsed to its end: valid and rejected lines, and the reasons, by line number."""

    def __init__(self, data: bytes, file: ReportFile = USER_ORDERS_LOG, *, block_size: int = 1 << 20) -> None:
        self.reader = ReportReader([data], file, block_size=block_size)
        batches = list(self.reader)
        self.good = {line.pop("line_no"): line for batch in batches for line in batch.lines.to_pylist()}
        self.bad = {line["line_no"]: line for batch in batches for line in batch.rejected.to_pylist()}
        self.reasons = {line_no: line["reason"] for line_no, line in self.bad.items()}


GOOD: dict[str, tuple[dict[str, str], dict[str, object]]] = {
    "plain": ({}, {}),
    "integer, zero": ({"customer_id": "0"}, {"customer_id": 0}),
    "integer, leading zeros": ({"city_id": "007"}, {"city_id": 7}),
    "integer, many leading zeros": ({"city_id": "0" * 5000 + "7"}, {"city_id": 7}),
    "integer, largest": ({"item_id": "2147483647"}, {"item_id": 2147483647}),
    "integer, smallest": ({"item_id": "-2147483648"}, {"item_id": -2147483648}),
    "integer, minus zero": ({"item_id": "-0"}, {"item_id": 0}),
    "integer in quotes": ({"item_id": '"8"'}, {"item_id": 8}),
    "amount, zero": ({"quantity": "0", "payment_amount": "0.00"}, {"quantity": 0, "payment_amount": 0}),
    "amount, one decimal": ({"payment_amount": "1.5"}, {"payment_amount": Decimal("1.50")}),
    "amount, two decimals": ({"payment_amount": "1.05"}, {"payment_amount": Decimal("1.05")}),
    "amount, bare point": ({"payment_amount": "12."}, {"payment_amount": Decimal(12)}),
    "amount, zeros behind": ({"payment_amount": "1.2300000"}, {"payment_amount": Decimal("1.23")}),
    "amount, zeros in front": ({"payment_amount": "0000000000012.5"}, {"payment_amount": Decimal("12.5")}),
    "amount, hundreds of zeros": ({"payment_amount": "0" * 400 + "1." + "0" * 400}, {"payment_amount": 1}),
    "amount, largest": ({"payment_amount": "99999999.99"}, {"payment_amount": Decimal("99999999.99")}),
    "date alone": ({"date_time": "2024-09-08"}, {"date_time": "2024-09-08"}),
    "date, leap day": ({"date_time": "2024-02-29"}, {"date_time": "2024-02-29", "date_id": 20240229}),
    "date, first": ({"date_time": "1000-01-01"}, {"date_time": "1000-01-01", "date_id": 10000101}),
    "date, last": ({"date_time": "9999-12-31"}, {"date_time": "9999-12-31", "date_id": 99991231}),
    "time, minutes": ({"date_time": "2024-09-08 23:59"}, {"date_time": "2024-09-08 23:59"}),
    "time, fraction": (
        {"date_time": "2024-09-08T23:59:59.123456789"},
        {"date_time": "2024-09-08T23:59:59.123456789"},
    ),
    "zone, Z": ({"date_time": "2024-09-08T23:59:59Z"}, {"date_time": "2024-09-08T23:59:59Z"}),
    "zone east: the date stays": (
        {"date_time": "2024-09-08T00:30:00+03:00"},
        {"date_time": "2024-09-08T00:30:00+03:00"},
    ),
    "zone west: the date stays": (
        {"date_time": "2024-09-08T23:30:00-0800"},
        {"date_time": "2024-09-08T23:30:00-0800"},
    ),
    "zone, hours": ({"date_time": "2024-09-08 00:00:00+00"}, {"date_time": "2024-09-08 00:00:00+00"}),
    "status, refunded": ({"status": "refunded"}, {"status": "refunded"}),
    "status, empty": ({"status": ""}, {"status": "shipped"}),
    "status, blank": ({"status": "  "}, {"status": "shipped"}),
    "status, case and spaces": ({"status": " ReFunded\t"}, {"status": "refunded"}),
    "status in quotes": ({"status": '" REFUNDED "'}, {"status": "refunded"}),
    "names, empty": (
        {"city_name": "", "first_name": "", "item_name": ""},
        {"city_name": "", "first_name": "", "item_name": ""},
    ),
    "name, empty in quotes": ({"item_name": '""'}, {"item_name": ""}),
    "name, spaces stay": ({"item_name": "  Milk "}, {"item_name": "  Milk "}),
    "name, comma": ({"item_name": '"Milk, 3%"'}, {"item_name": "Milk, 3%"}),
    "name, doubled quotes": ({"item_name": '"TV 55"" ""Rubin"""'}, {"item_name": 'TV 55" "Rubin"'}),
    "name, only a quote": ({"item_name": '""""'}, {"item_name": '"'}),
    "name, quotes and commas": ({"item_name": '","",,"'}, {"item_name": ',",,'}),
    "name, line break": ({"item_name": '"Milk\n3%"'}, {"item_name": "Milk\n3%"}),
    "name, CRLF": ({"item_name": '"Milk\r\n3%"'}, {"item_name": "Milk\r\n3%"}),
    "name, CR in quotes": ({"item_name": '"Milk\r3%"'}, {"item_name": "Milk\r3%"}),
    "name, empty lines": ({"item_name": '"Milk\n\n\n3%"'}, {"item_name": "Milk\n\n\n3%"}),
    "name, line break and quotes": ({"item_name": '"TV\n""55"",\n"'}, {"item_name": 'TV\n"55",\n'}),
    "name, as many lines as allowed": (
        {"item_name": '"' + "a\n" * (MAX_SPAN_LINES - 1) + '"'},
        {"item_name": "a\n" * (MAX_SPAN_LINES - 1)},
    ),
    "name, looks like null": (
        {"item_name": "NULL", "city_name": "\\N"},
        {"item_name": "NULL", "city_name": "\\N"},
    ),
    "name, end of COPY": ({"item_name": "\\."}, {"item_name": "\\."}),
    "name, emoji": ({"item_name": "🥛"}, {"item_name": "🥛"}),
    "name, Unicode line separators": (
        {"item_name": "a\u2028b\x85c\x0bd"},
        {"item_name": "a\u2028b\x85c\x0bd"},
    ),
    "name, byte order mark inside": ({"item_name": "\ufeffMilk"}, {"item_name": "\ufeffMilk"}),
    "name, long": ({"item_name": "x" * 500_000}, {"item_name": "x" * 500_000}),
    "id is not read": ({"id": "any thing"}, {}),
    "uniq_id, as it is": ({"uniq_id": " ABC "}, {"uniq_id": " ABC "}),
}

BAD: dict[str, tuple[bytes, str]] = {
    "one field": (b"x", "1 fields, expected 13"),
    "blanks only": (b"   ", "1 fields, expected 13"),
    "a field too few": (order().rpartition(b",")[0], "12 fields, expected 13"),
    "a field too many": (order() + b",", "14 fields, expected 13"),
    "commas only": (b"," * 12, "uniq_id is empty; date_time is empty; city_id is empty"),
    "the header again": (HEADER, "date_time 'date_time' does not start with a date"),
    "quote not closed": (order(item_name='"Milk'), "the quote that opens field 10 is not closed"),
    "quote not closed in the last field": (
        order(status='"shipped'),
        "the quote that opens field 13 is not closed",
    ),
    "quote in the middle": (
        order(item_name='TV 55" wide'),
        "quote inside field 10, which does not start with one",
    ),
    "quotes in the middle": (order(item_name='TV "Rubin"'), "quote inside field 10"),
    "text after quotes": (order(item_name='"TV" 55'), "text after the closing quote of field 10"),
    "blank before quotes": (order(item_name=' "TV"'), "quote inside field 10"),
    "CR inside": (order(item_name="Milk\r3%"), "line break inside the line"),
    "CR near the end": (order() + b"\r ", "line break inside the line"),
    "NUL": (order(item_name="Milk\0"), "NUL byte at character"),
    "NUL in id": (order(id="\0"), "NUL byte at character 1"),
    "half a character": (order().replace("М".encode(), b"\xd0"), "not UTF-8: byte 0xd0 at position 58"),
    "cp1251": (order().replace("Москва".encode(), "Москва".encode("cp1251")), "not UTF-8: byte 0xcc"),
    "surrogate": (order().replace(b"LED", b"\xed\xa0\x80"), "not UTF-8: byte 0xed"),
    "overlong": (order().replace(b"LED", b"\xc0\xaf"), "not UTF-8: byte 0xc0"),
    "not UTF-8 in a column that is not read": (b"\xff" + order(), "not UTF-8: byte 0xff at position 1"),
    "too long": (order(item_name="x" * MAX_LINE), "the line is longer than 1048576 bytes"),
    "two faults": (
        order(quantity="-1", status="lost"),
        "quantity '-1' is negative; status 'lost' is unknown",
    ),
    "long value": (order(customer_id="9" * 50), f"customer_id '{'9' * 40}...' is out of the range"),
    **{
        f"date_time {value!r}": (order(date_time=value), f"date_time '{value}' {why}" if value else why)
        for value, why in [
            ("", "date_time is empty"),
            ("2024-02-30", "is not a calendar date"),
            ("2023-02-29T00:00:00", "is not a calendar date"),
            ("2024-13-01", "is not a calendar date"),
            ("2024-00-01", "is not a calendar date"),
            ("0999-12-31", "does not start with a date"),
            ("0000-00-00", "does not start with a date"),
            ("10000-01-01", "does not start with a date"),
            ("2024-9-8", "does not start with a date"),
            ("20240908", "does not start with a date"),
            ("08.09.2024", "does not start with a date"),
            ("2024/09/08", "does not start with a date"),
            ("2024-W36-7", "does not start with a date"),
            (" 2024-09-08", "does not start with a date"),
            ("-2024-09-08", "does not start with a date"),
            ("２０２４-０９-０８", "does not start with a date"),
            ("infinity", "does not start with a date"),
            ("2024-09-08 ", "does not continue with a time of day"),
            ("2024-09-08T", "does not continue with a time of day"),
            ("2024-09-08T10", "does not continue with a time of day"),
            ("2024-09-08t10:00", "does not continue with a time of day"),
            ("2024-09-08T24:00:00", "does not continue with a time of day"),
            ("2024-09-08T10:60:00", "does not continue with a time of day"),
            ("2024-09-08T10:00:60", "does not continue with a time of day"),
            ("2024-09-08T10:00:00.", "does not continue with a time of day"),
            ("2024-09-08T10:00:00+3", "does not continue with a time of day"),
            ("2024-09-08T10:00:00 UTC", "does not continue with a time of day"),
            ("2024-09-081", "does not continue with a time of day"),
        ]
    },
    **{
        f"integer {value!r}": (order(customer_id=value), f"customer_id '{value}' {why}" if value else why)
        for value, why in [
            ("", "customer_id is empty"),
            ("-", "is not an integer"),
            ("--1", "is not an integer"),
            ("+5", "is not an integer"),
            (" 5", "is not an integer"),
            ("5 ", "is not an integer"),
            ("\t5", "is not an integer"),
            ("5\u00a0", "is not an integer"),
            ("5.0", "is not an integer"),
            ("5e0", "is not an integer"),
            ("1_000", "is not an integer"),
            ("0x1F", "is not an integer"),
            ("12a", "is not an integer"),
            ("NaN", "is not an integer"),
            ("５", "is not an integer"),
            ("٥", "is not an integer"),
            ("2147483648", "is out of the range"),
            ("9999999999", "is out of the range"),
            ("-2147483649", "is out of the range"),
            ("99999999999999999999", "is out of the range"),
        ]
    },
    **{
        f"amount {value!r}": (
            order(payment_amount=value),
            f"payment_amount '{value}' {why}" if value else why,
        )
        for value, why in [
            ("", "payment_amount is empty"),
            ("-5", "is negative"),
            ("-0", "is negative"),
            ("-0.00", "is negative"),
            ("+5", "is not a plain decimal number"),
            ("--5", "is not a plain decimal number"),
            (".5", "is not a plain decimal number"),
            (".", "is not a plain decimal number"),
            ("1.2.3", "is not a plain decimal number"),
            ("1..2", "is not a plain decimal number"),
            (" 5", "is not a plain decimal number"),
            ("5 ", "is not a plain decimal number"),
            ("1e2", "is not a plain decimal number"),
            ("1e400", "is not a plain decimal number"),
            ("NaN", "is not a plain decimal number"),
            ("Infinity", "is not a plain decimal number"),
            ("0x10", "is not a plain decimal number"),
            ("1 234", "is not a plain decimal number"),
            ("１２", "is not a plain decimal number"),
            ("5 ₽", "is not a plain decimal number"),
            ("1.234", "has more than 2 decimals"),
            ("0.001", "has more than 2 decimals"),
            ("99999999.999", "has more than 2 decimals"),
            ("100000000", "has more than 8 digits before the decimal point"),
            ("123456789.00", "has more than 8 digits before the decimal point"),
            ("9" * 30, "has more than 8 digits before the decimal point"),
        ]
    },
    "amount, decimal comma": (
        order(payment_amount='"1 234,50"'),
        "payment_amount '1 234,50' is not a plain decimal",
    ),
    "quantity, negative": (order(quantity="-1"), "quantity '-1' is negative"),
    **{
        f"status {value!r}": (order(status=value), f"status '{value}' is unknown")
        for value in ["cancelled", "ship", "refund", "возврат", "shipped;", "null", "0"]
    },
    "uniq_id, empty": (order(uniq_id=""), "uniq_id is empty"),
}


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize(("cells", "values"), GOOD.values(), ids=GOOD)
def test_valid_line(cells: dict[str, str], values: dict[str, object], line_end: bytes) -> None:
    line = order(**cells)
    read = Read(line_end.join([HEADER, order(), line, order(), b""]))
    assert read.bad == {}
    assert read.good == {2: VALUES, 3: VALUES | values, 4 + line.count(b"\n"): VALUES}


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize(("line", "reason"), BAD.values(), ids=BAD)
def test_a_rejected_row_does_not_affect_its_neighbours(line: bytes, reason: str, line_end: bytes) -> None:
    read = Read(line_end.join([HEADER, order(), line, order(), b""]))
    assert read.good == {2: VALUES, 4: VALUES}
    assert list(read.bad) == [3]
    assert reason in read.reasons[3]
    text = line.decode(errors="backslashreplace").replace("\0", "\\x00")
    assert read.bad[3]["text"] == text if len(line) <= MAX_LINE else text.startswith(read.bad[3]["text"])


# The file as a whole


HEADER_FAULTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the file is empty, expected the header id,[uniq_id],date_time"),
    "only a byte order mark": (b"\xef\xbb\xbf", "the file is empty"),
    "only blank lines": (b"\n\r\n\n", "the file is empty"),
    "no header": (file_of(header=order()), f"there is no header: found '{','.join('?' * 13)}', expected id,"),
    "another delimiter": (HEADER.replace(b",", b";"), "there is no header: found 'id;uniq_id;"),
    "another file": (b"item_name,price\n", "this looks like price_log: found 'item_name,price', expected id,"),
    "a column missing": (HEADER.replace(b",quantity", b""), "the header lacks quantity: found 'id,uniq_id"),
    "a column twice": (HEADER + b",quantity\n", "the header has quantity more than once"),
    "status twice": (HEADER + b",status\n", "the header has status more than once"),
    "upper case": (HEADER.upper(), "there is no header"),
    "quote not closed": (
        b'"' + HEADER,
        "the first line is not a header: the quote that opens field 1 is not closed",
    ),
    "not UTF-8": (HEADER + b",\xcf\xf0\n", "the first line is not a header: not UTF-8: byte 0xcf"),
    "too long": (b"x" * (MAX_LINE + 5), "the first line is not a header: longer than 1048576 bytes"),
    "UTF-16 little-endian": (file_of(order()).decode().encode("utf-16-le"), "UTF-16"),
    "UTF-16 big-endian": (file_of(order()).decode().encode("utf-16-be"), "UTF-16"),
    "UTF-16 with mark": (file_of(order()).decode().encode("utf-16"), "UTF-16"),
    "CR only": (
        file_of(order(), order()).replace(b"\n", b"\r"),
        "the lines end in CR alone, expected LF or CRLF",
    ),
    "HTML": (b"<html><body>502 Bad Gateway</body></html>", "there is no header: found '?', expected id,"),
    "a new column": (HEADER.replace(b",quantity", b",Anna"), "the header lacks quantity: found 'id,uniq_id,"),
}


# First lines of each file: as the service writes them now, as it wrote them in old files, and in another order.
FIRST_LINES = [
    (USER_ORDERS_LOG, HEADER),
    (USER_ORDERS_LOG, HEADER.replace(b",status", b"")),
    (USER_ORDERS_LOG, HEADER.replace(b"uniq_id,", b"")),
    (CUSTOM_RESEARCH, b"date_id,category_id,geo_id,sales_qty,sales_amt"),
    (CUSTOM_RESEARCH, b" sales_amt ,extra,date_id,category_id,geo_id,sales_qty"),
    (USER_ACTIVITY_LOG, b"id,uniq_id,date_time,action_id,customer_id,quantity"),
    (PRICE_LOG, b"item_name,price"),
    (PRICE_LOG, "Молоко,100.50".encode()),
]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "mark"])
@pytest.mark.parametrize("file", REPORT_FILES.values(), ids=lambda file: file.name)
@pytest.mark.parametrize(("other", "line"), FIRST_LINES)
def test_the_header_of_another_file_is_recognised(
    file: ReportFile, other: ReportFile, line: bytes, mark: bytes
) -> None:
    """The header of a wrong file is recognised, even in place of a price list, which may have no header."""
    if other is file:
        ReportReader([mark + line + b"\n"], file)
        return
    with pytest.raises(UnreadableFile, match=f"^this looks like {other.name}: found '"):
        ReportReader([mark + line + b"\n"], file)


@pytest.mark.parametrize(
    "first_line",
    [
        b"1,u1,2024-10-02,1,Rostov,51,Anna,Orlova,3,Milk,2,200,shipped",
        b"id,uniq_id,date_time,Anna Orlova",
        b"Anna;Orlova",
        b"Anna Orlova,100",
        b'id,"Anna Orlova',
        b"id,Anna Orlova\xff",
        b"date_id,category_id,geo_id,sales_qty,sales_amt,Anna",
    ],
)
@pytest.mark.parametrize("file", [USER_ORDERS_LOG, USER_ACTIVITY_LOG], ids=lambda file: file.name)
def test_the_reason_of_an_unreadable_file_contains_no_names(file: ReportFile, first_line: bytes) -> None:
    """The first line of a file without a header is a row; the reason may repeat only column names from such a line."""
    with pytest.raises(UnreadableFile) as caught:
        ReportReader([first_line + b"\n"], file)
    assert not re.search("Anna|Orlova", str(caught.value))


@pytest.mark.parametrize("block_size", [1, 1 << 20])
@pytest.mark.parametrize(("data", "reason"), HEADER_FAULTS.values(), ids=HEADER_FAULTS)
def test_a_wrong_header_raises_before_anything_is_read(data: bytes, reason: str, block_size: int) -> None:
    if len(data) > MAX_LINE:
        block_size = 1 << 20
    with pytest.raises(UnreadableFile) as caught:
        ReportReader([data], USER_ORDERS_LOG, block_size=block_size)
    assert reason in str(caught.value)


def test_the_header_is_available_before_the_first_batch() -> None:
    header = ReportReader([file_of(order() + b",x,y", header=HEADER + b", colour ,")], USER_ORDERS_LOG).header
    assert header.columns == (*CELLS, "colour", "")
    assert header.extra_columns == ("colour", "")
    assert header.has_status


@pytest.mark.parametrize(
    "header",
    [
        b"\xef\xbb\xbf" + HEADER,
        HEADER.replace(b",", b" , "),
        b",".join(b'"' + name + b'"' for name in HEADER.split(b",")),
        HEADER + b"\r",
        b"\n\n" + HEADER,
        b"\n" * (5 << 20) + HEADER,
    ],
    ids=["byte order mark", "spaces", "quotes", "CRLF", "blank lines before", "millions of blank lines before"],
)
def test_accepted_header_variants(header: bytes) -> None:
    read = Read(file_of(order(), header=header))
    assert list(read.good.values()) == [VALUES]
    assert list(read.good) == [2 + header.count(b"\n")]


def test_columns_may_come_in_any_order_with_unknown_ones_between() -> None:
    names = [*reversed(CELLS), "colour"]
    cells = [*reversed(CELLS.values()), "red"]
    read = Read(file_of(",".join(cells).encode(), header=",".join(names).encode()))
    assert read.good == {2: VALUES}
    assert read.reader.header.extra_columns == ("colour",)


def test_without_a_status_column_every_line_is_shipped() -> None:
    read = Read(file_of(order().rpartition(b",")[0], header=HEADER.rpartition(b",")[0]))
    assert read.good == {2: VALUES}
    assert not read.reader.header.has_status


def test_a_very_old_file_has_an_index_and_no_uniq_id() -> None:
    names = ["", *(name for name in CELLS if name not in ("uniq_id", "status"))]
    cells = ["0", *(cell for name, cell in CELLS.items() if name not in ("uniq_id", "status"))]
    read = Read(file_of(",".join(cells).encode(), header=",".join(names).encode()))
    assert read.good == {2: VALUES | {"uniq_id": None}}
    assert read.reader.header.extra_columns == ()


def test_a_file_without_lines_is_an_empty_day() -> None:
    for data in (HEADER, HEADER + b"\n", HEADER + b"\n\n\r\n"):
        read = Read(data)
        assert (read.good, read.bad) == ({}, {})


def test_blank_lines_keep_the_numbering_and_the_last_line_needs_no_end() -> None:
    read = Read(HEADER + b"\r\n\n\n" + order() + b"\n\r\n" + b"x\n\n" + order())
    assert list(read.good) == [4, 8]
    assert list(read.bad) == [6]


def test_chunks_may_be_cut_anywhere() -> None:
    data = file_of(order(), b"x", order(item_name='"Milk\n3%"'))
    reader = ReportReader((data[at : at + 1] for at in range(len(data))), USER_ORDERS_LOG)
    batch = pa.concat_batches([batch.lines for batch in reader])
    assert batch.column("line_no").to_pylist() == [2, 4]
    assert (reader.valid_lines, reader.rejected_lines) == (2, 1)


def test_a_file_in_another_encoding_is_refused_at_its_end() -> None:
    cp1251 = file_of(order(), order()).decode().encode("cp1251")
    with pytest.raises(UnreadableFile, match=r"not UTF-8, perhaps cp1251 or latin-1: line 2 is .* byte 0xcc"):
        Read(cp1251)


def test_invalid_utf_8_is_a_rejected_row_in_a_file_with_valid_multibyte_characters() -> None:
    foreign = order().decode().encode("cp1251")
    assert list(Read(file_of(*[foreign] * 50, order())).bad) == list(range(2, 52))
    # The line with the valid character may itself be invalid.
    assert list(Read(file_of(foreign, "Ж".encode())).bad) == [2, 3]


# Stray quotes


OPENING = order(item_name='"Milk')


def test_a_stray_quote_rejects_only_its_line() -> None:
    read = Read(file_of(OPENING, *[order()] * 200))
    assert list(read.bad) == [2]
    assert list(read.good) == list(range(3, 203))


@pytest.mark.parametrize("between", [0, 1, 40, 98, 99, 100])
def test_two_stray_quotes_do_not_join_the_lines_between(between: int) -> None:
    read = Read(file_of(order(), OPENING, *[order()] * between, OPENING, order()))
    assert list(read.bad) == [3, 4 + between]
    assert len(read.good) == 2 + between


def test_a_torn_line_with_a_stray_quote_does_not_swallow_valid_ones() -> None:
    torn = OPENING[: OPENING.index(b'"') + 3]
    tail = order()[order().index(b"LED") :].replace(b"LED", b'LED"')
    read = Read(file_of(torn, order(), tail, order()))
    assert list(read.good) == [3, 5]
    assert list(read.bad) == [2, 4]


def test_a_quoted_value_of_too_many_lines_is_rejected_line_by_line() -> None:
    read = Read(file_of(order(item_name='"' + "a\n" * MAX_SPAN_LINES + '"'), order()))
    assert len(read.bad) == MAX_SPAN_LINES + 1
    assert list(read.good) == [3 + MAX_SPAN_LINES]


def test_a_quoted_value_of_too_many_bytes_is_rejected_line_by_line() -> None:
    half = "a" * (MAX_SPAN // 2)
    assert list(Read(file_of(order(item_name=f'"{half}\n{half[200:]}"'))).good) == [2]
    assert list(Read(file_of(order(item_name=f'"{half}\n{half}"'))).bad) == [2, 3]


def test_an_invalid_record_over_several_lines_is_one_rejected_row() -> None:
    line = order(item_name='"Milk\n3%"', quantity="-1")
    read = Read(file_of(line, order()))
    assert list(read.good) == [4]
    assert read.bad == {2: {"line_no": 2, "text": line.decode(), "reason": "quantity '-1' is negative"}}


# Sizes


def test_the_longest_line_is_valid_and_one_byte_more_is_rejected() -> None:
    longest = order(item_name="")
    longest = order(item_name="x" * (MAX_LINE - len(longest)))
    read = Read(file_of(longest, longest.replace(b"x", b"xx", 1)), block_size=1 << 18)
    assert list(read.good) == [2]
    assert list(read.bad) == [3]


def test_a_long_rejected_text_is_truncated_between_two_characters() -> None:
    read = Read(file_of("Ж".encode() * 300_000, b"x" + "Ж".encode() * 600_000))
    assert read.bad[2]["text"] == "Ж" * (1 << 15)
    assert read.bad[3]["text"] == "x" + "Ж" * (MAX_TEXT_OF_LONG_LINE // 2 - 1)


def test_memory_does_not_grow_with_the_file_or_its_lines() -> None:
    def chunks() -> Iterator[bytes]:
        yield HEADER + b"\n"
        for _ in range(40):
            yield from [(order() + b"\n") * 5000, b"y" * (1 << 20), b"\n"]
        yield from [b"z" * (1 << 20)] * 40

    arrow_before = pa.total_allocated_bytes()
    tracemalloc.start()
    lines = 0
    arrow_peak = 0
    for batch in ReportReader(chunks(), USER_ORDERS_LOG):
        lines += batch.lines.num_rows + batch.rejected.num_rows
        arrow_peak = max(arrow_peak, pa.total_allocated_bytes() - arrow_before)
    python_peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert lines == 40 * 5001 + 1
    assert python_peak + arrow_peak < 50_000_000


# The other files


def test_custom_research() -> None:
    header = b"date_id,category_id,geo_id,sales_qty,sales_amt"
    read = Read(
        file_of(b"2024-09-08T00:00:00,1001,1,5,1920.5", b"2024-09-08,1001,,-1,1", header=header),
        CUSTOM_RESEARCH,
    )
    assert read.good == {
        2: {
            "date_id": 20240908,
            "date_time": "2024-09-08T00:00:00",
            "category_id": 1001,
            "geo_id": 1,
            "sales_qty": 5,
            "sales_amt": Decimal("1920.50"),
        }
    }
    assert read.reasons == {3: "geo_id is empty; sales_qty '-1' is negative"}
    faulty = Read(file_of(b"2024-09-31,1,1,1,1", header=header), CUSTOM_RESEARCH)
    assert faulty.reasons == {2: "date_id '2024-09-31' is not a calendar date"}


def test_user_activity_log() -> None:
    header = b"id,uniq_id,date_time,action_id,customer_id,quantity"
    read = Read(
        file_of(b"1,d0557a94,2024-09-08T00:00:00,2,51,0", b"2,,2024-09-08,2,51,1", header=header),
        USER_ACTIVITY_LOG,
    )
    assert read.good[2]["quantity"] == 0
    assert read.reasons == {3: "uniq_id is empty"}


@pytest.mark.parametrize(
    ("data", "good", "bad"),
    [
        (b"", [], []),
        (b"\n\n", [], []),
        (b"\xef\xbb\xbf", [], []),
        (b"Milk,100\nBread,20.5\n", [1, 2], []),
        (b"\xef\xbb\xbfMilk,100", [1], []),
        (b"item_name,price\nMilk,100\n", [2], []),
        (b"\xef\xbb\xbf item_name , price\r\nMilk,100\r\n", [2], []),
        (b"\nMilk,100\n\nBread,20\n", [2, 4], []),
        (b",100\nMilk,\nMilk\nMilk,1,2\nMilk,-1\nMilk,1\n", [6], [1, 2, 3, 4, 5]),
        (b'"Milk\n3%",100\nBread,20\n', [1, 3], []),
        (b'"Milk, fat\n3%, cold",100\nBread,20\n', [1, 3], []),
        (b'"Milk,100\nBread",20\nSalt,5\n', [3], [1, 2]),
        (b'"Milk,100\nBread,20\n', [2], [1]),
        (b"Mi\0lk,100\nBread,20\n", [2], [1]),
        (b"Mi\rlk,100\nBread,20\n", [2], [1]),
        (b"\xd0,100\n\xd0\x9c,20\n", [2], [1]),
    ],
)
@pytest.mark.parametrize("block_size", [1, 5, 1 << 20])
def test_price_log(data: bytes, good: list[int], bad: list[int], block_size: int) -> None:
    read = Read(data, PRICE_LOG, block_size=block_size)
    assert list(read.good) == good
    assert list(read.bad) == bad


def test_a_price_log_without_header_has_the_known_columns() -> None:
    assert ReportReader([b"Milk,100\n"], PRICE_LOG).header.columns == ("item_name", "price")
    assert Read(b"price,item_name\n100,Milk\n", PRICE_LOG).good == {2: {"item_name": "Milk", "price": 100}}


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16"])
def test_a_price_log_in_utf_16_is_refused(encoding: str) -> None:
    with pytest.raises(UnreadableFile, match="UTF-16"):
        ReportReader(["Молоко,100\nХлеб,20\n".encode(encoding)], PRICE_LOG)


def test_a_price_log_that_ends_its_lines_in_cr_is_refused() -> None:
    with pytest.raises(UnreadableFile, match="CR alone"):
        ReportReader([b"Milk,100\rBread,20\r"], PRICE_LOG)


# One line


def test_parse_line_follows_the_same_rules() -> None:
    header = header_of(list(CELLS), USER_ORDERS_LOG)
    for text in (order().decode(), order().decode() + "\r\n"):
        batch = parse_line(text, USER_ORDERS_LOG, header, 17)
        assert batch.lines.to_pylist() == [{"line_no": 17, **VALUES}]
        assert batch.rejected.num_rows == 0
    multiline = parse_line(order(item_name='"Milk\n3%"').decode(), USER_ORDERS_LOG, header, 17)
    assert multiline.lines.column("item_name").to_pylist() == ["Milk\n3%"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "1 fields, expected 13"),
        (order(quantity="x").decode(), "quantity 'x' is not a plain decimal number"),
        (f"{order().decode()}\n{order().decode()}", "line break inside the line"),
        ("\ud800", "not UTF-8: byte 0xed at position 1"),
    ],
)
def test_parse_line_returns_the_reason_of_a_rejection(text: str, reason: str) -> None:
    batch = parse_line(text, USER_ORDERS_LOG, header_of(list(CELLS), USER_ORDERS_LOG), 17)
    assert batch.lines.num_rows == 0
    assert [(line["line_no"], line["reason"]) for line in batch.rejected.to_pylist()] == [(17, reason)]


@pytest.mark.skipif(REAL_DATA is None, reason="the real files are not here")
def test_every_line_of_the_real_files_is_valid() -> None:
    assert REAL_DATA
    counts = {}
    for path in sorted(REAL_DATA.rglob("*.csv")):
        known = canonical_name(path.stem)
        assert known
        read = Read(path.read_bytes(), REPORT_FILES[known[0]])
        assert read.bad == {}
        lines = path.read_bytes().count(b"\n") - read.reader.file.has_header
        assert len(read.good) == lines
        counts[f"{path.parent.name}/{path.name}"] = lines
    assert counts["main/user_order_log.csv"] == 24284
    assert counts["2024-10-01/user_order_log_inc.csv"] == 1150
    assert counts["2024-10-02/user_order_log_inc.csv"] == 919
