"""Property tests of the reader for arbitrary bytes: block size, code path and chunks don't change the result."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from unittest import mock

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sales_assets.pipeline import csv_reader
from sales_assets.pipeline.csv_reader import ReportReader
from sales_assets.schemas.line_rules import UnreadableFile
from sales_assets.schemas.report_files import PRICE_LOG, USER_ORDERS_LOG, ReportFile
from sales_assets_tests.pipeline import reference_parser as model
from sales_assets_tests.pipeline.reference_parser import ORDERS, PRICES

COLUMNS = ["id", *ORDERS]
# Small limits, so that short examples reach them.
SPAN_LINES, SPAN_BYTES = 4, 160

NUMBERS = [
    "0",
    "7",
    "007",
    "2147483647",
    "2147483648",
    "-2147483648",
    "-2147483649",
    "00000000002",
    "-",
    "-0",
]
NUMBERS += ["", " 1", "1 ", "+5", "5.0", "0x1F", "1_0", "１２", "1e2", "\t1", "99999999999999999999", "1\xa0"]
AMOUNTS = [
    "0",
    "5",
    "5.",
    "5.1",
    "5.10",
    "5.100",
    "5.123",
    "99999999.99",
    "100000000",
    "0099999999.9900",
    ".5",
]
AMOUNTS += [
    "",
    "-5",
    "-0.00",
    "+5",
    "1e2",
    "1E400",
    "NaN",
    "inf",
    "1.2.3",
    "1 234",
    "１２",
    "0x10",
    " 1",
    "5.1 ",
]
AMOUNTS += ["123456789.00", "0.00000000000000000000000000000000000000000", "0" * 50 + "1", "12345678.999"]
DATES = [
    "2024-09-08T00:00:00",
    "2024-09-08",
    "2024-02-29",
    "2023-02-29",
    "1000-01-01",
    "0999-12-31",
    "9999-12-31",
]
DATES += [
    "2024-09-08 23:59",
    "2024-09-08T24:00:00",
    "2024-09-08T00:00:00.123456Z",
    "2024-09-08T00:00:00+03:00",
]
DATES += [
    "",
    "2024-9-8",
    "20240908",
    "08.09.2024",
    " 2024-09-08",
    "2024-09-08 ",
    "2024-W01-1",
    "２０２４-09-08",
]
DATES += [
    "2024-09-08T",
    "2024-09-08T10",
    "2024-09-08T10:00:60",
    "2024-09-08t10:00",
    "2024-13-01",
    "2024-00-10",
]
DATES += ["2024-09-08T10:00-0330", "2024-09-08T10:00+3", "2024-09-08T10:00.5", "2024-09-08\n"]
STATUSES = [
    "",
    "shipped",
    "refunded",
    " Shipped ",
    "REFUNDED",
    "cancelled",
    "ship",
    "\u00a0shipped",
    "shipped\t",
]
TEXTS = [
    "",
    "Молоко 3%",
    "a",
    " ",
    "x" * 60,
    "Ёж\u2028",
    "\ufeff",
    "0x",
    "\\N",
    "\\.",
    "😀",
    'say "hi"',
    "a,b",
    "\x85",
]
TEXTS += ["two\nlines", "two\r\nlines", "a\rb", "a\n\n\nb", "a\nb\nc\nd\ne"]
POOLS = {
    "filled": TEXTS,
    "text": TEXTS,
    "integer": NUMBERS,
    "amount": AMOUNTS,
    "date": DATES,
    "status": STATUSES,
}
GOOD = {
    "filled": "u1",
    "text": "Москва",
    "integer": "7",
    "amount": "600",
    "date": DATES[0],
    "status": "shipped",
}


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def cells(kind: str) -> st.SearchStrategy[str]:
    raw = st.sampled_from(POOLS[kind]) | st.text(alphabet='019.-+eTZ:, "\n\rяx', max_size=6)
    return st.one_of(
        st.just(GOOD[kind]),
        st.just(GOOD[kind]),
        st.sampled_from(POOLS[kind]).map(lambda cell: quoted(cell) if set(cell) & set(',"\r\n') else cell),
        raw,
        raw.map(quoted),
    )


@st.composite
def lines(draw: st.DrawFn, kinds: dict[str, str]) -> bytes:
    chosen = [GOOD[kind] for kind in kinds.values()]
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(chosen) - 1))
        chosen[at] = draw(cells(list(kinds.values())[at]))
    if "date_time" in kinds:
        chosen.insert(0, draw(st.sampled_from(["1", "x", '"1"', ""])))
    raw = ",".join(chosen).encode()
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(raw)))
        extra = draw(
            st.sampled_from([b'"', b",", b"\xd0", b"\0", b"\r", b"\xff", b"\xef\xbb\xbf", b" ", b'""', b"\xed\xa0\x80"])
        )
        raw = raw[:at] + extra + raw[at:]
    if draw(st.sampled_from([False] * 9 + [True])):
        raw = raw[draw(st.integers(0, len(raw))) :]
    return raw


def bodies(kinds: dict[str, str]) -> st.SearchStrategy[bytes]:
    ends = st.sampled_from([b"\n", b"\n", b"\r\n", b"\n\n", b"\r\n\r\n", b"\r\r\n"])
    body = st.lists(st.tuples(lines(kinds), ends).map(b"".join), max_size=7).map(b"".join)
    return body | st.tuples(body, lines(kinds)).map(b"".join)


@contextmanager
def small_spans() -> Iterator[None]:
    with (
        mock.patch.object(csv_reader, "MAX_SPAN_LINES", SPAN_LINES),
        mock.patch.object(csv_reader, "MAX_SPAN", SPAN_BYTES),
    ):
        yield


@contextmanager
def every_line_by_the_rules() -> Iterator[None]:
    with mock.patch.object(csv_reader._Block, "irregular_lines", lambda block: ~block.blank_lines()):
        yield


def read(data: bytes, file: ReportFile, *, block_size: int = 1 << 20, cut: int = 0) -> model.Result | str:
    """Return the valid values and the rejected texts by line number, or the message of an unreadable file."""
    result = model.Result()
    try:
        reader = ReportReader([data[:cut], data[cut:]], file, block_size=block_size)
        numbers = [0]
        for batch in reader:
            batch.lines.validate(full=True)
            assert batch.lines.schema == file.schema
            for column in ("lines", "rejected"):
                found = getattr(batch, column).column("line_no").to_pylist()
                assert all(a < b for a, b in pairwise([numbers[0], *found]))
            numbers = [max([*batch.lines.column("line_no").to_pylist(), *batch.rejected.column("line_no").to_pylist()])]
            result.good |= {values.pop("line_no"): values for values in batch.lines.to_pylist()}
            result.bad |= {values["line_no"]: values["text"] for values in batch.rejected.to_pylist()}
            assert all(batch.rejected.column("reason").to_pylist())
        assert (reader.valid_lines, reader.rejected_lines) == (len(result.good), len(result.bad))
    except UnreadableFile as error:
        return str(error)
    return result


def check(body: bytes, file: ReportFile, columns: list[str], block_size: int, cut: int) -> None:
    header = (",".join(columns) + "\n").encode() if file.has_header else b""
    kinds = ORDERS if file is USER_ORDERS_LOG else PRICES
    data = header + body
    with small_spans():
        result = read(data, file)
        assert read(data, file, block_size=block_size, cut=cut) == result
        with every_line_by_the_rules():
            assert read(data, file) == result
        try:
            expected = model.read_file(body, columns, kinds, SPAN_LINES, SPAN_BYTES)
        except model.NotUtf8FileError:
            assert isinstance(result, str)
            assert "not UTF-8" in result
        else:
            assert result == expected


# 400 examples, unless the Hypothesis profile says otherwise.
SETTINGS = settings(
    max_examples=4 * settings().max_examples, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
OPENING = b'1,u,2024-09-08,1,M,2,A,B,3,"two\n'
LINE = b"1,u,2024-09-08,1,M,2,A,B,3,milk,1,2,shipped\n"


@SETTINGS
@given(bodies(ORDERS), st.integers(1, 200), st.integers(0, 300))
@example(LINE.replace(b"milk", b'"milk') * 2 + LINE, 1, 0)
@example(OPENING + LINE + b'lines",1,2,\n', 7, 3)
@example(LINE.replace(b"M", b"\xcc"), 1, 0)
@example(LINE.replace(b",2,s", b",1e2,s") + LINE.replace(b"1,M", b"0x1F,M") + LINE.replace(b"1,M", b" 1,M"), 30, 0)
@example(LINE[:-1] + b"\r\r\n" + b"\xef\xbb\xbf" + LINE, 1, 0)
def test_orders(body: bytes, block_size: int, cut: int) -> None:
    check(body, USER_ORDERS_LOG, COLUMNS, block_size, cut)


@SETTINGS
@given(
    bodies({name: kind for name, kind in ORDERS.items() if name not in ("uniq_id", "status")}),
    st.integers(1, 99),
)
def test_orders_of_very_old_files(body: bytes, block_size: int) -> None:
    columns = [name for name in COLUMNS if name not in ("uniq_id", "status")]
    check(body, USER_ORDERS_LOG, columns, block_size, 0)


@SETTINGS
@given(bodies(PRICES), st.integers(1, 60), st.integers(0, 60))
@example(b'Bread,20\n"Milk\n3%, fat",100\n', 1, 0)
@example(b'"Milk,100\nBread",20\n', 1, 0)
@example(b"Bread,20\n\xef\xbb\xbfMilk,100\n", 1, 0)
def test_prices(body: bytes, block_size: int, cut: int) -> None:
    # Special first lines (byte order mark, UTF-16, header, lines that end in CR) have separate tests.
    check(b"First,1\n" + body, PRICE_LOG, list(PRICES), block_size, cut)
