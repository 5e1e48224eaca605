"""The lake in Dagster: definitions, runs, the check, the sensor, and the command that prints how to read the lake."""

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pyiceberg.table import Transaction
from typer.testing import CliRunner

from sales_assets.cli import app
from sales_assets.cli.lake import Engine, LakeMissingError, lake_url_command, snippets
from sales_assets.connection_strings import parse
from sales_assets.dagster_internals import range_tags
from sales_assets.definitions import defs
from sales_assets.defs.lake.changed_days import changed_lake_days
from sales_assets.defs.lake.f_sales import LAKE_F_SALES
from sales_assets.resources.lake import Lake
from sales_assets.schemas.lake import LAKE_TABLES
from sales_assets_tests.fixtures import F_SALES
from sales_assets_tests.lake.conftest import DAYS, Query, copy, require_equal, use_lake

D_CITY, LAKE_D_CITY = dg.AssetKey(["mart", "d_city"]), dg.AssetKey(["lake", "d_city"])
FIRST, SECOND = DAYS[0].isoformat(), DAYS[1].isoformat()


@functools.cache
def definitions() -> dg.Definitions:
    """Return the code location with a lake; its assets exist only if LAKE_URL is set while the definitions load."""
    return defs()


def run(instance: dg.DagsterInstance, job: str, first: str = FIRST, last: str = SECOND) -> dg.ExecuteInProcessResult:
    resolved_job = definitions().resolve_job_def(job)
    tags = range_tags(first, last) if job == "refresh_lake" else {}
    return resolved_job.execute_in_process(instance=instance, tags=tags, raise_on_error=False)


def requested(instance: dg.DagsterInstance) -> list[tuple[str | None, str]]:
    """Return (job, first and last day) of the sensor's requests."""
    context = dg.build_sensor_context(instance, definitions=definitions())
    result = changed_lake_days(context)
    if not isinstance(result, dg.SensorResult):
        return []
    starts, ends = range_tags("first", "last")
    return [
        (request.job_name, "..".join(request.tags[tag] for tag in (starts, ends) if tag in request.tags))
        for request in result.run_requests or []
    ]


def loaded(instance: dg.DagsterInstance, *days: str) -> None:
    """Report materializations of the days and dimensions, like a load."""
    for day in days:
        instance.report_runless_asset_event(dg.AssetMaterialization(F_SALES, partition=day))
    instance.report_runless_asset_event(dg.AssetMaterialization(D_CITY))


def test_the_lake_assets_are_defined_with_their_columns(lake: Lake) -> None:
    specs = {spec.key.to_user_string(): spec for spec in definitions().resolve_all_asset_specs()}
    assert {name for name in specs if name.startswith("lake/")} == {f"lake/{name}" for name in LAKE_TABLES}
    assert {key.to_user_string() for key in (dep.asset_key for dep in specs["lake/f_sales"].deps)} == {
        "mart/f_sales",
        "mart/f_sales_partner_orders",
    }
    kinds = {"int": "integer", "long": "bigint", "string": "text", "decimal(10, 2)": "numeric(10,2)"}
    for name in LAKE_TABLES:
        schema = specs[f"lake/{name}"].metadata["dagster/column_schema"]
        shown = [(column.name, column.type) for column in schema.columns]
        fields = lake.table(name).schema().fields
        assert shown == [(field.name, kinds.get(str(field.field_type), str(field.field_type))) for field in fields]
        assert all(field.doc for field in fields)
    assert {name for name, spec in specs.items() if spec.tags.get("pii") and name.startswith("lake/")} == {
        "lake/d_customer"
    }
    columns = {
        name: {column.name for column in spec.metadata["dagster/column_schema"].columns}
        for name, spec in specs.items()
        if "dagster/column_schema" in spec.metadata
    }
    for name in LAKE_TABLES:
        lineage = specs[f"lake/{name}"].metadata["dagster/column_lineage"].deps_by_column
        assert set(lineage) <= columns[f"lake/{name}"]
        deps = [dep for of_column in lineage.values() for dep in of_column]
        assert all(dep.column_name in columns[dep.asset_key.to_user_string()] for dep in deps)


@pytest.mark.external
def test_without_the_setting_no_lake_library_is_imported() -> None:
    script = (
        "import sys; from sales_assets.definitions import defs; "
        "keys = defs().resolve_asset_graph().get_all_asset_keys();"
        "print('pyiceberg' in sys.modules, any(key.path[0] == 'lake' for key in keys))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_a_run_copies_its_days_and_reports_them(
    lake: Lake, instance: dg.DagsterInstance, insert_sale: Callable[..., None], query: Query
) -> None:
    insert_sale(DAYS[0])
    result = run(instance, "refresh_lake")
    assert result.success
    require_equal(lake, query)
    assert instance.get_materialized_partitions(LAKE_F_SALES) == {FIRST, SECOND}
    assert instance.get_latest_materialization_event(LAKE_D_CITY)
    (check,) = result.get_asset_check_evaluations()
    assert (check.check_name, check.passed) == ("equal_to_mart", True)
    copied = {event.partition: event.metadata for event in result.asset_materializations_for_node("lake_sales")}
    assert (copied[FIRST]["rows"].value, copied[SECOND]["rows"].value) == (40, 0)


def test_the_check_names_the_days_whose_rows_differ(
    lake: Lake, instance: dg.DagsterInstance, insert_sale: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another writer adds rows to the table after the commit and before the check."""
    for day in DAYS[:2]:
        insert_sale(day)
    commit = Transaction.commit_transaction
    added: list[Any] = []

    def add_a_row(self: Transaction) -> object:
        done = commit(self)
        if self._table.name()[-1] == "f_sales" and not added:
            added.append(self._table.scan(limit=1).to_arrow())
            self._table.append(added[0])
        return done

    monkeypatch.setattr(Transaction, "commit_transaction", add_a_row)
    result = run(instance, "refresh_lake")
    (check,) = result.get_asset_check_evaluations()
    assert not check.passed
    assert check.metadata["failing days"].value == 1


def test_the_sensor_requests_days_and_dimensions_until_they_are_copied(
    lake: Lake, instance: dg.DagsterInstance, insert_sale: Callable[..., None]
) -> None:
    assert requested(instance) == []
    loaded(instance, FIRST, SECOND, "2024-10-01", "1999-01-01", "nonsense")
    assert requested(instance) == [("refresh_lake", f"{FIRST}..{SECOND}"), ("refresh_lake", "2024-10-01..2024-10-01")]
    assert run(instance, "refresh_lake").success
    assert requested(instance) == [("refresh_lake", "2024-10-01..2024-10-01")]
    assert run(instance, "refresh_lake", "2024-10-01", "2024-10-01").success
    assert requested(instance) == []
    instance.report_runless_asset_event(dg.AssetMaterialization(D_CITY))
    assert requested(instance) == [("refresh_lake_dimensions", "")]
    assert run(instance, "refresh_lake_dimensions").success
    assert requested(instance) == []


def test_a_day_loaded_while_it_is_copied_is_requested_again(
    lake: Lake, instance: dg.DagsterInstance, insert_sale: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    insert_sale(DAYS[0])
    loaded(instance, FIRST)
    commit = Transaction.commit_transaction
    again = iter([FIRST])

    def load_again(self: Transaction) -> object:
        loaded(instance, *again)
        return commit(self)

    monkeypatch.setattr(Transaction, "commit_transaction", load_again)
    assert run(instance, "refresh_lake", FIRST, FIRST).success
    assert requested(instance) == [("refresh_lake", f"{FIRST}..{FIRST}")]


def test_the_maintenance_runs(lake: Lake, instance: dg.DagsterInstance) -> None:
    assert run(instance, "lake_maintenance").success


def typed(*words: str) -> str:
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_lake_url_command_prints_a_snippet_per_engine(lake: Lake, insert_sale: Callable[..., None]) -> None:
    insert_sale(DAYS[0])
    copy(lake, DAYS[0])
    printed = typed("lake", "url")
    assert all(mark in printed for mark in ("-- DuckDB\n", "# Spark\n", "# Trino: ", "-- ClickHouse"))
    metadata = lake.table("f_sales").metadata_location.removeprefix("file://")
    assert f"FROM iceberg_scan('{metadata}') AS f SELECT" in printed
    assert f"SETTINGS iceberg_metadata_file_path = 'metadata/{Path(metadata).name}'" in printed
    only = typed("lake", "url", "--engine", "duckdb")
    assert only.startswith("-- DuckDB\n")
    assert only.strip() in printed
    assert "# Spark" not in only


def test_snippets_contain_no_password() -> None:
    parameters = parse("postgresql://reader:the-secret@db.example:5433/shop")
    shown = snippets("s3://bucket/lake", "s3://bucket/lake/f_sales/metadata/7.metadata.json", parameters)
    for engine in (Engine.SPARK, Engine.TRINO):
        assert "jdbc:postgresql://db.example:5433/shop?currentSchema=lake" in shown[engine]
        assert "WAREHOUSE_PASSWORD" in shown[engine]
    assert "FROM icebergS3('s3://bucket/lake/f_sales', SETTINGS" in shown[Engine.CLICKHOUSE]
    assert "CREATE SECRET (TYPE s3, PROVIDER credential_chain);" in shown[Engine.DUCKDB]
    assert "the-secret" not in str(shown)
    azure = snippets("abfss://box@account.dfs.core.windows.net/lake", "abfss://box@account/7.json", parameters)
    assert "icebergAzure('<connection string>', 'box', 'lake/f_sales', SETTINGS" in azure[Engine.CLICKHOUSE]


def test_the_command_reports_a_missing_setting_or_table(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LakeMissingError, match="materialize the asset lake/f_sales"):
        lake_url_command()
    use_lake(monkeypatch, "")
    with pytest.raises(LakeMissingError, match="LAKE_URL is not set"):
        lake_url_command()
