"""The Dagster definitions: complete, consistently named in four places, and loadable in an empty environment."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from sales_assets.cli.load import defs as defs_of_load
from sales_assets.defs.reports.sales_overview import SALES_OVERVIEW
from sales_assets.defs.sources.report_api import REPORT_API
from sales_assets.postgres.queries import sql_folder
from sales_assets.schemas.report_files import REPORT_FILES, ReportFile
from sales_assets_tests.architecture import inventory
from sales_assets_tests.builders import definitions

NO_TABLES = {REPORT_API, SALES_OVERVIEW}

Query = Callable[..., list[tuple[object, ...]]]

# Files of sql/mart that belong to no single table: they read the whole mart.
NOT_TABLES = {"load_summary"}

LOAD = "from sales_assets.definitions import defs; defs(); from sales_assets.partitions import DAYS; "

# Ends the process at the first write to a file or outgoing call. Libraries access the machine during their import
# (/dev/null, a socket that is never connected); these accesses are allowed.
WATCH = """
import os, sys
def watch(event, arguments):
    if event == "open" and arguments[0] != "/dev/null":
        found = (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    else:
        found = event in ("socket.connect", "socket.getaddrinfo", "os.mkdir")
    if found:
        os.write(2, f"loading does {event} {arguments}".encode())
        os._exit(3)
sys.addaudithook(watch)
"""


def specs() -> list[dg.AssetSpec]:
    """Return all asset specs in a stable order: pytest-xdist compares what its processes have collected."""
    return sorted(definitions().resolve_all_asset_specs(), key=lambda spec: spec.key)


def tables() -> list[dg.AssetSpec]:
    return [spec for spec in specs() if "dagster/table_name" in spec.metadata]


def each(found: list[dg.AssetSpec]) -> pytest.MarkDecorator:
    """Parametrize a test by asset, with the asset's key as its id."""
    return pytest.mark.parametrize("spec", [pytest.param(spec, id=spec.key.to_user_string()) for spec in found])


def columns_of(query: Query, table: str) -> dict[str, str]:
    """Return {column: type as in DDL} of a table of the warehouse, in order."""
    rows = query(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        table,
    )
    return {str(name): str(kind).replace(" without time zone", "") for name, kind in rows}


def load(folder: Path, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in an empty folder, with no environment variables but PATH and the given ones."""
    return subprocess.run(
        [sys.executable, "-B", "-c", script],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.external
def test_definitions_load_in_an_empty_environment(tmp_path: Path) -> None:
    done = load(tmp_path, WATCH + LOAD)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.external
def test_loading_definitions_reads_only_two_settings(tmp_path: Path) -> None:
    nonsense = {"WAREHOUSE_URL": "nonsense", "SALES_HOME": "/dev/null/home", "REPORT_API_TIMEOUT": "nonsense"}
    read = "import sales_assets.partitions as p; print(p.DAYS.get_first_partition_key(), p.LOAD_POLICY)"
    both = {"SALES_FIRST_DAY": "2024-02-29", "SALES_DAYS_PER_RUN": "30"}
    done = load(tmp_path, f"{LOAD}{read}", **both, **nonsense)
    assert (done.returncode, done.stdout) == (0, f"2024-02-29 {dg.BackfillPolicy.multi_run(30)}\n")
    policy = load(tmp_path, read, SALES_DAYS_PER_RUN="").stdout.partition(" ")[2]
    assert policy == f"{dg.BackfillPolicy.single_run()}\n"
    for setting, value in (("SALES_FIRST_DAY", "2024-02-30"), ("SALES_DAYS_PER_RUN", "0")):
        refused = load(tmp_path, read, **{setting: value})
        assert refused.returncode != 0
        assert setting in refused.stderr


def test_the_definitions_match_the_reviewed_inventory() -> None:
    assert inventory.inventory() == inventory.FILE.read_text(encoding="utf-8"), (
        "definitions changed: python -m sales_assets_tests.architecture.inventory writes them down for the review"
    )


@each(specs())
def test_every_asset_is_described(spec: dg.AssetSpec) -> None:
    assert spec.description
    assert spec.owners == ["team:sales"]
    assert spec.kinds
    assert spec.tags["cadence"] in ("daily", "weekly", "on_change")
    assert (spec.tags["cadence"] == "on_change") == (spec.partitions_def is None)
    assert spec.group_name == spec.key.path[0]
    assert spec.key in NO_TABLES or spec.metadata.get("dagster/column_schema"), "no columns"


def test_jobs_sensors_and_schedules_are_described() -> None:
    repository = definitions().get_repository_def()
    described = {one.name: one.description for one in repository.get_all_jobs()}
    described |= {one.name: one.description for one in repository.sensor_defs}
    described |= {one.name: one.description for one in repository.schedule_defs}
    assert [name for name, description in described.items() if not description] == ["__ASSET_JOB"]  # Dagster's own


def test_lineage_starts_at_the_sources() -> None:
    roots = {spec.key for spec in specs() if not spec.deps}
    assert {key.path[0] for key in roots} == {"sources"}
    assert roots == definitions().resolve_asset_graph().external_asset_keys


def test_assets_downstream_of_increments_have_a_daily_freshness_policy() -> None:
    """The audience is an exception: it is filled only for platforms that send mailings."""
    graph = definitions().resolve_asset_graph()
    moving = {spec.key for spec in specs() if spec.key.path[-1].endswith("_inc")}
    for key in graph.toposorted_asset_keys:
        if graph.get(key).parent_keys & moving and key.path[0] != "mailings":
            moving.add(key)
    assert dg.AssetKey(["mart", "d_city"]) in moving
    assert moving == {key for key in graph.get_all_asset_keys() if graph.get(key).freshness_policy}


def test_column_lineage_refers_to_existing_columns() -> None:
    columns = {
        spec.key: {column.name for column in spec.metadata["dagster/column_schema"].columns}
        for spec in specs()
        if spec.key not in NO_TABLES
    }
    parents = {spec.key: {dep.asset_key for dep in spec.deps} for spec in specs()}
    lineages = {spec.key: spec.metadata.get("dagster/column_lineage") for spec in specs()}
    facts = {key for key in lineages if key.path[0] == "mart" and key.path[-1].startswith("f_")}
    assert len(facts) >= 7
    assert facts <= {key for key, lineage in lineages.items() if lineage}
    for key, lineage in lineages.items():
        for column, deps in lineage.deps_by_column.items() if lineage else ():
            assert column in columns[key], f"{key.to_user_string()} has no column {column}"
            for dep in deps:
                assert dep.asset_key in parents[key], f"{dep.asset_key} is not upstream of {key.to_user_string()}"
                assert dep.column_name in columns[dep.asset_key], f"{dep.asset_key} has no column {dep.column_name}"


def test_assets_with_names_or_phones_are_tagged_as_personal() -> None:
    tagged = {spec.key.to_user_string() for spec in specs() if spec.tags.get("pii") == "true"}
    assert tagged == {
        "sources/mailings/client",
        "raw/user_orders_log",
        "raw/user_orders_log_inc",
        "staging/partner_order_event",
        "mart/d_customer",
    }
    # Decide by the names of columns, independent of the rule for the tag.
    personal = re.compile(r"phone|e_?mail|address|birth|(first|last|middle|customer|client)_name")
    found = {
        spec.key.to_user_string()
        for spec in specs()
        if spec.key not in NO_TABLES
        and any(personal.search(column.name) for column in spec.metadata["dagster/column_schema"].columns)
    }
    assert found == tagged


def test_asset_sql_file_and_table_have_the_same_name(query: Query) -> None:
    for spec in tables():
        *_, schema, name = spec.key.path
        assert (sql_folder() / schema / f"{name}.sql").exists(), f"{spec.key}: sql/{schema} has no {name}.sql"
        assert columns_of(query, str(spec.metadata["dagster/table_name"])), f"{spec.key}: there is no such table"
    # Every file of the mart belongs to a table.
    assert {path.stem for path in (sql_folder() / "mart").glob("*.sql")} == NOT_TABLES | {
        spec.key.path[-1] for spec in tables() if spec.key.path[0] == "mart"
    }


@each(tables())
def test_displayed_columns_equal_those_of_the_table(spec: dg.AssetSpec, query: Query) -> None:
    shown = {column.name: column.type for column in spec.metadata["dagster/column_schema"].columns}
    assert shown == columns_of(query, str(spec.metadata["dagster/table_name"]))


@each(tables())
def test_displayed_primary_keys_equal_those_of_the_table(spec: dg.AssetSpec, query: Query) -> None:
    """Staging tables of the report files have no primary key: their keys are checked while a file is parsed."""
    shown = spec.metadata["dagster/column_schema"].constraints.other
    keys = query(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = to_regclass(%s) AND contype = 'p'",
        str(spec.metadata["dagster/table_name"]),
    )
    assert [(key,) for key in shown] == keys


@pytest.mark.parametrize("job", ["load_report", "load_days"])
def test_the_jobs_of_the_load_command_equal_those_of_the_code_location(job: str) -> None:
    """Dagster assigns a run to a job by the job's name and snapshot."""
    mine, whole = (made.resolve_job_def(job) for made in (defs_of_load(), definitions()))
    assert mine.get_job_snapshot_id() == whole.get_job_snapshot_id()
    assert mine.resource_defs.keys() == whole.resource_defs.keys()


@pytest.mark.parametrize("file", REPORT_FILES.values(), ids=REPORT_FILES)
def test_staging_tables_have_the_columns_of_the_contracts(file: ReportFile, query: Query) -> None:
    table = columns_of(query, f"staging.{file.name}")
    described = {column.name: column.kind.sql_type for column in file.staged}
    assert {name: table.get(name) for name in described} == described
    # Further columns: the fetch of a line, the id of its sale, and the day if the file has no dates.
    assert set(table) - set(described) <= {"fetch_id", "sale_id", "date_id"}
