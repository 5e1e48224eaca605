"""Commands with databases whose roles and environment variables override session settings."""

import os
from collections.abc import Callable

import psycopg
import pytest
from psycopg import sql

from sales_assets.postgres.embedded import EmbeddedPostgres
from sales_assets.simulators.report_api.app import ReportApi
from sales_assets_tests.builders import Order, ReportFolderBuilder
from sales_assets_tests.cli.conftest import Run
from sales_assets_tests.cli.processes import Command
from sales_assets_tests.postgres.hostile import ENVIRONMENT, ROLE, set_defaults
from sales_assets_tests.services.mailings.fixtures import api_running, mailing

DAYS = ("--from", "2024-10-01", "--to", "2024-10-01")


@pytest.fixture
def one_day(reports: ReportFolderBuilder, report_api: ReportApi) -> None:
    reports.report([Order("a" * 32, day="2024-09-30")])
    reports.increment(
        "2024-10-01",
        [
            Order("b" * 32, city_id="0", city_name="Москва", first_name="Игорь", item_id="4", item_name="Молоко 3%"),
            # Not representable in any single-byte encoding.
            Order("c" * 32, customer_id="52", first_name="Zoë → Ия", amount="50.25", status="refunded"),
            "a bad line: Ёж",
        ],
    )


def test_text_and_dates_do_not_depend_on_role_and_environment_settings(
    command: Command,
    new_database: Callable[[str], str],
    one_day: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, storage = new_database("template1"), new_database("template1")
    for database in (url, storage):
        set_defaults(database, ROLE)
    monkeypatch.setenv("WAREHOUSE_URL", url)
    monkeypatch.setenv("DAGSTER_STORAGE_URL", storage)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    done = command("migrate")
    assert (done.returncode, done.stderr) == (0, "")
    done = command("load", *DAYS)
    assert done.returncode == 0, done.stderr
    why = command("why", "2024-10-01")
    assert why.returncode == 0, why.stderr
    assert "a bad line" not in why.stderr
    quarantine = command("quarantine", "list")
    assert "a bad line: Ёж" in quarantine.stdout, quarantine.stderr
    doctor = command("doctor")
    assert "Traceback" not in doctor.stderr
    assert "ok warehouse: WAREHOUSE_URL, revision" in doctor.stdout
    assert "ok Dagster storage: database " in doctor.stdout
    assert "ok report: 2024-09-30 to 2024-09-30, fetched 20" in doctor.stdout
    with api_running(url) as api:
        body = mailing(text="Привет → Ёж", start_time="2031-02-03T04:05:06Z", end_time="2031-02-03T05:05:06Z")
        response = api.send("POST", "/mailings/", body)
        assert response.status_code < 300, response.text
        assert response.json()["start_time"] == "2031-02-03T04:05:06Z"
    for name in ENVIRONMENT:
        monkeypatch.delenv(name)
    assert {name for name in os.environ if name.startswith("PG")} == set()
    with psycopg.connect(url, client_encoding="UTF8", options="-c datestyle=ISO") as connection:

        def column(statement: str) -> list[object]:
            return [row[0] for row in connection.execute(statement.encode()).fetchall()]

        assert column("SELECT city_name FROM mart.d_city ORDER BY city_id") == ["Москва", "Rostov"]
        assert column("SELECT first_name FROM mart.d_customer ORDER BY customer_id") == ["Игорь", "Zoë → Ия"]
        assert column("SELECT item_name FROM mart.d_item ORDER BY item_id") == ["Milk", "Молоко 3%"]
        assert column("SELECT line_text FROM staging.quarantine") == ["a bad line: Ёж"]
        assert column("SELECT text FROM mailings.mailing") == ["Привет → Ёж"]
        assert column("SELECT sum(amount)::text FROM mart.f_sales WHERE date_id = 20241001") == ["149.75"]
        assert column("SELECT nspname FROM pg_namespace WHERE nspname = 'foreign_schema'") == []


REFUSED = [
    ("encoding", "has the encoding WIN1251, which cannot store every text"),
    ("read only", "accepts no writes: default_transaction_read_only is on for the role sales"),
]


@pytest.mark.parametrize(("fault", "message"), REFUSED, ids=[fault for fault, _ in REFUSED])
@pytest.mark.parametrize("which", ["WAREHOUSE_URL", "DAGSTER_STORAGE_URL"])
def test_an_unusable_database_is_rejected_in_one_sentence(
    run_in_process: Run,
    server: EmbeddedPostgres,
    new_database: Callable[..., str],
    warehouse_url: str,
    dagster_storage: str,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    message: str,
    which: str,
) -> None:
    url = new_database() if which == "WAREHOUSE_URL" else new_database("template1")
    if fault == "encoding":
        name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
        assert isinstance(name, str)
        with psycopg.connect(server.url("sales"), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
            connection.execute(
                sql.SQL(
                    "CREATE DATABASE {} ENCODING 'WIN1251' TEMPLATE template0 LOCALE_PROVIDER libc LC_COLLATE 'C' "
                    "LC_CTYPE 'C'"
                ).format(sql.Identifier(name))
            )
    else:
        set_defaults(url, {"default_transaction_read_only": "on"})
    monkeypatch.setenv("DAGSTER_STORAGE_URL", dagster_storage)
    monkeypatch.setenv(which, url)
    commands = [("doctor",), ("load", *DAYS)] + ([("migrate",)] if which == "WAREHOUSE_URL" else [])
    for arguments in commands:
        done = run_in_process(*arguments)
        assert done.returncode == 1, arguments
        assert message in done.stdout + done.stderr, arguments
        assert "Traceback" not in done.stderr
        if arguments == ("doctor",):
            subject = "warehouse" if which == "WAREHOUSE_URL" else "Dagster storage"
            assert f"!! {subject}: the database " in done.stdout
        else:
            assert done.stderr.strip().startswith("error: the database ")
            assert len(done.stderr.strip().splitlines()) == 1


def test_a_read_only_warehouse_can_be_explained(run_in_process: Run, warehouse_url: str, dagster_storage: str) -> None:
    set_defaults(warehouse_url, {"default_transaction_read_only": "on"})
    done = run_in_process("why", "2024-10-01")
    assert (done.returncode, done.stderr) == (0, "")
    assert "mart.f_sales has no row on 2024-10-01" in done.stdout


def test_dagster_database_is_created_in_utf8_on_the_server_of_the_warehouse(
    run_in_process: Run, server: EmbeddedPostgres, warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = psycopg.conninfo.conninfo_to_dict(warehouse_url)["dbname"]
    done = run_in_process("doctor")
    try:
        assert f"ok Dagster storage: database {name}_dagster" in done.stdout
        with psycopg.connect(server.url(f"{name}_dagster")) as connection:
            assert connection.info.parameter_status("server_encoding") == "UTF8"
            # Dagster has created its tables.
            assert connection.execute("SELECT to_regclass('public.runs')::text").fetchone() == ("runs",)
    finally:
        with psycopg.connect(server.url("sales"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name}_dagster WITH (FORCE)".encode())
