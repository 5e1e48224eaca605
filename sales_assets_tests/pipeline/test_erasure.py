"""Erasure of names in the bytes of a report file."""

from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sales_assets.pipeline.csv_reader import ReportReader
from sales_assets.pipeline.erasure import NameEraser, header_of_file
from sales_assets.schemas.report_files import PRICE_LOG, USER_ACTIVITY_LOG, USER_ORDERS_LOG
from sales_assets_tests.builders import ORDER_COLUMNS, Order, order_file


def erased(text: str | bytes, *customer_ids: int, file: object = USER_ORDERS_LOG, chunk: int = 7) -> str:
    data = text.encode() if isinstance(text, str) else text
    chunks = [data[at : at + chunk] for at in range(0, len(data), chunk)]
    return b"".join(NameEraser(customer_ids).erase(file, chunks)).decode(errors="surrogateescape")  # type: ignore[arg-type]


ROW = "1,u1,2024-10-01,1,Rostov,{},3,Milk,2,200"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("51,Anna,Orlova", "51,,"),
        ("52,Anna,Orlova", "52,Anna,Orlova"),
        ("0051,Anna,Orlova", "0051,,"),
        (' "51" ,"Anna ""A""","Orlova, B."', ' "51" ,"",""'),
        ("51,Анна,Орлова", "51,,"),
        ("51,,Orlova", "51,,"),
        ("151,Anna,Orlova", "151,Anna,Orlova"),
        # Rejected lines: an unquoted comma, too few cells, an open quote, a customer_id that is not a number.
        ("51,Anna, Maria,Orlova", "51,,,"),
        ("51,Anna", "51,"),
        ('51,"Anna,Orlova', '51,"x,'),
        ("x,Anna,Orlova", "x,Anna,Orlova"),
    ],
)
def test_the_names_of_an_erased_customer_are_blanked(before: str, after: str) -> None:
    for end in ("\n", "\r\n", ""):
        text = f"{ORDER_COLUMNS}\n{ROW.format(before)}{end}"
        assert erased(text, 51) == f"{ORDER_COLUMNS}\n{ROW.format(after)}{end}"


@pytest.mark.parametrize(
    ("number", "customer_id"), [("0", 0), ("000", 0), ("-0", 0), ('"0"', 0), ("-51", -51), ("-0051", -51)]
)
def test_customers_with_unusual_numbers_are_erased_too(number: str, customer_id: int) -> None:
    """The line rules accept every 4-byte integer as customer_id."""
    rows = f"{ROW.format(f'{number},Anna,Orlova')}\n{ROW.format(',Anna,Orlova')}\n{ROW.format('51,Anna,Orlova')}\n"
    after = rows.replace(f",{number},Anna,Orlova", f",{number},,")
    assert erased(f"{ORDER_COLUMNS}\n{rows}", customer_id) == f"{ORDER_COLUMNS}\n{after}"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("3,Milk,Anna,200", "3,Milk,x,200"),
        ("3,Milk,2,79997772211", "3,Milk,2,x"),
        ('3,Milk,"Anna ""A""\nOrlova",200', '3,Milk,"x\n",200'),
        ('3,Milk,An"na,200', '3,Milk,x"x,200'),
        ("3,Milk,,200", "3,Milk,,200"),
        ('3,Milk,"2",200', '3,Milk,"2",200'),
    ],
)
def test_a_value_that_is_invalid_for_its_column_is_masked(before: str, after: str) -> None:
    """The row is rejected before and after masking, and masking twice equals masking once."""
    for first, second, names in ((before, after, "51,,"), (after, after, "51,,"), (before, before, "52,,")):
        text = f"{ORDER_COLUMNS}\n1,u1,2024-10-01,1,Rostov,{names},"
        assert erased(text + first, 51) == text + second


def test_a_date_is_kept_without_the_invalid_text_after_it() -> None:
    rows = [
        f"1,u1,{date},1,Rostov,51,,,3,Milk,2,200" for date in ("2024-10-01 Anna", "2024-10-01x", "2024-10-01T00:00")
    ]
    first, second, third = erased("\n".join([ORDER_COLUMNS, *rows]), 51).splitlines()[1:]
    assert first == second == rows[1]
    assert third == rows[2]


def test_a_truncated_line_is_blanked() -> None:
    header_and_row = f"{ORDER_COLUMNS}\n1,u1,2024-10-01,1,Rostov,51,"
    assert erased(f"{header_and_row}Anna,Orl", 51) == f"{header_and_row},"


def test_the_header_locates_the_names_and_unknown_columns_are_blanked_too() -> None:
    header = ORDER_COLUMNS.replace("customer_id,first_name,last_name", "last_name,e-mail,first_name,customer_id")
    row = ROW.format("Orlova,anna@example.com,Anna,51")
    assert erased(f"\ufeff\n{header}\n{row}\n", 51) == f"\ufeff\n{header}\n{ROW.format(',,,51')}\n"
    activity = "id,uniq_id,date_time,action_id,customer_id,quantity,phone\n1,u1,2024-10-01,1,{},1,{}\n"
    assert erased(activity.format(51, "79997772211"), 51, file=USER_ACTIVITY_LOG) == activity.format(51, "")
    assert erased("Milk 51,100\n51,Anna\n", 51, file=PRICE_LOG) == "Milk 51,100\n51,Anna\n"


@pytest.mark.parametrize(
    ("columns", "before", "after"),
    [
        ("first_name,last_name,customer_id", "Anna,Orlova, B.,51", ",,,51"),
        ("last_name,customer_id,first_name", "Orlova, B.,51,Anna", ",,51,"),
        ("customer_id,item_id,first_name,last_name", "51,3,Anna,Orlova, B.", "51,3,,,"),
        ("customer_id,first_name,last_name,item_id,remark", "51,Anna,Orlova, B.,3,Call Anna", "51,,,,3,"),
    ],
)
def test_a_line_with_too_many_cells_is_blanked_in_every_order_of_columns(columns: str, before: str, after: str) -> None:
    missing = [name for name in ORDER_COLUMNS.split(",") if name not in columns.split(",")]
    rest = ["1", "u1", "2024-10-01", "1", "Rostov", "3", "Milk", "2", "200"][: len(missing)]
    header, row = ",".join([columns, *missing]), ",".join([before, *rest])
    result = erased(f"{header}\n{row}\n", 51)
    assert result.startswith(f"{header}\n{after},1,")
    assert erased(result, 51) == result


def test_a_name_over_several_lines_keeps_its_line_breaks() -> None:
    other = ROW.format("52,Anna,Orlova")
    before = [ORDER_COLUMNS, ROW.format('51,"An\nna",Orlova'), other]
    after = [ORDER_COLUMNS, ROW.format('51,"\n",'), other]
    assert erased("\n".join(before), 51) == "\n".join(after)


def test_a_stray_quote_does_not_hide_the_next_line() -> None:
    rows = [ROW.format('52,"An,na'), ROW.format("51,Anna,Orlova"), ROW.format('53,Ma"ria,Orlova')]
    assert erased("\n".join([ORDER_COLUMNS, *rows]), 51).splitlines()[2] == ROW.format("51,,")


def test_a_file_with_an_invalid_header_is_blanked_too() -> None:
    assert erased("1,u1,2024-10-01,1,Rostov,51,Anna,Orlova,3\n", 51) == "1,u1,2024-10-01,1,Rostov,51,,,3\n"


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_a_file_in_utf_16_is_blanked_and_stays_in_utf_16(codec: str, mark: str, chunk: int) -> None:
    """Incomplete characters, as in a truncated or mangled file, are preserved."""
    rows = [ROW.format("52,Анна\ud83d,Petrova"), ROW.format("51,Анна,Orlova😀")]
    text = "\r\n".join([f"{mark}{ORDER_COLUMNS}", *rows])
    data = text.encode(codec, errors="surrogatepass")
    chunks = [data[at : at + chunk] for at in range(0, len(data), chunk)]
    for rest in (b"", b"\0", "\ud83d".encode(codec, errors="surrogatepass")):
        blanked = b"".join(NameEraser([51]).erase(USER_ORDERS_LOG, [*chunks, rest]))
        expected = text.replace("51,Анна,Orlova😀", "51,,").encode(codec, errors="surrogatepass")
        assert blanked == expected + rest
        assert b"".join(NameEraser([77]).erase(USER_ORDERS_LOG, [*chunks, rest])) == data + rest
    header = header_of_file(chunks, USER_ORDERS_LOG)
    assert header is not None
    assert header.columns == tuple(ORDER_COLUMNS.split(","))


def test_a_utf_8_file_with_nul_bytes_is_not_taken_for_utf_16() -> None:
    row = ROW.format("51,Anna,Orlova")
    assert erased(f"{ORDER_COLUMNS}\n1,\0x\0,{row}\n{row}\n", 51).splitlines()[-1] == ROW.format("51,,")


@pytest.mark.parametrize(
    "contents", [b"", b"\n\r\n", b"\x1f\x8b\x08\0\0", b"\xff\xfe\0\0i\0\0\0d\0\0\0", b"x;y\n51;Anna\n"]
)
def test_a_file_without_a_header_is_recognised(contents: bytes) -> None:
    assert header_of_file([contents], USER_ORDERS_LOG) is None


CELLS = ["51", "52", "Anna", "", '"A, B"', "3", "2024-10-01T00:00", "\ufffd"]
ROWS = [ROW.format(name) for name in ("51,Anna,Orlova", "52,Maria,Petrova")]


def lines_of(cells: list[str], rows: list[str]) -> st.SearchStrategy[list[str]]:
    line = st.lists(st.sampled_from(cells), min_size=1, max_size=14).map(",".join)
    return st.lists(line | st.sampled_from(rows), max_size=12)


# Either unclosed quotes or rows of several lines: blanking such a row after an unclosed quote may change which lines
# form a record.
LINES = lines_of([*CELLS, '"Maria'], ROWS) | lines_of([*CELLS, '"x\ny"'], [*ROWS, ROW.format('51,"An\nna",Orlova')])


@settings(deadline=None)  # the first reading loads libraries
@given(LINES, st.integers(1, 50))
@example(['51,"Maria,51', "51," * 9 + '"Maria'], 1)  # a cell with a line break and without quotes
def test_the_order_of_erasures_and_the_chunks_do_not_matter(lines: list[str], chunk: int) -> None:
    text = "\n".join([ORDER_COLUMNS, *lines])
    both = erased(text, 51, 52)
    assert erased(erased(text, 51, chunk=chunk), 52) == both
    assert erased(erased(text, 52), 51, chunk=chunk) == both
    assert erased(both, 51, 52, chunk=chunk) == both
    assert both.count("\n") == text.count("\n")


@settings(deadline=None)  # the first reading loads libraries
@given(LINES)
@example(['"Maria', ROWS[0], "3", '"Maria', "x" + "," * 9])  # a valid row between unclosed quotes
@example(['"Maria', ROWS[0], '"Maria'])
def test_other_values_of_valid_rows_are_unchanged(lines: list[str]) -> None:
    def rows(text: str) -> dict[int, tuple[object, ...]]:
        found = {}
        for batch in ReportReader([text.encode()], USER_ORDERS_LOG):
            for row in batch.lines.drop_columns(["first_name", "last_name"]).to_pylist():
                found[row["line_no"]] = tuple(row.values())
        return found

    text = "\n".join([ORDER_COLUMNS, *lines])
    before, after = rows(text), rows(erased(text, 51))
    assert before.items() <= after.items()


def test_large_files_are_blanked_in_parts() -> None:
    orders = [Order(f"u{number}", customer_id=str(number % 60)) for number in range(30_000)]
    text = order_file(orders, statuses=False)
    parts = list(NameEraser([51]).erase(USER_ORDERS_LOG, [text.encode()]))
    assert len(parts) > 1
    expected = [order.but(first_name="", last_name="") if order.customer_id == "51" else order for order in orders]
    assert b"".join(parts).decode() == order_file(expected, statuses=False)
    assert all(len(one) <= 2 * len(other) for one, other in pairwise(parts[:-1]))
