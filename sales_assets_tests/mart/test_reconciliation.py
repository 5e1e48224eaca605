"""Reconciliation: a day whose mart rows would differ from staging for any reason is rolled back before the commit."""

import pytest

from sales_assets_tests.builders import Order, days_between
from sales_assets_tests.fixtures import F_SALES, ORDERS, RAW, Shop

DAYS = days_between("2024-10-01", "2024-10-03")

DISTORTIONS = {
    "another amount": "NEW.amount := NEW.amount + 0.01; RETURN NEW;",
    "another quantity": "NEW.quantity := NEW.quantity + 1; RETURN NEW;",
    "a lost row": "RETURN NULL;",
    "the wrong sign": "NEW.amount := -NEW.amount; NEW.status := 'refunded'; RETURN NEW;",
}


@pytest.fixture
def shop(engine_shop: Shop) -> Shop:
    """Return a shop that loads without Dagster runs; tests of Dagster's records use `dagster_shop`."""
    return engine_shop


def distort(shop: Shop, change: str) -> None:
    """Add a trigger that changes the second day's row when it is inserted into the mart."""
    shop.query(
        "CREATE FUNCTION mart.distort() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF NEW.date_id = 20241002 THEN {change} END IF; RETURN NEW; END $$"
    )
    shop.query("CREATE TRIGGER distort BEFORE INSERT ON mart.f_sales FOR EACH ROW EXECUTE FUNCTION mart.distort()")


@pytest.mark.parametrize("change", DISTORTIONS.values(), ids=DISTORTIONS)
def test_a_day_that_would_differ_from_staging_is_rolled_back(shop: Shop, change: str) -> None:
    for day in DAYS:
        shop.reports.increment(day, [Order(f"{day}old", day=day)])
    shop.load(DAYS[0], DAYS[-1])
    for day in DAYS:
        shop.reports.increment(day, [Order(f"{day}new", day=day)])
    distort(shop, change)
    error = shop.fail_to_load(DAYS[0], DAYS[-1])
    assert "1 of 3 days failed" in error
    assert f"\n{DAYS[1]}: user_orders_log: 20241002: " in error
    assert [name for name, _ in shop.sales()] == [f"{DAYS[0]}new", f"{DAYS[1]}old", f"{DAYS[2]}new"]
    assert [amount for _, amount in shop.sales()] == [200, 200, 200]
    shop.query("DROP TRIGGER distort ON mart.f_sales")
    shop.load(DAYS[1])
    assert [name for name, _ in shop.sales()] == [f"{day}new" for day in DAYS]


def test_a_mart_day_published_without_staging_is_rolled_back_too(dagster_shop: Shop) -> None:
    for day in DAYS:
        dagster_shop.reports.increment(day, [Order(day, day=day)])
    dagster_shop.fetch_report()
    distort(dagster_shop, DISTORTIONS["another amount"])
    dagster_shop.load(DAYS[0], DAYS[-1], selection=[*RAW, ORDERS])
    error = dagster_shop.fail_to_load(DAYS[0], DAYS[-1], selection=[F_SALES])
    assert "1 of 3 days failed" in error
    assert f"\n{DAYS[1]}: user_orders_log: 20241002: " in error
    assert dagster_shop.sales() == [(DAYS[0], 200), (DAYS[2], 200)]
    assert dagster_shop.materialized(F_SALES) == {DAYS[0], DAYS[2]}
