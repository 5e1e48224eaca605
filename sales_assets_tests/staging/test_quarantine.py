"""Resolution of rejected rows (docs/data-contracts/day-rules.md, "Resolution"): rows are resolved in the file they came
from, then the file of the day is selected again.
"""

import contextlib
from typing import Any

import pytest

from sales_assets.pipeline.stage import Recorded, record_parse_results
from sales_assets.postgres.queries import statements
from sales_assets.postgres.resolutions import ResolutionError
from sales_assets.postgres.warehouse import Warehouse
from sales_assets_tests.builders import Order
from sales_assets_tests.fixtures import Shop
from sales_assets_tests.staging.conftest import Replay

DAY = "2024-10-01"


def states(shop: Shop) -> list[tuple[object, ...]]:
    return shop.query("SELECT line_no, state FROM staging.quarantine ORDER BY line_no")


def number_of(shop: Shop, line_no: int) -> int:
    found = shop.query("SELECT quarantine_id FROM staging.quarantine WHERE line_no = %s", line_no)[0][0]
    return int(found)


def test_a_corrected_line_keeps_its_place(shop: Shop, replay: Replay) -> None:
    """The corrected row keeps its fetch and line number; the delivered text and the valid rows don't change."""
    bad = Order("b", amount="ten")
    shop.reports.increment(DAY, [Order("a"), bad])
    shop.load(DAY)
    (before,) = shop.query("SELECT id FROM mart.f_sales")
    number = number_of(shop, 3)
    text = bad.but(amount="10").line(2, statuses=True)
    for _ in range(2):  # repeating the correction changes nothing
        done = replay({number: text})
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


def test_an_invalid_correction_is_refused_with_its_reason(shop: Shop, replay: Replay) -> None:
    """If a correction breaks a line rule, nothing is stored, even for other rows; the load checks the file's period."""
    bad = Order("b", amount="ten")
    shop.reports.increment(DAY, [Order("a"), bad, Order("c", amount="x")])
    shop.load(DAY)
    number, other = number_of(shop, 3), number_of(shop, 4)
    reason = f"{number}: payment_amount 'eleven' is not a plain decimal number"
    with pytest.raises(ResolutionError) as refused:
        replay({number: bad.but(amount="eleven").line(2, statuses=True)}, discard=other)
    assert str(refused.value) == reason
    assert states(shop) == [(3, "open"), (4, "open")]
    assert shop.query("SELECT count(*) FROM staging.resolution") == [(0,)]
    assert shop.sales() == [("a", 200)]
    # A row can't be moved to a day outside the period of its fetch.
    done = replay({number: bad.but(amount="10", day="2024-10-02").line(2, statuses=True)})
    assert "outside the period" in done.lines[0]["reason"]
    assert shop.sales() == [("a", 200)]
    assert replay({number: bad.but(amount="10").line(2, statuses=True)}).lines[0]["state"] == "corrected"
    assert shop.sales() == [("a", 200), ("b", 10)]


def test_discarding_one_of_two_conflicting_lines_loads_the_other(shop: Shop, replay: Replay) -> None:
    shop.reports.increment(DAY, [Order("a", amount="1"), Order("a", amount="2"), Order("b")])
    shop.load(DAY)
    assert shop.sales() == [("b", 200)]
    assert replay(discard=number_of(shop, 2)).failures == []
    assert shop.sales() == [("a", 2), ("b", 200)]
    assert states(shop) == [(2, "discarded"), (3, "resolved")]
    assert shop.query("SELECT lines, kept, repeats, bad FROM staging.fetch_reading") == [(3, 2, 0, 1)]
    # The decision remains when the file is parsed again.
    replay(again=number_of(shop, 3))
    assert shop.sales() == [("a", 2), ("b", 200)]


def test_a_correction_in_conflict_with_a_line_applies_once_that_line_is_discarded(shop: Shop, replay: Replay) -> None:
    """Until one of two conflicting lines is discarded, both are rejected, however often the file is parsed."""
    shop.reports.increment(DAY, [Order("a", amount="ten"), Order("a", amount="2"), Order("b")])
    shop.load(DAY)
    assert shop.sales() == [("a", 2), ("b", 200)]
    first = number_of(shop, 2)
    replay({first: Order("a", amount="10").line(1, statuses=True)})
    assert shop.sales() == [("b", 200)]
    assert states(shop) == [(2, "open"), (3, "open")]
    replay(again=number_of(shop, 3))
    assert shop.sales() == [("b", 200)]
    replay(discard=number_of(shop, 3))
    assert shop.sales() == [("a", 10), ("b", 200)]
    assert states(shop) == [(2, "resolved"), (3, "discarded")]


def test_the_first_corrected_line_loads_a_day_whose_lines_were_all_rejected(shop: Shop, replay: Replay) -> None:
    shop.reports.increment(DAY, [Order("old")])
    shop.load(DAY)
    shop.reports.increment(DAY, [Order("a", amount="ten"), Order("b", amount="ten")])
    shop.fail_to_load(DAY)
    assert shop.sales() == [("old", 200)]
    done = replay({number_of(shop, 2): Order("a").line(1, statuses=True)})
    assert done.failures == []
    assert shop.sales() == [("a", 200)]


def test_correcting_a_line_of_a_report_loads_only_its_day(shop: Shop, replay: Replay) -> None:
    """The day is loaded from the stored report; a day with an increment still uses the increment."""
    days = ["2024-09-01", "2024-09-02", "2024-09-03"]
    bad = [Order(f"bad{day}", day=day, quantity="two") for day in days[1:]]
    shop.reports.report([*(Order(f"r{day}", day=day) for day in days), *bad])
    shop.reports.increment(days[2], [Order("i", day=days[2])])
    shop.load(days[0], days[2])
    requests_before = shop.api.count("/get_increment")
    for line_no, line in enumerate(bad, start=5):
        replay({number_of(shop, line_no): line.but(quantity="2").line(line_no - 1, statuses=False)})
    assert shop.sales() == [("r2024-09-01", 200), ("bad2024-09-02", 200), ("r2024-09-02", 200), ("i", 200)]
    assert shop.api.count("/get_increment") == requests_before
    # Loading the days again from the API changes nothing.
    before = shop.contents()
    shop.load(days[0], days[2])
    assert shop.contents() == before


def test_a_report_that_becomes_usable_counts_for_its_whole_period(shop: Shop, replay: Replay) -> None:
    days = ["2024-09-01", "2024-09-02"]
    shop.reports.report([Order(f"old{day}", day=day) for day in days])
    shop.load(days[0], days[1])
    shop.reports.report([Order(f"new{day}", day=day, quantity="two") for day in days])
    shop.fetch_report()
    shop.fail_to_load(days[0], days[1])
    assert shop.sales() == [("old2024-09-01", 200), ("old2024-09-02", 200)]
    replay({number_of(shop, 2): Order("new", day=days[0]).line(1, statuses=False)})
    assert shop.sales() == [("new", 200)]


def test_a_line_resolved_while_its_file_is_parsed_is_not_lost(
    shop: Shop, replay: Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report is parsed again for another day; meanwhile a user resolves one of its rows."""
    days = ["2024-09-01", "2024-09-02"]
    bad = Order("b", day=days[0], amount="ten")
    shop.reports.report([Order("a", day=days[0]), bad, Order("c", day=days[1])])
    shop.load(days[0])
    number, text = number_of(shop, 3), bad.but(amount="10").line(2, statuses=False)

    def settled_meanwhile(*arguments: Any) -> Recorded:
        if arguments[1][0].raw_file.kind == "report":
            statement = statements("staging/quarantine")["correct"]
            with Warehouse().transaction("a person") as transaction:
                transaction.connection.execute(statement, {"ids": [number], "texts": [text]})
        return record_parse_results(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr("sales_assets.pipeline.load.record_parse_results", settled_meanwhile)
        shop.load(days[1])
    shop.load(days[0])
    assert shop.sales() == [("a", 200), ("b", 10), ("c", 200)]


def test_a_resolution_committed_while_its_file_is_parsed_is_not_lost(
    shop: Shop, replay: Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The resolution is made before a run parses the file, and committed before the run records the parse result."""
    days = ["2024-09-01", "2024-09-02"]
    bad = Order("b", day=days[0], amount="ten")
    shop.reports.report([Order("a", day=days[0]), bad, Order("c", day=days[1])])
    shop.load(days[0])
    number, text = number_of(shop, 3), bad.but(amount="10").line(2, statuses=False)

    with monkeypatch.context() as patched, contextlib.ExitStack() as person:
        transaction = person.enter_context(Warehouse().transaction("a person"))
        transaction.run("staging/quarantine", "correct", ids=[number], texts=[text])

        def committed_meanwhile(*arguments: Any) -> Recorded:
            if arguments[1][0].raw_file.kind == "report":
                person.close()
            return record_parse_results(*arguments)

        patched.setattr("sales_assets.pipeline.load.record_parse_results", committed_meanwhile)
        shop.load(days[1])
    shop.load(days[0])
    assert shop.sales() == [("a", 200), ("b", 10), ("c", 200)]


def test_a_corrected_price_counts_for_every_day_of_its_list(shop: Shop, replay: Replay) -> None:
    """A price list has no date, so the corrected price is valid for every day that uses the list."""
    shop.reports.increment(DAY, [Order("a")], price_log="Milk,100\nBread,dear\n")
    shop.load(DAY)
    replay({number_of(shop, 2): "Bread,7"})
    assert shop.query("SELECT item_name, price FROM staging.price_log ORDER BY 1") == [("Bread", 7), ("Milk", 100)]
    assert shop.sales() == [("a", 200)]
