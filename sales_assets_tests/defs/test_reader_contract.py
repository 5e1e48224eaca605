"""The readers' contract: the committed files are current, match the tables, and pass the standard's tools."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sales_assets.connection_strings import parse
from sales_assets.defs.column_schemas import COLUMNS, primary_key
from sales_assets_tests.bench.peers.environment import environment_or_skip
from sales_assets_tests.builders import Order
from sales_assets_tests.cli.processes import run_command_in_process
from sales_assets_tests.fixtures import Shop

Query = Callable[..., list[tuple[Any, ...]]]

PROJECT = Path(__file__).resolve().parents[2]
DBT = PROJECT / "examples" / "dbt"
FILES = {
    "odcs": PROJECT / "docs" / "data-contracts" / "sales_mart.odcs.yaml",
    "dbt": DBT / "models" / "sources.yml",
}


@pytest.mark.parametrize("name", FILES)
def test_contract_file_equals_the_command_output(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = run_command_in_process(("contract", name), capsys, monkeypatch).stdout
    assert printed == FILES[name].read_text(encoding="utf-8"), f"run: sales-assets contract {name} > {FILES[name]}"


def test_keys_and_nullable_columns_match_the_tables(query: Query) -> None:
    found = query(
        "SELECT c.relname, a.attname, NOT a.attnotnull, coalesce(array_position(i.indkey, a.attnum) + 1, 0)"
        " FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid"
        " LEFT JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisprimary"
        " WHERE c.relnamespace = 'mart'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped"
    )
    declared = {
        (
            table.removeprefix("mart."),
            column.name,
            column.constraints.nullable,
            key.index(column.name) + 1 if column.name in key else 0,
        )
        for table in (table for table in COLUMNS if table.startswith("mart."))
        for key in [primary_key(COLUMNS[table])]
        for column in COLUMNS[table].columns
    }
    assert set(found) == declared


@pytest.fixture
def loaded(engine_shop: Shop) -> Shop:
    """Return a shop whose mart has sales of two cities and a refund."""
    engine_shop.reports.increment(
        "2024-10-01",
        [Order("a"), Order("b", city_id="2", city_name="Тверь"), Order("c", status="refunded", amount="50")],
    )
    engine_shop.load("2024-10-01")
    return engine_shop


def run(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    program = str(environment_or_skip() / command[0])
    environment = {**os.environ, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false", "DO_NOT_TRACK": "1", **variables}
    return subprocess.run([program, *command[1:]], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.external
def test_mart_satisfies_the_contract_and_a_changed_mart_violates_it(
    loaded: Shop, warehouse_url: str, tmp_path: Path
) -> None:
    """The contract is checked by datacontract-cli, the tool of the standard."""
    server = parse(warehouse_url)
    variables = {
        "DATACONTRACT_POSTGRES_HOST": server["host"],
        "DATACONTRACT_POSTGRES_DATABASE": server["dbname"],
        "DATACONTRACT_POSTGRES_USERNAME": server["user"],
        "DATACONTRACT_POSTGRES_PASSWORD": "unused",
    }
    results = tmp_path / "results.json"
    command = ["datacontract", "test", str(FILES["odcs"]), "--checks", "properties,quality"]
    command += ["--output", str(results), "--output-format", "json"]
    done = run(command, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(json.loads(results.read_text())["checks"]) > 200

    loaded.query("UPDATE mart.f_sales SET city_id = 99, amount = 1 WHERE status = 'refunded'")
    loaded.query("ALTER TABLE mart.f_research ALTER COLUMN sales_amt TYPE double precision")
    loaded.query("ALTER TABLE mart.d_item DROP COLUMN name_as_of")
    assert run(command, **variables).returncode == 1
    failed = [check for check in json.loads(results.read_text())["checks"] if check["result"] in ("failed", "error")]
    assert {(check["model"], check["field"]) for check in failed} >= {
        ("f_sales", "city_id"),
        ("f_sales", None),
        ("f_research", "sales_amt"),
        ("d_item", "name_as_of"),
    }


@pytest.mark.external
def test_the_example_project_builds_a_model_on_the_mart(loaded: Shop, warehouse_url: str, tmp_path: Path) -> None:
    server = parse(warehouse_url)
    variables = {
        "PGHOST": server["host"],
        "PGPORT": server["port"],
        "PGUSER": server["user"],
        "PGDATABASE": server["dbname"],
    }
    command = ["dbt", "build", "--project-dir", str(DBT), "--profiles-dir", str(DBT), "--target-path", str(tmp_path)]
    command += ["--log-path", str(tmp_path)]
    done = run(command, PGHOSTADDR="", PGPASSWORD="", **variables)
    assert done.returncode == 0, done.stdout
    report = loaded.query(
        "SELECT month::text, city_name, shipped_amount, refunded_amount, net_amount"
        " FROM reports.sales_by_city_and_month ORDER BY city_id"
    )
    assert report == [("2024-10-01", "Rostov", 200, 50, 150), ("2024-10-01", "Тверь", 200, 0, 200)]

    loaded.query("UPDATE mart.f_sales SET city_id = 99 WHERE status = 'refunded'")
    done = run([*command, "--select", "source:mart.f_sales"], PGHOSTADDR="", PGPASSWORD="", **variables)
    assert done.returncode == 1
    assert "relationships_mart_f_sales_city_id" in done.stdout
