"""Parse results of raw files (docs/data-contracts/day-rules.md, "Raw file"): empty, unchanged and broken days."""

import pytest

from sales_assets.pipeline import spill
from sales_assets.simulators.report_api.faults import Faults
from sales_assets_tests.builders import ORDER_COLUMNS, Order, order_file
from sales_assets_tests.fixtures import F_SALES, ORDERS, RAW_ORDERS, Shop

DAY = "2024-10-01"
OTHER = "2024-10-02"


def test_a_file_without_rows_empties_its_day(dagster_shop: Shop) -> None:
    dagster_shop.reports.increment(DAY, [Order("a")])
    dagster_shop.reports.increment(OTHER, [Order("b", day=OTHER)])
    dagster_shop.load(DAY, OTHER)
    dagster_shop.reports.increment(DAY, [])
    dagster_shop.load(DAY)
    assert dagster_shop.sales() == [("b", 200)]
    assert DAY in dagster_shop.materialized(F_SALES)


def test_a_day_is_replaced_by_its_new_file(shop: Shop) -> None:
    """A new file replaces the whole day, whether it has other rows, fewer or more."""
    shop.reports.increment(DAY, [Order("a"), Order("b"), Order("c")])
    shop.load(DAY)
    shop.reports.increment(DAY, [Order("b"), Order("d")])
    shop.load(DAY)
    assert shop.sales() == [("b", 200), ("d", 200)]
    shop.reports.increment(DAY, [Order("b", amount="7")])
    shop.load(DAY)
    assert shop.sales() == [("b", 7)]


def test_a_file_that_is_not_delivered_changes_no_row(dagster_shop: Shop) -> None:
    """For NOT FOUND, a missing order file, or one with status 404, the reason is recorded and the day is loaded."""
    dagster_shop.reports.increment(DAY, [Order("a")], price_log="Milk,100\n")
    dagster_shop.load(DAY)
    dagster_shop.reports.increment(DAY, None, price_log="Milk,101\n")
    dagster_shop.load(DAY)
    assert dagster_shop.query("SELECT price FROM staging.price_log") == [(101,)]
    dagster_shop.reports.increment(DAY, [Order("b")], price_log="Milk,102\n")
    dagster_shop.fault(Faults(lost_file="user_orders_log_inc"))
    dagster_shop.load(DAY)
    assert dagster_shop.query("SELECT price FROM staging.price_log") == [(102,)]
    dagster_shop.fault(None)
    dagster_shop.reports.without_increment(DAY)
    dagster_shop.load(DAY)

    assert dagster_shop.sales() == [("a", 200)]
    rows = dagster_shop.query("SELECT outcome, reason FROM raw.delivery WHERE kind = 'increment' ORDER BY delivery_id")
    assert [outcome for outcome, _ in rows] == ["delivered", "delivered", "delivered", "not_found"]
    assert rows[0][1] is None
    assert rows[1][1] == "no order file delivered: not listed in the response"
    assert rows[2][1].startswith("no order file delivered: ")
    assert "404" in rows[2][1]
    assert rows[3][1]
    for key in (RAW_ORDERS, ORDERS, F_SALES):
        assert dagster_shop.materialized(key) == {DAY}


HEADER = f"{ORDER_COLUMNS},status"
UNUSABLE_FILES = [
    (b"", "the file is empty"),
    (b"uid,when,what\n1,2,3\n", "there is no header"),
    (HEADER.replace("payment_amount", "payment").encode() + b"\n", "the header lacks payment_amount"),
    (order_file([Order("b", city_name="Ростов")], statuses=True).encode("cp1251"), "the file is not UTF-8"),
    (order_file([Order("b")], statuses=True).encode("utf-16"), "the file is UTF-16"),
    (order_file([Order("b", quantity="-1"), Order("c", amount="")], statuses=True).encode(), "every row rejected (2"),
    (order_file([Order("b", day="2024-09-30")], statuses=True).encode(), "every row rejected (1"),
]


def test_an_unusable_file_fails_only_its_day(shop: Shop) -> None:
    """The file is never selected: the error names the day, which keeps its rows until a valid file is delivered."""
    days = [f"2024-10-0{n}" for n in range(1, len(UNUSABLE_FILES) + 2)]
    *broken, good = days
    for day in days:
        shop.reports.increment(day, [Order(day, day=day)])
    shop.load(days[0], good)
    before = shop.contents()
    for day, (contents, _) in zip(broken, UNUSABLE_FILES, strict=True):
        (shop.reports.folder / "inc" / day / "user_orders_log_inc.csv").write_bytes(contents)
    shop.reports.increment(good, [Order("new", day=good)])

    error = shop.fail_to_load(days[0], good)
    assert f"{len(broken)} of {len(days)} days failed" in error
    assert shop.contents()[:-1] == before[:-1]
    assert shop.sales(good) == [("new", 200)]
    verdicts = shop.query("SELECT verdict, reason FROM staging.fetch_reading ORDER BY fetch_id OFFSET %s", len(days))
    assert [verdict for verdict, _ in verdicts] == ["failed"] * len(broken) + ["usable"]
    for day, (_, reason), (_, recorded) in zip(broken, UNUSABLE_FILES, verdicts, strict=False):
        assert reason in recorded
        assert f"{day}: {recorded}" in error
        assert f"user_orders_log_inc/{day}/" in recorded

    for day in broken:
        shop.reports.increment(day, [Order("better", day=day)])
    shop.load(days[0], broken[-1])
    assert [name for name, _ in shop.sales()] == ["better"] * len(broken) + ["new"]


def test_rejected_rows_do_not_affect_valid_ones(shop: Shop) -> None:
    shop.reports.increment(DAY, [Order("a"), "what is this", Order("b", quantity="many"), Order("c", day=OTHER)])
    shop.load(DAY)
    assert shop.sales() == [("a", 200)]
    assert [line_no for line_no, _ in shop.quarantined()] == [3, 4, 5]
    assert shop.quarantined()[2][1] == f"the day is outside the period {DAY} to {DAY} of the fetch"
    assert shop.query("SELECT lines, kept, repeats, bad, outside_period FROM staging.fetch_reading") == [
        (4, 1, 0, 3, 1)
    ]


def test_all_rejected_rows_are_quarantined(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows beyond the memory limit are spilled to disk, and no row is lost, valid or rejected."""
    monkeypatch.setattr(spill, "HELD_BYTES", 1_000)
    number, one_bad_in = 50_000, 1_000  # about 4 MB: the reader hands over 2 MB at a time
    shop.reports.increment(DAY, [Order(f"u{n}", quantity="1" if n % one_bad_in else "x") for n in range(number)])
    shop.load(DAY)
    bad = number // one_bad_in
    assert shop.query("SELECT count(*), sum(quantity) FROM mart.f_sales") == [(number - bad, number - bad)]
    numbers = shop.query("SELECT line_no FROM staging.quarantine ORDER BY line_no")
    assert numbers == [(n + 2,) for n in range(0, number, one_bad_in)]


def test_a_report_covers_every_day_of_its_period(shop: Shop) -> None:
    """Days without rows are included and lose their legacy rows; days outside the period keep theirs."""
    for day in (20240903, 20240904, 20240905, 20240906):
        shop.query(
            "INSERT INTO mart.f_sales (date_id, item_id, customer_id, city_id, quantity, amount)"
            f" VALUES ({day}, 1, 1, 1, 1, 500)"
        )
    shop.reports.report([Order("a", day="2024-09-03"), Order("b", day="2024-09-05")])
    shop.load("2024-09-01", "2024-09-10")
    assert shop.sales() == [("a", 200), ("b", 200), ("legacy", 500)]
    staged = shop.query("SELECT date_id, rows FROM staging.staged_day WHERE file = 'user_orders_log' ORDER BY 1")
    assert staged == [(20240903, 1), (20240904, 0), (20240905, 1)]
    # The day without rows also loses the rows of an earlier report.
    shop.reports.report([Order("a", day="2024-09-03"), Order("c", day="2024-09-06")])
    shop.fetch_report()
    shop.load("2024-09-01", "2024-09-10")
    assert shop.sales() == [("a", 200), ("c", 200)]


def test_a_report_is_loaded_only_for_the_requested_days(dagster_shop: Shop) -> None:
    """The other days of the report's period are loaded from the stored report once they are requested."""
    dagster_shop.reports.report(
        [Order("a", day="2024-09-03"), Order("b", day="2024-09-04"), Order("c", day="2024-09-05")]
    )
    dagster_shop.load("2024-09-04")
    assert dagster_shop.sales() == [("b", 200)]
    dagster_shop.load("2024-09-03", "2024-09-05")
    assert dagster_shop.sales() == [("a", 200), ("b", 200), ("c", 200)]
    assert dagster_shop.materialized(F_SALES) == {"2024-09-03", "2024-09-04", "2024-09-05"}


def test_lines_before_the_first_day_are_counted(shop: Shop) -> None:
    """SALES_FIRST_DAY is 2020-01-01: earlier rows belong to no partition, and their number is recorded."""
    days = ["2019-12-30", "2019-12-31", "2020-01-01"]
    shop.reports.report([Order(day, day=day) for day in days])
    shop.load("2020-01-01", "2020-01-03")
    assert shop.sales() == [("2020-01-01", 200)]
    assert shop.query("SELECT lines, kept, bad, before_first_day FROM staging.fetch_reading") == [(3, 3, 0, 2)]


def test_an_unusable_report_fails_the_days_without_another_file(dagster_shop: Shop) -> None:
    dagster_shop.reports.report([Order("a", day="2024-09-03"), Order("b", day="2024-09-05")])
    dagster_shop.reports.increment("2024-09-04", [Order("i", day="2024-09-04")])
    # A valid row at each end makes the simulator report the period; the other encoding makes the whole file unusable.
    file = dagster_shop.reports.folder / "main" / "user_orders_log.csv"
    file.write_bytes(file.read_text().replace("Rostov", "Ростов").encode("cp1251"))
    error = dagster_shop.fail_to_load("2024-09-02", "2024-09-06")
    assert "2 of 5 days failed" in error
    assert "\n2024-09-03, 2024-09-05: user_orders_log/" in error
    assert dagster_shop.sales() == [("i", 200)]
    assert dagster_shop.materialized(F_SALES) == {"2024-09-02", "2024-09-04", "2024-09-06"}
    dagster_shop.reports.report([Order("a", day="2024-09-03"), Order("b", day="2024-09-05")])
    dagster_shop.fetch_report()
    dagster_shop.load("2024-09-03", "2024-09-05")
    assert dagster_shop.sales() == [("a", 200), ("i", 200), ("b", 200)]


def test_increments_are_requested_for_every_day(shop: Shop) -> None:
    """Days within the period of the report are requested too."""
    shop.reports.report([Order("a", day="2024-09-03"), Order("b", day="2024-09-05")])
    shop.load("2024-09-02", "2024-09-06")
    requested_dates = [seen.query["date"][:10] for seen in shop.api.seen if seen.path == "/get_increment"]
    assert sorted(requested_dates) == [f"2024-09-0{n}" for n in range(2, 7)]
