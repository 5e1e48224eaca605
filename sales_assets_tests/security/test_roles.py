"""Database roles of `sql/roles.sql`: a loader that can load but not drop tables, a reader of the mart only, and a
mailer that can access the mailings but no sales.
"""

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from sales_assets import settings as settings_module
from sales_assets.postgres.queries import sql_folder
from sales_assets.postgres.resolutions import DISCARD, Resolution, resolve
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.resources.lake import Lake
from sales_assets_tests.builders import Order, job
from sales_assets_tests.fixtures import Shop
from sales_assets_tests.lake.conftest import use_lake

DAY = "2024-10-01"


# The reader may write to no table; read from the catalogue, because a statement could fail for another reason.
_MAY_WRITE = """SELECT oid::regclass::text FROM pg_class
    WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND relnamespace::regnamespace::text !~ '^pg_|^information_schema$'
      AND has_table_privilege(oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')"""


@pytest.fixture
def url_of(warehouse_url: str) -> Callable[[str], str]:
    """Return a function that returns the warehouse URL of a login; each login is a member of one of the roles."""
    with psycopg.connect(warehouse_url) as connection:
        for _ in range(2):
            connection.execute((sql_folder() / "roles.sql").read_bytes())
        for login, group in (
            ("loader_of_tests", "sales_loader"),
            ("reader_of_tests", "sales_reader"),
            ("mailer_of_tests", "sales_mailings"),
        ):
            connection.execute(f"DROP ROLE IF EXISTS {login}".encode())
            connection.execute(f"CREATE ROLE {login} LOGIN IN ROLE {group}".encode())
    return lambda login: warehouse_url.replace("user=sales", f"user={login}")


def test_loader_loads_and_replaces_days(
    shop: Shop, url_of: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAREHOUSE_URL", url_of("loader_of_tests"))
    settings_module.settings.cache_clear()
    shop.reports.report([Order("r", day="2024-09-30")], price_log="Milk,1\n")
    editions: list[list[Order | str]] = [[Order("a"), Order("b", status="refunded"), "no line"], [Order("c")]]
    for number, lines in enumerate(editions):
        shop.reports.increment(
            DAY,
            lines,
            user_activity_log=f"id,uniq_id,date_time,action_id,customer_id,quantity\n1,e{number},{DAY},1,51,3\n",
            custom_research=f"date_id,category_id,geo_id,sales_qty,sales_amt\n{DAY},{number},1,2,200\n",
        )
        shop.load("2024-09-30", DAY)
    assert [name for name, _ in shop.sales()] == ["r", "c"]
    assert len(shop.quarantined()) == 1
    with Warehouse().transaction("a steward") as transaction:
        number = shop.query("SELECT quarantine_id FROM staging.quarantine")[0][0]
        resolve(transaction, [Resolution(number, DISCARD)], by="anna", via="page")
        transaction.run("ops/admin_login", "record", user_name="anna", event="login")
    shop.load(DAY)
    assert shop.query("SELECT loaded_at IS NOT NULL FROM staging.resolution_day") == [(True,)]
    for table in ("f_activity", "f_research"):
        assert shop.query(f"SELECT count(*) FROM mart.{table}") == [(1,)]


def test_loader_writes_the_lake_and_reader_lists_it(
    warehouse_url: str, url_of: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_lake(monkeypatch, str(tmp_path / "lake"))
    monkeypatch.setenv("WAREHOUSE_URL", url_of("loader_of_tests"))
    settings_module.settings.cache_clear()
    list(Lake(Warehouse()).replace_days([dt.date(2024, 10, 1)], "test"))
    with psycopg.connect(url_of("reader_of_tests")) as connection:
        tables = connection.execute("SELECT table_name FROM lake.iceberg_tables ORDER BY 1").fetchall()
    assert tables == [("d_calendar",), ("d_city",), ("d_customer",), ("d_item",), ("f_sales",)]


def test_loader_runs_the_jobs_of_marts_and_audience(
    shop: Shop, url_of: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAREHOUSE_URL", url_of("loader_of_tests"))
    settings_module.settings.cache_clear()
    shop.query("INSERT INTO mailings.client (phone, operator_code, timezone) VALUES ('79210000051', '921', 'UTC')")
    shop.query("INSERT INTO staging.partner_customer VALUES ('+7 921 000 00 51', 51)")
    shop.query(
        "INSERT INTO mailings.message (mailing_id, client_id, next_attempt_at, created_at) VALUES (1, 1, now(), %s)",
        DAY,
    )
    for lines in ([Order("a", customer_id="51"), Order("b")], [Order("a", customer_id="51", status="refunded")]):
        shop.reports.increment(DAY, lines)
        shop.load(DAY)
        for name, partition in (
            ("make_customer_retention", "2024-09-30"),
            ("fill_audience", None),
            ("load_mailing_deliveries", DAY),
        ):
            assert job(name).execute_in_process(instance=shop.instance, partition_key=partition).success
        shop.query("UPDATE mailings.message SET mailing_id = 2")
    assert shop.query("SELECT tag FROM mailings.client_tag") == [("refunded",)]
    assert shop.query("SELECT refunded_customer_count FROM mart.f_customer_retention") == [(1,)]
    assert shop.query("SELECT mailing_id, customer_id FROM mart.f_mailing_deliveries") == [(2, 51)]


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE mart.f_sales",
        "TRUNCATE mart.f_sales",
        "ALTER TABLE mart.f_sales ADD COLUMN x integer",
        "DROP SCHEMA staging CASCADE",
        "CREATE TABLE mart.mine (x integer)",
        "DELETE FROM raw.fetch",
        "UPDATE raw.delivery SET reason = 'no'",
        "DELETE FROM mart.d_item",
        "UPDATE ops.schema_version SET version_num = '0001'",
        "UPDATE staging.resolution SET resolved_by = 'boris'",
        "DELETE FROM staging.resolution",
        "DELETE FROM ops.admin_login",
    ],
)
def test_loader_lacks_other_privileges(url_of: Callable[[str], str], statement: str) -> None:
    with (
        psycopg.connect(url_of("loader_of_tests")) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement.encode())


def test_reader_can_read_only_the_mart_and_the_lake_catalog(url_of: Callable[[str], str]) -> None:
    with psycopg.connect(url_of("reader_of_tests"), autocommit=True) as connection:
        tables = connection.execute(
            "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables"
            " WHERE table_schema NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        marts = {"f_sales", "f_sales_lines", "f_activity", "f_research", "d_customer", "f_customer_retention"}
        assert {f"mart.{name}" for name in marts} <= {name for (name,) in tables}
        assert {name.partition(".")[0] for (name,) in tables} == {"mart", "lake"}
        for (name,) in tables:
            connection.execute(f"SELECT * FROM {name}".encode())
        assert connection.execute(_MAY_WRITE).fetchall() == []
        for statement in (
            "SELECT * FROM staging.user_orders_log",
            "SELECT * FROM orders.partner_order",
            "SELECT * FROM mailings.client",
            "SELECT * FROM mailings.mailing",
            "SELECT * FROM mailings.phone_link",
            "SELECT * FROM raw.fetch",
            "DELETE FROM mart.f_sales",
            "INSERT INTO mart.f_sales DEFAULT VALUES",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())


def test_mailer_can_access_the_mailings_but_no_sales(url_of: Callable[[str], str]) -> None:
    with psycopg.connect(url_of("mailer_of_tests"), autocommit=True) as connection:
        connection.execute(
            "INSERT INTO mailings.client (phone, operator_code, timezone) VALUES ('79210000051', '921', 'UTC')"
        )
        connection.execute("INSERT INTO mailings.message (mailing_id, client_id, next_attempt_at) VALUES (1, 1, now())")
        connection.execute("UPDATE mailings.message SET status = 'TIMEOUT', finished_at = now()")
        assert connection.execute("SELECT client_id FROM mailings.recipients(NULL, NULL)").fetchall() == [(1,)]
        connection.execute("DELETE FROM mailings.client")
        for statement in (
            "SELECT * FROM mart.f_sales",
            "SELECT * FROM mart.d_customer",
            "SELECT * FROM staging.partner_customer",
            "SELECT * FROM orders.partner_order",
            "DROP TABLE mailings.client",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())
