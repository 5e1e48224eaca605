"""Resolving rejected rows (docs/data-contracts/day-rules.md, "Resolution"): back to the file they came from, then the
file of the day is selected again.
"""

import contextlib
from typing import Any

import pytest

from sales_assets.pipeline.stage import Recorded, record_parse_results
from sales_assets.postgres.queries import statements
from sales_assets.postgres.warehouse import Warehouse
from sales_assets_tests.builders import Order
from sales_assets_tests.fixtures import Shop
from sales_assets_tests.staging.conftest import Settle

DAY = "2024-10-01"


def states(shop: Shop) -> list[tuple[object, ...]]:
    return shop.query("SELECT line_no, state FROM staging.quarantine ORDER BY line_no")


def number_of(shop: Shop, line_no: int) -> int:
    found = shop.query("SELECT quarantine_id FROM staging.quarantine WHERE line_no = %s", line_no)[0][0]
    return int(found)


def test_a_corrected_line_takes_its_place(shop: Shop, settle: Settle) -> None:
    """With its fetch and line number; what was delivered, and what was good before, stays as it is."""
    bad = Order("b", amount="ten")
    shop.reports.increment(DAY, [Order("a"), bad])
    shop.load(DAY)
    (before,) = shop.query("SELECT id FROM mart.f_sales")
    number = number_of(shop, 3)
    text = bad.but(amount="10").line(2, statuses=True)
    for _ in range(2):  # twice is once
        done = settle({number: text})
        assert done.failures == []
        assert [line["state"] for line in done.lines] == ["corrected"]
        assert shop.sales() == [("a", 200), ("b", 10)]
    assert before in shop.query("SELECT id FROM mart.f_sales")
    lines = shop.query("SELECT uniq_id, line_no, fetch_id FROM mart.f_sales_lines ORDER BY 1")
    fetch_id = shop.query("SELECT fetch_id FROM raw.fetch")[0][0]
    assert lines == [("a", 2, fetch_id), ("b", 3, fetch_id)]
    assert shop.query("SELECT line_text, corrected_text FROM staging.quarantine") == [
        (bad.line(2, statuses=True), text)
    ]
    assert shop.query("SELECT lines, kept, repeats, bad FROM staging.fetch_reading") == [(2, 2, 0, 0)]


def test_a_correction_that_is_still_bad_says_why(shop: Shop, settle: Settle) -> None:
    bad = Order("b", amount="ten")
    shop.reports.increment(DAY, [Order("a"), bad])
    shop.load(DAY)
    number = number_of(shop, 3)
    done = settle({number: bad.but(amount="eleven").line(2, statuses=True)})
    assert done.failures == []
    assert [(line["state"], line["reason"]) for line in done.lines] == [
        ("open", "payment_amount 'eleven' is not a plain decimal number")
    ]
    assert shop.sales() == [("a", 200)]
    # To another day than the fetch's own it can't be moved.
    done = settle({number: bad.but(amount="10", day="2024-10-02").line(2, statuses=True)})
    assert "outside the period" in done.lines[0]["reason"]
    assert shop.sales() == [("a", 200)]
    assert settle({number: bad.but(amount="10").line(2, statuses=True)}).lines[0]["state"] == "corrected"
    assert shop.sales() == [("a", 200), ("b", 10)]


def test_of_two_copies_one_is_discarded(shop: Shop, settle: Settle) -> None:
    shop.reports.increment(DAY, [Order("a", amount="1"), Order("a", amount="2"), Order("b")])
    shop.load(DAY)
    assert shop.sales() == [("b", 200)]
    assert settle(discard=number_of(shop, 2)).failures == []
    assert shop.sales() == [("a", 2), ("b", 200)]
    assert states(shop) == [(2, "discarded"), (3, "resolved")]
    assert shop.query("SELECT lines, kept, repeats, bad FROM staging.fetch_reading") == [(3, 2, 0, 1)]
    # Read once more, it stays decided.
    settle(again=number_of(shop, 3))
    assert shop.sales() == [("a", 2), ("b", 200)]


def test_a_correction_that_contradicts_another_line_waits_for_it(shop: Shop, settle: Settle) -> None:
    """Both are bad; as soon as the other is settled, the correction counts, however often the file was read since."""
    shop.reports.increment(DAY, [Order("a", amount="ten"), Order("a", amount="2"), Order("b")])
    shop.load(DAY)
    assert shop.sales() == [("a", 2), ("b", 200)]
    first = number_of(shop, 2)
    settle({first: Order("a", amount="10").line(1, statuses=True)})
    assert shop.sales() == [("b", 200)]
    assert states(shop) == [(2, "open"), (3, "open")]
    settle(again=number_of(shop, 3))
    assert shop.sales() == [("b", 200)]
    settle(discard=number_of(shop, 3))
    assert shop.sales() == [("a", 10), ("b", 200)]
    assert states(shop) == [(2, "resolved"), (3, "discarded")]


def test_a_day_whose_every_line_was_bad_comes_with_the_first_good_one(shop: Shop, settle: Settle) -> None:
    shop.reports.increment(DAY, [Order("old")])
    shop.load(DAY)
    shop.reports.increment(DAY, [Order("a", amount="ten"), Order("b", amount="ten")])
    shop.fail_to_load(DAY)
    assert shop.sales() == [("old", 200)]
    done = settle({number_of(shop, 2): Order("a").line(1, statuses=True)})
    assert done.failures == []
    assert shop.sales() == [("a", 200)]


def test_a_line_of_a_report(shop: Shop, settle: Settle) -> None:
    """Its day alone is loaded again, from the report that was kept; a day that an increment serves stays so."""
    days = ["2024-09-01", "2024-09-02", "2024-09-03"]
    bad = [Order(f"bad{day}", day=day, quantity="two") for day in days[1:]]
    shop.reports.report([*(Order(f"r{day}", day=day) for day in days), *bad])
    shop.reports.increment(days[2], [Order("i", day=days[2])])
    shop.load(days[0], days[2])
    asked = shop.api.count("/get_increment")
    for line_no, line in enumerate(bad, start=5):
        settle({number_of(shop, line_no): line.but(quantity="2").line(line_no - 1, statuses=False)})
    assert shop.sales() == [("r2024-09-01", 200), ("bad2024-09-02", 200), ("r2024-09-02", 200), ("i", 200)]
    assert shop.api.count("/get_increment") == asked
    # Loading the days once more, from the API, changes nothing.
    before = shop.contents()
    shop.load(days[0], days[2])
    assert shop.contents() == before


def test_a_report_that_becomes_good_counts_for_its_whole_period(shop: Shop, settle: Settle) -> None:
    days = ["2024-09-01", "2024-09-02"]
    shop.reports.report([Order(f"old{day}", day=day) for day in days])
    shop.load(days[0], days[1])
    shop.reports.report([Order(f"new{day}", day=day, quantity="two") for day in days])
    shop.fetch_report()
    shop.fail_to_load(days[0], days[1])
    assert shop.sales() == [("old2024-09-01", 200), ("old2024-09-02", 200)]
    settle({number_of(shop, 2): Order("new", day=days[0]).line(1, statuses=False)})
    assert shop.sales() == [("new", 200)]


def test_a_line_settled_while_its_file_is_being_read_is_not_lost(
    shop: Shop, settle: Settle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report is read anew for a further day; meanwhile a person settles a line of it."""
    days = ["2024-09-01", "2024-09-02"]
    bad = Order("b", day=days[0], amount="ten")
    shop.reports.report([Order("a", day=days[0]), bad, Order("c", day=days[1])])
    shop.load(days[0])
    number, text = number_of(shop, 3), bad.but(amount="10").line(2, statuses=False)

    def settled_meanwhile(*arguments: Any) -> Recorded:
        if arguments[1][0].raw_file.kind == "report":
            statement = statements("staging/quarantine")["correct"]
            with Warehouse().transaction("a person") as transaction:
                transaction.connection.execute(statement, {"id": number, "text": text})
        return record_parse_results(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr("sales_assets.pipeline.load.record_parse_results", settled_meanwhile)
        shop.load(days[1])
    shop.load(days[0])
    assert shop.sales() == [("a", 200), ("b", 10), ("c", 200)]


def test_a_line_that_was_settled_just_before_its_file_was_read_is_not_lost(
    shop: Shop, settle: Settle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stamped, and not yet committed, when a run begins to read the file; committed before the run writes down."""
    days = ["2024-09-01", "2024-09-02"]
    bad = Order("b", day=days[0], amount="ten")
    shop.reports.report([Order("a", day=days[0]), bad, Order("c", day=days[1])])
    shop.load(days[0])
    number, text = number_of(shop, 3), bad.but(amount="10").line(2, statuses=False)

    with monkeypatch.context() as patched, contextlib.ExitStack() as person:
        transaction = person.enter_context(Warehouse().transaction("a person"))
        transaction.run("staging/quarantine", "correct", id=number, text=text)

        def committed_meanwhile(*arguments: Any) -> Recorded:
            if arguments[1][0].raw_file.kind == "report":
                person.close()
            return record_parse_results(*arguments)

        patched.setattr("sales_assets.pipeline.load.record_parse_results", committed_meanwhile)
        shop.load(days[1])
    shop.load(days[0])
    assert shop.sales() == [("a", 200), ("b", 10), ("c", 200)]


def test_a_line_of_another_file(shop: Shop, settle: Settle) -> None:
    """A price list has no date: the corrected price holds for every day that takes the list."""
    shop.reports.increment(DAY, [Order("a")], price_log="Milk,100\nBread,dear\n")
    shop.load(DAY)
    settle({number_of(shop, 2): "Bread,7"})
    assert shop.query("SELECT item_name, price FROM staging.price_log ORDER BY 1") == [("Bread", 7), ("Milk", 100)]
    assert shop.sales() == [("a", 200)]
