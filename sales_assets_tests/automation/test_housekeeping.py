"""Housekeeping: old events are deleted, except those that the UI or a sensor reads."""

from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
import psycopg
import pytest
from dagster_postgres import PostgresEventLogStorage, PostgresRunStorage

from sales_assets.defs.reports.sales_overview import SALES_OVERVIEW
from sales_assets_tests.builders import Order, fetch_report, job, load_days
from sales_assets_tests.fixtures import F_SALES, RAW_ORDERS, Shop

FIRST, LAST = "2024-10-01", "2024-10-03"
BAD = "2024-10-02"


@pytest.fixture
def storage(new_database: Callable[..., str], request: pytest.FixtureRequest) -> str:
    """The URL of an empty database; with a parameter, its tables are in this schema."""
    url = new_database("template1")
    schema = getattr(request, "param", None)
    if schema is None:
        return url
    rows(url, f"CREATE SCHEMA {schema}")
    return f"{url}&options=-csearch_path%3D{schema}"


@pytest.fixture
def instance(storage: str) -> Iterator[dg.DagsterInstance]:
    """Dagster on PostgreSQL, as deployed."""
    overrides = {
        "run_storage": {
            "module": PostgresRunStorage.__module__,
            "class": PostgresRunStorage.__name__,
            "config": {"postgres_url": storage},
        },
        "event_log_storage": {
            "module": PostgresEventLogStorage.__module__,
            "class": PostgresEventLogStorage.__name__,
            "config": {"postgres_url": storage},
        },
    }
    with dg.instance_for_test(overrides=overrides) as made:
        yield made


def rows(storage: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(storage) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def age(storage: str, days: int) -> None:
    """Make all of Dagster's records older by a number of days."""
    for table, column in [
        ("event_logs", "timestamp"),
        ("asset_event_tags", "event_timestamp"),
        ("asset_check_executions", "create_timestamp"),
    ]:
        rows(storage, f"UPDATE {table} SET {column} = {column} - interval '{days} days'")


def known(instance: dg.DagsterInstance) -> dict[str, Any]:
    """Return the records that the UI and the sensors read."""
    failed = instance.event_log_storage.get_latest_asset_partition_materialization_attempts_without_materializations(
        F_SALES
    )
    records = [
        instance.fetch_materializations(dg.AssetRecordsFilter(key, asset_partitions=[day]), limit=1).records[0]
        for key in (F_SALES, RAW_ORDERS)
        for day in sorted(instance.get_materialized_partitions(key))
    ]
    checks = instance.event_log_storage.get_latest_asset_check_execution_by_key(
        [dg.AssetCheckKey(F_SALES, "signs"), dg.AssetCheckKey(F_SALES, "equal_to_staging")]
    )
    return {
        "materialized": {
            key.to_user_string(): instance.get_materialized_partitions(key) for key in (F_SALES, RAW_ORDERS)
        },
        "failed": failed,
        "latest": [(record.storage_id, record.asset_materialization) for record in records],
        "checks": {key: check.status for key, check in checks.items()},
        "runs": [(run.run_id, run.status, dict(run.tags)) for run in instance.get_runs()],
    }


def test_housekeeping_deletes_old_events_and_keeps_what_is_read(
    shop: Shop, instance: dg.DagsterInstance, storage: str
) -> None:
    for day in (FIRST, BAD, LAST):
        shop.reports.increment(day, [Order(day, day=day)])
    assert fetch_report(instance).success
    for _ in range(3):
        assert load_days(instance, FIRST, LAST).success
    shop.reports.increment(BAD, None, user_orders_log="no file of ours\n")
    assert not load_days(instance, FIRST, LAST).success
    age(storage, 29)
    before = known(instance)
    assert set(before["failed"]) == {BAD}
    ((everything,),) = rows(storage, "SELECT count(*) FROM event_logs")

    assert job("housekeeping").execute_in_process(instance=instance).success
    assert rows(storage, "SELECT count(*) FROM event_logs WHERE timestamp < now() - interval '10 days'") == [
        (everything,)
    ]

    age(storage, 2)
    assert job("housekeeping").execute_in_process(instance=instance).success
    after = known(instance)
    mine = {run_id for run_id, _, _ in before["runs"]}
    after["runs"] = [run for run in after["runs"] if run[0] in mine]
    assert after == before
    ((left,),) = rows(storage, "SELECT count(*) FROM event_logs WHERE timestamp < now() - interval '30 days'")
    assert left < everything / 3
    assert load_days(instance, FIRST, FIRST).success


@pytest.mark.parametrize("storage", [None, "of_dagster"], indirect=True)
def test_housekeeping_keeps_the_last_refresh_of_the_charts_of_each_past_day(
    instance: dg.DagsterInstance, storage: str
) -> None:
    def refresh(number: int) -> None:
        instance.report_runless_asset_event(dg.AssetMaterialization(SALES_OVERVIEW, metadata={"number": number}))

    def recorded_numbers() -> list[Any]:
        records = instance.fetch_materializations(SALES_OVERVIEW, limit=20).records
        return [
            record.asset_materialization.metadata["number"].value for record in records if record.asset_materialization
        ]

    for day in range(2):
        for refreshed in (1, 2, 3):
            refresh(day * 10 + refreshed)
        rows(storage, "UPDATE event_logs SET timestamp = date_trunc('day', timestamp) - interval '36 hours'")
    for refreshed in (21, 22):
        refresh(refreshed)
    instance.report_runless_asset_event(dg.AssetMaterialization(F_SALES, partition=FIRST))
    rows(storage, "UPDATE event_logs SET timestamp = timestamp - interval '3 days' WHERE asset_key LIKE '%f_sales%'")
    assert job("housekeeping").execute_in_process(instance=instance).success
    assert recorded_numbers() == [22, 21, 13, 3]
    assert instance.get_materialized_partitions(F_SALES) == {FIRST}
