"""Derived tables: written in the transaction of their staging table, after resolutions, and to repair lost rows."""

from collections.abc import Callable
from typing import Any

import pytest

from sales_assets.defs.load_daily_sales import DERIVED_MARTS, stored_specs
from sales_assets.defs.mart.derived import DerivedMart
from sales_assets.defs.staging.report_files import staging_key
from sales_assets_tests.builders import Order, days_between
from sales_assets_tests.fixtures import RAW, Shop

DAYS = days_between("2024-10-01", "2024-10-03")
HEADERS = {
    "user_activity_log": "id,uniq_id,date_time,action_id,customer_id,quantity",
    "custom_research": "date_id,category_id,geo_id,sales_qty,sales_amt",
}
LINES: dict[str, Callable[[str, int], str]] = {
    "user_activity_log": lambda day, number: f"{number},{day}{number},{day},{number},51,2",
    "custom_research": lambda day, number: f"{day},{number},1,2,20",
}


@pytest.fixture
def shop(engine_shop: Shop) -> Shop:
    """Return a shop that loads without Dagster runs; tests of Dagster's records use `dagster_shop`."""
    return engine_shop


@pytest.fixture(params=DERIVED_MARTS, ids=lambda mart: mart.key.path[-1])
def mart(request: pytest.FixtureRequest) -> DerivedMart:
    """Return each derived mart in turn."""
    made: DerivedMart = request.param
    return made


def deliver(shop: Shop, mart: DerivedMart, day: str, *numbers: int, more: tuple[str, ...] = ()) -> None:
    """Replace the day's increment with a file that results in one row of the mart for each number."""
    name = mart.file.name
    lines = [HEADERS[name], *(LINES[name](day, number) for number in numbers), *more, ""]
    files: dict[str, Any] = {name: "\n".join(lines)}
    shop.reports.increment(day, [Order(day, day=day)], **files)


def rows(shop: Shop, mart: DerivedMart) -> list[tuple[Any, ...]]:
    return shop.query(f"SELECT * FROM {mart.table.table} ORDER BY 1, 2, 3")


def rows_by_day(shop: Shop, mart: DerivedMart) -> list[tuple[int, int]]:
    return shop.query(f"SELECT date_id, count(*) FROM {mart.table.table} GROUP BY 1 ORDER BY 1")


def staged_by_day(shop: Shop, mart: DerivedMart) -> list[tuple[int, int]]:
    return shop.query(f"SELECT date_id, count(*) FROM staging.{mart.file.name} GROUP BY 1 ORDER BY 1")


def test_a_day_whose_derived_rows_differ_is_rolled_back_with_its_staging(dagster_shop: Shop, mart: DerivedMart) -> None:
    """If the derived rows of one day don't match, the load rolls back the day's staging and loads the other days."""
    for day in DAYS:
        deliver(dagster_shop, mart, day, 1)
    dagster_shop.load(DAYS[0], DAYS[-1])
    for day in DAYS:
        deliver(dagster_shop, mart, day, 1, 2)
    dagster_shop.query(
        "CREATE FUNCTION mart.distort() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF NEW.date_id = 20241002 THEN RETURN NULL; END IF; RETURN NEW; END $$"
    )
    table = mart.table.table
    dagster_shop.query(f"CREATE TRIGGER distort BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION mart.distort()")
    with dagster_shop.instance as instance:
        instance.wipe_assets([mart.key, staging_key(mart.file)])
        error = dagster_shop.fail_to_load(DAYS[0], DAYS[-1])
        assert "1 of 3 days failed" in error
        assert f"{DAYS[1]}: {mart.file.name}: {mart.table.name} 20241002: " in error
        assert (
            rows_by_day(dagster_shop, mart)
            == staged_by_day(dagster_shop, mart)
            == [(20241001, 2), (20241002, 1), (20241003, 2)]
        )
        for key in (mart.key, staging_key(mart.file)):
            assert dagster_shop.materialized(key) == {DAYS[0], DAYS[2]}
        dagster_shop.query(f"DROP TRIGGER distort ON {table}")
        dagster_shop.load(DAYS[1])
        assert rows_by_day(dagster_shop, mart) == [(20241001, 2), (20241002, 2), (20241003, 2)]
        assert dagster_shop.materialized(mart.key) == set(DAYS)


@pytest.mark.parametrize("selected", ["mart", "everything"])
def test_lost_and_foreign_rows_are_repaired(shop: Shop, mart: DerivedMart, selected: str) -> None:
    """A load of the mart alone repairs the rows without the report API; so does a full load with nothing to stage."""
    for day in DAYS:
        deliver(shop, mart, day, 1)
    shop.load(DAYS[0], DAYS[-1])
    before = rows(shop, mart)
    table = mart.table.table
    shop.query(f"DELETE FROM {table} WHERE date_id = 20241001")
    shop.query(f"UPDATE {table} SET {mart_value(mart)} = 7 WHERE date_id = 20241002")
    shop.query(f"UPDATE {table} SET date_id = 20241004 WHERE date_id = 20241003")
    shop.load(DAYS[0], DAYS[-1], selection=[mart.key] if selected == "mart" else None)
    assert [row for row in rows(shop, mart) if row[0] != 20241004] == before
    shop.load("2024-10-04", selection=[mart.key] if selected == "mart" else None)
    assert rows(shop, mart) == before


def mart_value(mart: DerivedMart) -> str:
    """Return a column that is not part of the key."""
    return {"f_activity": "quantity", "f_research": "sales_qty"}[mart.table.name]


def test_loading_only_staging_leaves_the_mart_unchanged(shop: Shop, mart: DerivedMart) -> None:
    """A table that is not selected is not written; the next full load updates the derived table, like the sales."""
    deliver(shop, mart, DAYS[0], 1)
    shop.load(DAYS[0], selection=[*RAW, staging_key(mart.file)])
    assert (rows_by_day(shop, mart), staged_by_day(shop, mart)) == ([], [(20241001, 1)])
    shop.load(DAYS[0])
    assert rows_by_day(shop, mart) == [(20241001, 1)]


def test_a_resolved_row_reaches_the_mart(shop: Shop, mart: DerivedMart) -> None:
    """The load that follows a resolution includes the staging tables and the marts derived from them."""
    deliver(shop, mart, DAYS[0], 1, more=(f"9,x,{DAYS[0]},no number,51,2,,",))
    shop.load(DAYS[0])
    stored = [spec.key for spec in stored_specs()]
    assert {staging_key(mart.file), mart.key} <= set(stored)
    corrected = LINES[mart.file.name](DAYS[0], 8)
    shop.query(
        "UPDATE staging.quarantine SET state = 'corrected', corrected_text = %s, corrected_at = now()", corrected
    )
    shop.load(DAYS[0], selection=stored)
    assert rows_by_day(shop, mart) == [(20241001, 2)]


def test_the_numbers_of_a_day_are_in_the_metadata_of_its_materialization(dagster_shop: Shop, mart: DerivedMart) -> None:
    deliver(dagster_shop, mart, DAYS[0], 1, 2)
    dagster_shop.load(DAYS[0])
    event = dagster_shop.instance.get_latest_materialization_event(mart.key)
    assert event is not None
    assert event.asset_materialization is not None
    metadata = {name: value.value for name, value in event.asset_materialization.metadata.items()}
    assert metadata["rows"] == 2
    assert 4.0 in metadata.values()
