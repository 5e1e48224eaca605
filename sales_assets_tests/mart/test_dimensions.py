"""Dimensions: one row per id in the mart, with its latest name, and a calendar without gaps."""

from dataclasses import replace

import dagster as dg
import pytest

from sales_assets.settings import settings
from sales_assets_tests.builders import Order
from sales_assets_tests.fixtures import ORDERS, Shop

DAYS = ["2024-10-01", "2024-10-02", "2024-10-03"]
KEYS = [dg.AssetKey(["mart", table]) for table in ("d_calendar", "d_city", "d_customer", "d_item")]
NAMES = (
    "SELECT city_name, first_name || ' ' || last_name, item_name"
    " FROM mart.d_city CROSS JOIN mart.d_customer CROSS JOIN mart.d_item"
)


@pytest.fixture
def shop(engine_shop: Shop) -> Shop:
    """Return a shop that loads without Dagster runs; tests of Dagster's records use `dagster_shop`."""
    return engine_shop


def named(name: str, day: str, time: str = "T00:00:00") -> Order:
    return Order(name, day=day, time=time, city_name=name, first_name=name, last_name=name, item_name=name)


def names(shop: Shop) -> tuple[str, ...]:
    (row,) = shop.query(NAMES)
    return row


def all_of(name: str) -> tuple[str, str, str]:
    return name, f"{name} {name}".strip() or " ", name


def materialized_days(shop: Shop) -> list[list[object]]:
    """Return the days of each recorded materialization, newest first, per dimension."""
    found = [shop.instance.fetch_materializations(key, limit=10).records for key in KEYS]
    materializations = [[record.asset_materialization for record in records] for records in found]
    return [[one.metadata["days loaded"].value for one in of_table if one] for of_table in materializations]


def test_a_load_materializes_each_filled_dimension_once(dagster_shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The materialization lists only the days that were loaded into the mart, however many were requested."""
    for day in DAYS:
        dagster_shop.reports.increment(day, [named("a", day)])
    dagster_shop.load(DAYS[0], DAYS[1])
    assert materialized_days(dagster_shop) == [[f"{DAYS[0]} to {DAYS[1]}"]] * 4
    dagster_shop.load(DAYS[2], selection=[ORDERS])
    assert materialized_days(dagster_shop) == [[f"{DAYS[0]} to {DAYS[1]}"]] * 4, "staging alone fills no dimension"
    dagster_shop.reports.increment(DAYS[1], [named("a", DAYS[1])] * 50)
    monkeypatch.setenv("RAW_FILES_MAX_BYTES", "1000")
    settings.cache_clear()
    dagster_shop.fail_to_load(DAYS[0], DAYS[2])
    assert materialized_days(dagster_shop)[3][0] == f"{DAYS[0]}, {DAYS[2]}"
    assert {len(days) for days in materialized_days(dagster_shop)} == {2}


def test_the_latest_name_by_event_time_wins(shop: Shop) -> None:
    """The order of loading does not matter; within a day the time decides, then the line number."""
    shop.reports.increment(DAYS[1], [named("noon", DAYS[1], "T12:00"), named("dawn", DAYS[1], " 06:00:00+09:00")])
    shop.reports.increment(DAYS[0], [named("before", DAYS[0], "T23:59:59.9Z")])
    shop.reports.increment(DAYS[2], [named("first", DAYS[2]), named("second", DAYS[2])])
    shop.load(DAYS[1])
    assert names(shop) == all_of("noon")
    shop.load(DAYS[0])
    assert names(shop) == all_of("noon")
    shop.load(DAYS[2])
    assert names(shop) == all_of("second")
    shop.load(DAYS[0], DAYS[2])
    assert names(shop) == all_of("second")


@pytest.mark.parametrize("by", ["loading", "rebuilding"])
@pytest.mark.parametrize(
    ("lines", "winner"),
    [
        ([("late", " 23:00:00"), ("early", "T01:00:00")], "late"),
        ([("with seconds", "T12:00:01"), ("without", "T12:00")], "with seconds"),
        ([("line 2", "T12:00:00"), ("line 3", "T12:00Z")], "line 3"),
        ([("midnight", ""), ("minute", "T00:01")], "minute"),
        ([("both", "T23:00"), ("line 3", "T23:00"), ("both", "T01:00")], "line 3"),
    ],
)
def test_the_latest_use_within_a_day(shop: Shop, by: str, lines: list[tuple[str, str]], winner: str) -> None:
    day = DAYS[0]
    orders = [replace(named(name, day, time), uniq_id=f"{n}") for n, (name, time) in enumerate(lines)]
    shop.reports.increment(day, orders)
    shop.load(day)
    if by == "rebuilding":
        shop.query("TRUNCATE mart.d_city, mart.d_customer, mart.d_item")
        shop.rebuild_dimensions()
    assert names(shop) == all_of(winner)


def test_an_empty_cell_is_not_a_name(shop: Shop) -> None:
    """An empty cell neither replaces a name nor prevents a name of an earlier day from being used."""
    shop.reports.increment(DAYS[2], [named("", DAYS[2]).but(uniq_id="x")])
    shop.load(DAYS[2])
    assert names(shop) == ("", " ", "")
    shop.reports.increment(DAYS[0], [named("early", DAYS[0])])
    shop.load(DAYS[0])
    assert names(shop) == all_of("early")
    shop.reports.increment(DAYS[1], [named("", DAYS[1]).but(uniq_id="y")])
    shop.load(DAYS[1])
    assert names(shop) == all_of("early")


def test_dimension_rows_are_never_deleted(shop: Shop) -> None:
    """Other sources may use an id that a day no longer contains; a city belongs to the sale, not to the customer."""
    other_city = Order("b", city_id="2", city_name="Sochi", item_id="9", item_name="Bread", customer_id="52")
    shop.reports.increment(DAYS[0], [Order("a"), other_city, Order("c", city_id="2", city_name="Sochi")])
    shop.load(DAYS[0])
    shop.reports.increment(DAYS[0], [Order("a")])
    shop.load(DAYS[0])
    assert shop.query("SELECT city_id, city_name FROM mart.d_city ORDER BY 1") == [(1, "Rostov"), (2, "Sochi")]
    assert shop.query("SELECT customer_id FROM mart.d_customer ORDER BY 1") == [(51,), (52,)]
    assert shop.query("SELECT item_id, item_name FROM mart.d_item ORDER BY 1") == [(3, "Milk"), (9, "Bread")]


def test_the_calendar_has_no_gaps(shop: Shop) -> None:
    """The calendar covers the first to the last requested day, in any order of loading, and in an unusual time zone."""
    # In Beirut, 29 March 2020 begins at one o'clock.
    database = shop.query("SELECT current_database()")[0][0]
    shop.query(f"ALTER DATABASE {database} SET timezone = 'Asia/Beirut'")
    shop.load("2020-03-28")
    shop.load("2020-04-01")
    all_days = [20200326, 20200327, 20200328, 20200329, 20200330, 20200331, 20200401]
    assert shop.query("SELECT date_id FROM mart.d_calendar ORDER BY 1") == [(day,) for day in all_days[2:]]
    shop.load("2020-03-26")
    assert shop.query("SELECT date_id FROM mart.d_calendar ORDER BY 1") == [(day,) for day in all_days]
    sunday = shop.query(
        "SELECT date_actual::text, year_num, quarter_num, month_num, month_name, day_num, day_of_week, iso_year,"
        " iso_week FROM mart.d_calendar WHERE date_id = 20200329"
    )
    assert sunday == [("2020-03-29", 2020, 1, 3, "March", 29, 7, 2020, 13)]


def test_rebuilding_dimensions_restores_all_rows_from_staging(shop: Shop) -> None:
    """Lost rows are restored with the names stored by the loads."""
    shop.reports.increment(DAYS[0], [named("old", DAYS[0])])
    shop.reports.increment(DAYS[2], [named("new", DAYS[2]), Order("b", day=DAYS[2], city_id="2", city_name="Sochi")])
    shop.load(DAYS[0], DAYS[2])
    tables = ["d_calendar", "d_city", "d_customer", "d_item"]
    before = [shop.query(f"SELECT * FROM mart.{table} ORDER BY 1") for table in tables]
    for table in tables:
        shop.query(f"DELETE FROM mart.{table}")
    shop.rebuild_dimensions()
    assert [shop.query(f"SELECT * FROM mart.{table} ORDER BY 1") for table in tables] == before
    shop.rebuild_dimensions()
    assert [shop.query(f"SELECT * FROM mart.{table} ORDER BY 1") for table in tables] == before
