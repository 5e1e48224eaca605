"""A broken day in a range: other days are loaded; the error names the broken day, which a later load repairs."""

import re

import dagster as dg
import pytest

from sales_assets.pipeline import load
from sales_assets.settings import settings
from sales_assets_tests.builders import Order, days_between
from sales_assets_tests.fixtures import F_SALES, ORDERS, RAW, RAW_ORDERS, Shop, change_stored_file, stored_files

FIRST, BROKEN, LAST = "2024-10-01", "2024-10-03", "2024-10-05"
DAYS = days_between(FIRST, LAST)
GOOD = [day for day in DAYS if day != BROKEN]


def deliver_days(shop: Shop) -> None:
    for day in DAYS:
        shop.reports.increment(day, [Order(day, day=day)], price_log="Milk,100\n")


def reload_broken_day(shop: Shop) -> None:
    """Load the broken day again, and check that only this day is fetched."""
    requests_before = shop.api.count("/get_increment")
    shop.load(BROKEN)
    assert shop.api.count("/get_increment") == requests_before + 1
    assert [name for name, _ in shop.sales()] == DAYS
    for key in (RAW_ORDERS, ORDERS, F_SALES):
        assert shop.materialized(key) == set(DAYS)


def test_a_file_that_cannot_be_fetched_fails_its_day_and_is_recorded(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No table of the day is materialized, and the failed delivery is recorded."""
    deliver_days(shop)
    shop.reports.increment(BROKEN, [Order(BROKEN, day=BROKEN)] * 50)
    shop.fetch_report()
    with monkeypatch.context() as patched:
        patched.setenv("RAW_FILES_MAX_BYTES", "1000")
        settings.cache_clear()
        error = shop.fail_to_load(FIRST, LAST)
    settings.cache_clear()
    assert "1 of 5 days failed" in error
    assert re.search(f"^{BROKEN}: .*1000 are accepted", error, re.MULTILINE)
    assert [name for name, _ in shop.sales()] == GOOD
    for key in (*RAW, ORDERS, F_SALES):
        assert shop.materialized(key) == set(GOOD)
    failed = shop.query("SELECT first_day::text, reason FROM raw.delivery WHERE outcome = 'failed'")
    assert [day for day, _ in failed] == [BROKEN]
    assert failed[0][1] in error
    reload_broken_day(shop)


def test_a_day_staged_from_an_older_file_is_published_while_its_newest_file_is_unusable(shop: Shop) -> None:
    """Loading staging alone and then both tables has the same result as loading both at once."""
    shop.reports.report([Order("reported", day=BROKEN)])
    shop.reports.increment(BROKEN, ["no line at all"])
    shop.fetch_report()
    shop.fail_to_load(BROKEN, selection=[*RAW, ORDERS])
    assert shop.sales() == []
    assert "every row rejected" in shop.fail_to_load(BROKEN, selection=[ORDERS, F_SALES])
    assert [name for name, _ in shop.sales()] == ["reported"]


def test_an_unreadable_file_fails_its_day_in_staging_and_mart(shop: Shop) -> None:
    """Raw is materialized because the file was delivered; staging and mart are not."""
    deliver_days(shop)
    shop.reports.increment(BROKEN, None, user_orders_log="what is this\n", price_log="Milk,100\n")
    error = shop.fail_to_load(FIRST, LAST)
    assert "1 of 5 days failed" in error
    assert f"{BROKEN}: user_orders_log_inc/{BROKEN}/" in error
    assert [name for name, _ in shop.sales()] == GOOD
    assert shop.materialized(RAW_ORDERS) == set(DAYS)
    for key in (ORDERS, F_SALES):
        assert shop.materialized(key) == set(GOOD)
    assert shop.query("SELECT count(*) FROM staging.price_log") == [(5,)]
    deliver_days(shop)
    reload_broken_day(shop)


def test_a_row_rejected_by_the_database_fails_only_its_day(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one transaction of many days, the database rejects a row of an increment day and one of a report day."""
    monkeypatch.setattr(load, "DAYS_TOGETHER", 4)
    deliver_days(shop)
    report = days_between("2024-09-26", "2024-09-30")
    shop.reports.report([Order(day, day=day) for day in report])
    shop.query(
        "CREATE FUNCTION staging.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.date_id IN (20241003, 20240929) THEN RAISE 'refused by the test'; END IF; RETURN NEW; END $$"
    )
    shop.query(
        "CREATE TRIGGER refuse BEFORE INSERT ON staging.user_orders_log FOR EACH ROW EXECUTE FUNCTION staging.refuse()"
    )
    error = shop.fail_to_load(report[0], LAST)
    assert "2 of 10 days failed" in error
    # The common cause is reported once, with its days.
    assert error.count("refused by the test") == 1
    assert f"2024-09-29, {BROKEN}: user_orders_log: refused by the test" in error
    loaded = [day for day in report if day != "2024-09-29"] + GOOD
    assert [name for name, _ in shop.sales()] == loaded
    everything = set(days_between(report[0], LAST))
    assert shop.materialized(RAW_ORDERS) == everything
    for key in (ORDERS, F_SALES):
        assert shop.materialized(key) == everything - {"2024-09-29", BROKEN}
    shop.query("DROP TRIGGER refuse ON staging.user_orders_log")
    shop.load("2024-09-29")
    assert [name for name, _ in shop.sales()] == report + GOOD


def test_a_broken_secondary_file_does_not_block_the_orders_of_its_day(shop: Shop) -> None:
    """The day fails for the broken file only; the orders of the day are loaded."""
    deliver_days(shop)
    shop.reports.increment(BROKEN, [Order(BROKEN, day=BROKEN)], custom_research="no header\n")
    error = shop.fail_to_load(FIRST, LAST)
    assert f"{BROKEN}: custom_research_inc/{BROKEN}/" in error
    assert [name for name, _ in shop.sales()] == DAYS
    assert shop.materialized(F_SALES) == set(DAYS)
    assert shop.materialized(dg.AssetKey(["staging", "custom_research"])) == set(GOOD)


def test_a_missing_raw_file_fails_only_the_days_that_need_it(shop: Shop) -> None:
    """A report's file is missing from the raw files; days served by increments are loaded."""
    deliver_days(shop)
    shop.reports.report([Order(day, day=day) for day in DAYS[:2]])
    shop.reports.without_increment(DAYS[0])
    shop.fetch_report()
    (path,) = shop.query("SELECT path FROM raw.fetch WHERE kind = 'report'")[0]
    original = stored_files()[path]
    change_stored_file(path, None)
    error = shop.fail_to_load(FIRST, LAST)
    assert "1 of 5 days failed" in error
    assert f"{DAYS[0]}: {path}: " in error
    assert [name for name, _ in shop.sales()] == DAYS[1:]
    assert shop.materialized(F_SALES) == set(DAYS[1:])
    change_stored_file(path, original)
    shop.load(DAYS[0])
    assert [name for name, _ in shop.sales()] == DAYS


def test_many_failed_days_are_counted_and_the_first_twenty_named(shop: Shop) -> None:
    days = days_between("2024-09-01", "2024-09-23")
    for day in days:
        shop.reports.increment(day, None, user_orders_log="no header\n")
    error = shop.fail_to_load(days[0], "2024-09-24")
    assert "23 of 24 days failed" in error
    assert re.findall(r"^(\S+): user_orders_log_inc/", error, re.MULTILINE) == days[:20]
    assert error.splitlines()[-1] == "... and 3 further causes"
    assert shop.materialized(F_SALES) == {"2024-09-24"}
