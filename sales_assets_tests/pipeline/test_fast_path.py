"""Fast path: lines that are certainly valid are converted directly; all other lines are left to the line rules."""

from decimal import Decimal

import pytest

from sales_assets.pipeline.fast_path import ConvertedLines, convert_valid_lines
from sales_assets.schemas.line_rules import LineRules, header_of, plain_header
from sales_assets.schemas.report_files import CUSTOM_RESEARCH, PRICE_LOG, USER_ORDERS_LOG, ReportFile

RESEARCH = {"date_id": "2024-09-08", "category_id": "1", "geo_id": "2", "sales_qty": "3", "sales_amt": "4.5"}
GOOD = b"2024-09-08,1,2,3,4.5"


def take(*lines: bytes, file: ReportFile = CUSTOM_RESEARCH, header: list[str] | None = None) -> ConvertedLines:
    rules = LineRules(file, plain_header(file) if header is None else header_of(header, file))
    return convert_valid_lines(b"".join(line + b"\n" for line in lines), rules)


def line_of(**cells: str) -> bytes:
    return ",".join((RESEARCH | cells).values()).encode()


@pytest.mark.parametrize(
    ("cells", "column", "value"),
    [
        ({"category_id": "0"}, 2, 0),
        ({"category_id": "007"}, 2, 7),
        ({"category_id": "2147483647"}, 2, 2147483647),
        ({"category_id": "0000000009"}, 2, 9),
        ({"geo_id": "1234567890"}, 3, 1234567890),
        ({"geo_id": '"12"'}, 3, 12),
        ({"sales_qty": "12345678"}, 4, Decimal("12345678.00")),
        ({"sales_qty": "12345678.9"}, 4, Decimal("12345678.90")),
        ({"sales_qty": "12345678.90"}, 4, Decimal("12345678.90")),
        ({"sales_amt": "1."}, 5, Decimal("1.00")),
        ({"sales_amt": "0.05"}, 5, Decimal("0.05")),
        ({"sales_amt": "09"}, 5, Decimal("9.00")),
        ({"date_id": "2024-02-29T23:59:59.5+03:00"}, 0, 20240229),
        ({"date_id": "2024-02-29 00:00Z"}, 1, "2024-02-29 00:00Z"),
        ({"date_id": "1000-01-01"}, 0, 10000101),
    ],
)
def test_a_plain_value_is_converted(cells: dict[str, str], column: int, value: object) -> None:
    taken = take(GOOD, line_of(**cells), GOOD)
    assert taken.lines.tolist() == [0, 1, 2]
    assert taken.left.tolist() == []
    assert taken.columns[column].to_pylist()[1] == value
    assert [one.type for one in taken.columns] == [field.type for field in CUSTOM_RESEARCH.schema][1:]
    for one, good in zip(taken.columns, take(GOOD).columns, strict=True):
        assert one.to_pylist()[::2] == good.to_pylist() * 2


@pytest.mark.parametrize(
    "cells",
    [
        *({"category_id": text} for text in ("", "-1", "+1", " 1", "1 ", "/", ":", "1x", "2147483648", "9999999999")),
        *({"geo_id": text} for text in ("00000000001", "1.0", "1e2", "0x1F", "x1", "\u0665")),
        *({"sales_qty": text} for text in ("", "-1", "123456789", "123456789.5", "1.234", ".5", ".", "1.2.3", "1..")),
        *({"sales_amt": text} for text in ("1e2", " 1", "1 ", "+1", "1x", "x", "1'5", "1.x", "1.2x", "1.2-")),
        *({"date_id": text} for text in ("", "2024-02-30", "2024-2-3", "2024-02-29 ", "x2024-02-29", "2024-02-29x")),
        {"date_id": "0999-01-01"},
        {"date_id": "2024-02-29T24:00"},
    ],
)
def test_only_lines_with_unusual_values_are_left_to_the_rules(cells: dict[str, str]) -> None:
    taken = take(GOOD, line_of(**cells), GOOD, line_of(category_id="9"))
    assert taken.left.tolist() == [1]
    assert taken.lines.tolist() == [0, 2, 3]
    assert taken.columns[2].to_pylist() == [1, 1, 9]


def test_lines_with_another_number_of_fields_are_left() -> None:
    taken = take(b"1", GOOD, GOOD + b",", line_of(category_id="-1"), GOOD, b",")
    assert taken.left.tolist() == [0, 2, 3, 5]
    assert taken.lines.tolist() == [1, 4]
    assert taken.columns[2].to_pylist() == [1, 1]
    nothing = take(b"1", b"2")
    assert (nothing.left.tolist(), nothing.lines.tolist()) == ([0, 1], [])
    assert [len(column) for column in nothing.columns] == [0] * 6


ORDER = {
    "id": "x", "uniq_id": "a", "date_time": "2024-09-08", "city_id": "1", "city_name": "", "customer_id": "2",
    "first_name": '"A, B"', "last_name": '"C ""D"""', "item_id": "3", "item_name": "Milk", "quantity": "1",
    "payment_amount": "2", "status": " Refunded ",
}  # fmt: skip


def values(taken: ConvertedLines, file: ReportFile = USER_ORDERS_LOG) -> dict[str, object]:
    names = file.schema.names[1:]
    return {name: column.to_pylist() for name, column in zip(names, taken.columns, strict=True)}


def test_texts_and_statuses() -> None:
    header = list(ORDER)
    lines = [",".join((ORDER | {"uniq_id": uniq_id, "status": status}).values()).encode() for uniq_id, status in (
        ("a", " Refunded "), ("b", ""), ("", "shipped"), ("c", "lost"), ("d", "SHIPPED"),
    )]  # fmt: skip
    taken = take(*lines, file=USER_ORDERS_LOG, header=header)
    assert taken.lines.tolist() == [0, 1, 4]
    assert taken.left.tolist() == [2, 3]
    found = values(taken)
    assert found["uniq_id"] == ["a", "b", "d"]
    assert found["status"] == ["refunded", "shipped", "shipped"]
    assert found["first_name"] == ["A, B"] * 3
    assert found["last_name"] == ['C "D"'] * 3
    assert found["city_name"] == [""] * 3


def test_columns_that_a_header_lacks() -> None:
    cells = {name: cell for name, cell in ORDER.items() if name not in ("uniq_id", "status")}
    found = values(take(",".join(cells.values()).encode(), file=USER_ORDERS_LOG, header=list(cells)))
    assert (found["uniq_id"], found["status"]) == ([None], ["shipped"])


def test_columns_in_another_order() -> None:
    header = [*list(RESEARCH)[::-1], "more"]
    taken = take(b"4.5,3,2,1,2024-09-08,x", header=header)
    assert [column.to_pylist() for column in taken.columns] == [column.to_pylist() for column in take(GOOD).columns]


def test_a_file_without_days() -> None:
    taken = take(b"\xef\xbb\xbfMilk,1.5", b"NULL,2", b",3", "Ж,4".encode(), file=PRICE_LOG)
    assert taken.left.tolist() == [2]
    assert taken.columns[0].to_pylist() == ["\ufeffMilk", "NULL", "Ж"]
    assert taken.columns[1].to_pylist() == [Decimal("1.50"), Decimal("2.00"), Decimal("4.00")]
