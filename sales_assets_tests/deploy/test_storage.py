"""Dagster's storage: same rows as dagster-postgres, and survives lost connections."""

from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from sales_assets.dagster_internals import range_tags
from sales_assets.deploy.storage import EventLog

_DAYS = dg.DailyPartitionsDefinition("2024-10-01", end_date="2024-10-06")
_WRITTEN = """SELECT dagster_event_type, asset_key, partition, count(*) FROM event_logs
    WHERE dagster_event_type LIKE 'ASSET%%' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"""
_ASSETS = """SELECT asset_key, last_run_id = (SELECT run_id FROM runs ORDER BY id DESC LIMIT 1),
           last_materialization_timestamp IS NOT NULL
    FROM asset_keys ORDER BY 1"""
_CHECKS = """SELECT asset_key, check_name, partition, execution_status, evaluation_event IS NULL,
           materialization_event_storage_id IS NULL, count(*)
    FROM asset_check_executions GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6"""
# Only counted, because data versions are random.
_TAGS = "SELECT asset_key, key, count(*) FROM asset_event_tags GROUP BY 1, 2 ORDER BY 1, 2"


@dg.multi_asset(
    specs=[dg.AssetSpec("first"), dg.AssetSpec("second", deps=["first"])],
    check_specs=[dg.AssetCheckSpec("good", asset="first")],
    partitions_def=_DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def days(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    if "breaks" in context.run.tags:
        raise dg.Failure("as it was asked to", allow_retries=False)
    yield dg.MaterializeResult(asset_key="first")
    yield dg.MaterializeResult(asset_key="second")
    yield dg.AssetCheckResult(asset_key="first", check_name="good", passed=True)


Open = Callable[[str], dg.DagsterInstance]


@pytest.fixture
def open_instance(
    new_database: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Open]:
    """Open an instance on a separate database, with the storage section of a dagster.yaml."""
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "100")
    opened: list[dg.DagsterInstance] = []

    def open_one(storage: str) -> dg.DagsterInstance:
        home = tmp_path / str(len(opened))
        home.mkdir()
        lines = storage.format(url=new_database("template1"))
        (home / "dagster.yaml").write_text(f"storage:\n{lines}telemetry: {{enabled: false}}\n")
        opened.append(dg.DagsterInstance.from_config(str(home)))
        return opened[-1]

    yield open_one
    for instance in opened:
        instance.dispose()


OURS = """  custom:
    module: sales_assets.deploy.storage
    class: Storage
    config: {{postgres_url: "{url}"}}
"""
DAGSTERS = '  postgres: {{postgres_url: "{url}"}}\n'


def run(instance: dg.DagsterInstance, **tags: str) -> bool:
    tags |= range_tags("2024-10-01", "2024-10-05")
    definitions = dg.Definitions(assets=[days], jobs=[dg.define_asset_job("all_days")])
    job = definitions.resolve_job_def("all_days")
    return job.execute_in_process(instance=instance, tags=tags, raise_on_error=False).success


def log_of(instance: dg.DagsterInstance) -> EventLog:
    assert isinstance(instance.event_log_storage, EventLog)
    return instance.event_log_storage


def stored(instance: dg.DagsterInstance) -> list[list[tuple[object, ...]]]:
    with psycopg.connect(instance.event_log_storage.postgres_url) as connection:  # type: ignore[attr-defined]
        return [connection.execute(statement.encode()).fetchall() for statement in (_WRITTEN, _ASSETS, _TAGS, _CHECKS)]


def test_storage_has_the_same_rows_as_dagster_postgres(open_instance: Open) -> None:
    ours, dagsters = open_instance(OURS), open_instance(DAGSTERS)
    assert log_of(ours)
    for instance in (ours, dagsters):
        assert run(instance)
        assert run(instance)
        # The failed run leaves only its planned materializations.
        assert not run(instance, breaks="yes")
    assert stored(ours) == stored(dagsters)
    written = stored(ours)[0]
    assert ("ASSET_MATERIALIZATION_PLANNED", '["second"]', "2024-10-05", 3) in written
    assert ours.get_materialized_partitions(dg.AssetKey("second")) == set(_DAYS.get_partition_keys())


def test_connections_are_reused_and_replaced_when_terminated(open_instance: Open) -> None:
    instance = open_instance(OURS)
    assert run(instance)
    log = log_of(instance)
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with psycopg.connect(log.postgres_url, autocommit=True) as connection:
        killed = connection.execute(f"SELECT pg_terminate_backend(pid) {others}".encode()).fetchall()
    assert killed, "no connection was kept"
    assert run(instance)


def test_page_queries_survive_a_restart_of_the_server(open_instance: Open) -> None:
    instance = open_instance(OURS)
    assert run(instance)
    instance.optimize_for_webserver(statement_timeout=5000, pool_recycle=3600, max_overflow=20)

    def page() -> tuple[int, int, int]:
        (newest,) = instance.get_runs(limit=1)
        return len(instance.all_logs(newest.run_id)), len(instance.get_runs()), len(instance.all_instigator_state())

    before = page()
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with psycopg.connect(log_of(instance).postgres_url, autocommit=True) as connection:
        killed = connection.execute(f"SELECT pg_terminate_backend(pid) {others}".encode()).fetchall()
    assert len(killed) >= 3, "each of the three storages keeps one"
    assert page() == before
