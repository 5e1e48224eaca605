"""Valid and rejected lines of an order file, up to the mart (docs/data-contracts/day-rules.md, "Line")."""

from decimal import Decimal

import pytest

from sales_assets_tests.builders import ORDER_COLUMNS, Order, order_file
from sales_assets_tests.fixtures import Shop

DAY = "2024-10-01"


def counts(shop: Shop) -> list[tuple[object, ...]]:
    return shop.query("SELECT lines, kept, repeats, bad FROM staging.fetch_reading ORDER BY fetch_id")


def test_the_key_of_a_row_is_date_uniq_id_and_status(shop: Shop) -> None:
    """Duplicates that differ only in `id` are one row; another status or date is another event."""
    sale = Order("a", amount="200")
    shop.reports.increment(DAY, [sale, Order("b"), sale, sale.but(status="refunded"), sale])
    shop.reports.increment("2024-10-02", [sale.but(day="2024-10-02")])
    shop.load(DAY, "2024-10-02")
    assert shop.sales(DAY) == [("a", -200), ("a", 200), ("b", 200)]
    assert shop.sales("2024-10-02") == [("a", 200)]
    assert counts(shop) == [(5, 3, 2, 0), (1, 1, 0, 0)]
    assert shop.quarantined() == []


def test_duplicates_in_another_notation_are_duplicates(shop: Shop) -> None:
    """2 and 2.00 are the same quantity; an empty status equals Shipped."""
    line = Order("a", quantity="2", amount="200")
    same = line.but(quantity="2.00", amount="200.0", status=" Shipped ")
    shop.reports.increment(DAY, [line, same])
    shop.load(DAY)
    assert counts(shop) == [(2, 1, 1, 0)]


def test_rows_with_the_same_key_and_different_contents_are_all_rejected(shop: Shop) -> None:
    first = Order("a", amount="200")
    shop.reports.increment(
        DAY,
        [
            first,
            first.but(amount="201"),
            first,
            Order("b"),
            first.but(status="refunded"),
            Order("c"),
            Order("c", time="T12:00:00"),
        ],
    )
    shop.load(DAY)
    assert shop.sales() == [("a", -200), ("b", 200)]
    conflict = "2 different lines share date_id 20241001, uniq_id a, status shipped"
    other = "2 different lines share date_id 20241001, uniq_id c, status shipped"
    assert shop.quarantined() == [(2, conflict), (3, conflict), (4, conflict), (7, other), (8, other)]
    assert counts(shop) == [(7, 2, 0, 5)]
    texts = shop.query("SELECT line_text FROM staging.quarantine WHERE line_no IN (2, 3) ORDER BY line_no")
    assert texts == [(first.line(1, statuses=True),), (first.but(amount="201").line(2, statuses=True),)]


def test_statuses_are_trimmed_and_their_case_is_ignored(shop: Shop) -> None:
    given = ["shipped", "SHIPPED", " shipped ", "", None, "refunded", "Refunded", "\tREFUNDED ", "cancelled", "refund"]
    shop.reports.increment(DAY, [Order(f"u{n}", status=status) for n, status in enumerate(given)])
    shop.load(DAY)
    assert [amount for _, amount in shop.sales()] == [200] * 5 + [-200] * 3
    assert [line_no for line_no, _ in shop.quarantined()] == [10, 11]


def test_zero_is_valid_and_negative_values_are_rejected(shop: Shop) -> None:
    shop.reports.increment(
        DAY,
        [
            Order("nothing", quantity="0", amount="0"),
            Order("nothing back", quantity="0", amount="0", status="refunded"),
            Order("less", quantity="-1"),
            Order("owed", amount="-0.01"),
            Order("no one", customer_id="0", item_id="0", city_id="0"),
            Order("nobody", customer_id=""),
            Order("nowhere", city_id=""),
            Order("no item", item_id=""),
            Order("nameless", city_name="", first_name="", last_name="", item_name=""),
        ],
    )
    shop.load(DAY)
    assert shop.sales() == [("nameless", 200), ("no one", 200), ("nothing", 0), ("nothing back", 0)]
    assert [line_no for line_no, _ in shop.quarantined()] == [4, 5, 7, 8, 9]


def test_the_date_is_the_first_ten_characters(shop: Shop) -> None:
    """The date is never converted between time zones, and no zone, however unusual, rejects the row."""
    shop.query(f"ALTER DATABASE {shop.query('SELECT current_database()')[0][0]} SET timezone = 'Pacific/Kiritimati'")
    times = ["", "T00:00:00", "T23:59:59Z", " 23:59:59+05:00", "T00:00-11", "T23:59:59.999999999Z", "T10:00+99:99"]
    shop.reports.increment(DAY, [Order(f"u{n}", time=time) for n, time in enumerate(times)])
    shop.load(DAY)
    assert shop.sales(DAY) == [(f"u{n}", 200) for n in range(len(times))]
    assert shop.sales() == shop.sales(DAY)


def test_numbers_exceeding_numeric_10_2_are_rejected(shop: Shop) -> None:
    shop.reports.increment(
        DAY, [Order("most", amount="99999999.99"), Order("more", amount="100000000"), Order("finer", amount="0.001")]
    )
    shop.load(DAY)
    assert shop.sales() == [("most", Decimal("99999999.99"))]


def test_very_old_files_are_identified_by_their_contents(shop: Shop) -> None:
    """The files have no uniq_id and an unnamed index column; `id` and the index are not part of the contents."""
    line = Order("", amount="200").line(0, statuses=False).removeprefix("0,,")
    other = Order("", amount="75.50").line(0, statuses=False).removeprefix("0,,")
    # Names that contain a possible separator are still two different contents.
    joined = [
        Order("", first_name=first, last_name=last).line(0, statuses=False).removeprefix("0,,")
        for first, last in (("a\x1fb", "c"), ("a", "b\x1fc"))
    ]
    header = "," + ORDER_COLUMNS.replace("uniq_id,", "")
    rows = [f"{n + 7},{n + 1},{text}" for n, text in enumerate([line, other, line, *joined, line])]
    shop.reports.increment(DAY, None, user_orders_log="".join(f"{row}\n" for row in [header, *rows]))
    shop.load(DAY)
    assert [amount for _, amount in shop.sales()].count(Decimal("75.50")) == 1
    assert counts(shop) == [(6, 4, 2, 0)]

    before = shop.query("SELECT id, amount FROM mart.f_sales ORDER BY id")
    shuffled = [f"{n},{n},{text}" for n, text in enumerate([other, *joined, line])]
    shop.reports.increment(DAY, None, user_orders_log="".join(f"{row}\r\n" for row in [header, *shuffled]))
    shop.load(DAY)
    assert shop.query("SELECT id, amount FROM mart.f_sales ORDER BY id") == before


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_quarantined_line_has_its_line_number_and_text(shop: Shop, end: str) -> None:
    """Line number and text match the file, even after a record of several lines and blank lines."""
    several = 'x,multi,2024-10-01,1,"Nizhny\nNovgorod",51,Anna,Orlova,3,Milk,1,10,'
    bad = "y,bad,2024-10-01,one,Rostov,51,Anna,Orlova,3,Milk,1,10,"
    text = order_file([Order("a"), several, "", bad], statuses=True, end=end)
    shop.reports.increment(DAY, None, user_orders_log=text)
    shop.load(DAY)
    assert shop.sales() == [("a", 200), ("multi", 10)]
    rows = shop.query("SELECT line_no, line_text, date_id, reason FROM staging.quarantine")
    assert rows == [(6, bad, 20241001, "city_id 'one' is not an integer")]
    path = shop.query("SELECT path FROM raw.fetch")[0][0]
    lines = shop.query("SELECT uniq_id, line_no, file FROM mart.f_sales_lines ORDER BY line_no")
    assert lines == [("a", 2, path), ("multi", 3, path)]
