"""`sql/roles.sql`: a loader that loads and can drop nothing, a reader that sees the mart and nothing else."""

from collections.abc import Callable

import psycopg
import pytest

from sales_assets import settings as settings_module
from sales_assets.sql import sql_folder
from sales_assets_tests.reports import Order
from sales_assets_tests.shop import Shop

DAY = "2024-10-01"


@pytest.fixture
def url_of(warehouse_url: str) -> Callable[[str], str]:
    """The warehouse as a login of one of the two groups sees it."""
    with psycopg.connect(warehouse_url) as connection:
        for _ in range(2):
            connection.execute((sql_folder() / "roles.sql").read_bytes())
        for login, group in (("loader_of_tests", "sales_loader"), ("reader_of_tests", "sales_reader")):
            connection.execute(f"DROP ROLE IF EXISTS {login}".encode())
            connection.execute(f"CREATE ROLE {login} LOGIN IN ROLE {group}".encode())
    return lambda login: warehouse_url.replace("user=sales", f"user={login}")


def test_the_loader_loads_and_replaces(
    shop: Shop, url_of: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAREHOUSE_URL", url_of("loader_of_tests"))
    settings_module.settings.cache_clear()
    shop.reports.report([Order("r", day="2024-09-30")], price_log="Milk,1\n")
    editions: list[list[Order | str]] = [[Order("a"), Order("b", status="refunded"), "no line"], [Order("c")]]
    for lines in editions:
        shop.reports.increment(DAY, lines)
        shop.load("2024-09-30", DAY)
    assert [name for name, _ in shop.sales()] == ["r", "c"]
    assert len(shop.quarantined()) == 1


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
    ],
)
def test_the_loader_can_not(url_of: Callable[[str], str], statement: str) -> None:
    with (
        psycopg.connect(url_of("loader_of_tests")) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement.encode())


def test_the_reader_sees_the_mart_and_nothing_else(url_of: Callable[[str], str]) -> None:
    with psycopg.connect(url_of("reader_of_tests"), autocommit=True) as connection:
        tables = connection.execute(
            "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables"
            " WHERE table_schema NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        assert {"mart.f_sales", "mart.f_sales_lines", "mart.d_customer"} <= {name for (name,) in tables}
        assert {name.partition(".")[0] for (name,) in tables} == {"mart"}
        for (name,) in tables:
            connection.execute(f"SELECT * FROM {name}".encode())
        for statement in (
            "SELECT * FROM staging.user_orders_log",
            "SELECT * FROM orders.partner_order",
            "SELECT * FROM raw.fetch",
            "DELETE FROM mart.f_sales",
            "INSERT INTO mart.f_sales DEFAULT VALUES",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())
