"""One broken day in a range: it keeps no other day out, is named, is not shown as loaded, and can be healed."""

import re
from pathlib import Path

import dagster as dg
import pytest

from sales_assets.pipeline import load
from sales_assets.settings import settings
from sales_assets_tests.builders import Order, days_between
from sales_assets_tests.fixtures import F_SALES, ORDERS, RAW, RAW_ORDERS, Shop

FIRST, BROKEN, LAST = "2024-10-01", "2024-10-03", "2024-10-05"
DAYS = days_between(FIRST, LAST)
GOOD = [day for day in DAYS if day != BROKEN]


def fill(shop: Shop) -> None:
    for day in DAYS:
        shop.reports.increment(day, [Order(day, day=day)], price_log="Milk,100\n")


def heal(shop: Shop) -> None:
    """Run the missing day again."""
    asked = shop.api.count("/get_increment")
    shop.load(BROKEN)
    assert shop.api.count("/get_increment") == asked + 1
    assert [name for name, _ in shop.sales()] == DAYS
    for key in (RAW_ORDERS, ORDERS, F_SALES):
        assert shop.materialized(key) == set(DAYS)


def test_broken_in_raw(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """One day's file can't be fetched: nothing of the day is materialized, and the failure is on record."""
    fill(shop)
    shop.reports.increment(BROKEN, [Order(BROKEN, day=BROKEN)] * 50)
    shop.fetch_report()
    with monkeypatch.context() as patched:
        patched.setenv("RAW_FILES_MAX_BYTES", "1000")
        settings.cache_clear()
        told = shop.fail_to_load(FIRST, LAST)
    settings.cache_clear()
    assert "1 of 5 days broke" in told
    assert re.search(f"^{BROKEN}: .*1000 are accepted", told, re.MULTILINE)
    assert [name for name, _ in shop.sales()] == GOOD
    for key in (*RAW, ORDERS, F_SALES):
        assert shop.materialized(key) == set(GOOD)
    failed = shop.query("SELECT first_day::text, reason FROM raw.delivery WHERE outcome = 'failed'")
    assert [day for day, _ in failed] == [BROKEN]
    assert failed[0][1] in told
    heal(shop)


def test_broken_in_staging(shop: Shop) -> None:
    """An unreadable file: raw is materialized, it holds what was delivered; staging and mart are not."""
    fill(shop)
    shop.reports.increment(BROKEN, None, user_orders_log="what is this\n", price_log="Milk,100\n")
    told = shop.fail_to_load(FIRST, LAST)
    assert "1 of 5 days broke" in told
    assert f"{BROKEN}: user_orders_log_inc/{BROKEN}/" in told
    assert [name for name, _ in shop.sales()] == GOOD
    assert shop.materialized(RAW_ORDERS) == set(DAYS)
    for key in (ORDERS, F_SALES):
        assert shop.materialized(key) == set(GOOD)
    assert shop.query("SELECT count(*) FROM staging.price_log") == [(5,)]
    fill(shop)
    heal(shop)


def test_broken_inside_a_transaction_of_many_days(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the database refuses about one day, in increments and in a report: the days beside it are loaded."""
    monkeypatch.setattr(load, "DAYS_TOGETHER", 4)
    fill(shop)
    report = days_between("2024-09-26", "2024-09-30")
    shop.reports.report([Order(day, day=day) for day in report])
    shop.query(
        "CREATE FUNCTION staging.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.date_id IN (20241003, 20240929) THEN RAISE 'refused by the test'; END IF; RETURN NEW; END $$"
    )
    shop.query(
        "CREATE TRIGGER refuse BEFORE INSERT ON staging.user_orders_log FOR EACH ROW EXECUTE FUNCTION staging.refuse()"
    )
    told = shop.fail_to_load(report[0], LAST)
    assert "2 of 10 days broke" in told
    # One cause, named once with its days.
    assert told.count("refused by the test") == 1
    assert f"2024-09-29, {BROKEN}: user_orders_log: refused by the test" in told
    loaded = [day for day in report if day != "2024-09-29"] + GOOD
    assert [name for name, _ in shop.sales()] == loaded
    everything = set(days_between(report[0], LAST))
    assert shop.materialized(RAW_ORDERS) == everything
    for key in (ORDERS, F_SALES):
        assert shop.materialized(key) == everything - {"2024-09-29", BROKEN}
    shop.query("DROP TRIGGER refuse ON staging.user_orders_log")
    shop.load("2024-09-29")
    assert [name for name, _ in shop.sales()] == report + GOOD


def test_broken_in_one_of_the_other_files(shop: Shop) -> None:
    """It is named and missing there; the orders of the day are loaded all the same."""
    fill(shop)
    shop.reports.increment(BROKEN, [Order(BROKEN, day=BROKEN)], custom_research="no header\n")
    told = shop.fail_to_load(FIRST, LAST)
    assert f"{BROKEN}: custom_research_inc/{BROKEN}/" in told
    assert [name for name, _ in shop.sales()] == DAYS
    assert shop.materialized(F_SALES) == set(DAYS)
    assert shop.materialized(dg.AssetKey(["staging", "custom_research"])) == set(GOOD)


def test_a_kept_file_that_is_out_of_reach(shop: Shop, tmp_path: Path) -> None:
    """A report's file is gone from the raw files: days that increments serve are loaded."""
    fill(shop)
    shop.reports.report([Order(day, day=day) for day in DAYS[:2]])
    shop.reports.without_increment(DAYS[0])
    shop.fetch_report()
    (path,) = shop.query("SELECT path FROM raw.fetch WHERE kind = 'report'")[0]
    kept = (tmp_path / "home" / "raw" / path).rename(tmp_path / "elsewhere")
    told = shop.fail_to_load(FIRST, LAST)
    assert "1 of 5 days broke" in told
    assert f"{DAYS[0]}: {path}: " in told
    assert [name for name, _ in shop.sales()] == DAYS[1:]
    assert shop.materialized(F_SALES) == set(DAYS[1:])
    kept.rename(tmp_path / "home" / "raw" / path)
    shop.load(DAYS[0])
    assert [name for name, _ in shop.sales()] == DAYS


def test_many_broken_days_are_counted_and_the_first_are_named(shop: Shop) -> None:
    days = days_between("2024-09-01", "2024-09-23")
    for day in days:
        shop.reports.increment(day, None, user_orders_log="no header\n")
    told = shop.fail_to_load(days[0], "2024-09-24")
    assert "23 of 24 days broke" in told
    assert re.findall(r"^(\S+): user_orders_log_inc/", told, re.MULTILINE) == days[:20]
    assert told.splitlines()[-1] == "... and 3 further causes"
    assert shop.materialized(F_SALES) == {"2024-09-24"}
