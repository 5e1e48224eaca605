"""Fixtures for tests of the lake: a lake in a folder, sales in the mart, and a comparison of lake and mart."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from sales_assets import settings as settings_module
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.resources.lake import Lake
from sales_assets_tests.builders import days_between

Query = Callable[..., list[tuple[Any, ...]]]

DAYS = [dt.date.fromisoformat(day) for day in days_between("2024-09-15", "2024-10-14")]

_SALES = """INSERT INTO mart.f_sales (date_id, item_id, customer_id, city_id, quantity, amount, status, source)
SELECT to_char(%s::date, 'YYYYMMDD')::integer, n %% 7, n %% 100, n %% 3,
       sign * (n %% 5), sign * (n * 37 %% 9999) / 100.0, CASE sign WHEN 1 THEN 'shipped' ELSE 'refunded' END,
       CASE n %% 13 WHEN 0 THEN 'legacy' ELSE 'report_api' END
FROM (SELECT n, CASE n %% 11 WHEN 0 THEN -1 ELSE 1 END AS sign FROM generate_series(%s::int, %s::int) AS n) AS s"""
_IN_THE_MART = """SELECT date_id, to_date(date_id::text, 'YYYYMMDD'), id, item_id, customer_id, city_id, quantity,
                         amount, status, source FROM mart.f_sales ORDER BY id"""
_SUMS = "SELECT date_id, status, source, count(*), sum(quantity), sum(amount) FROM {} GROUP BY ALL ORDER BY 1, 2, 3"


def use_lake(monkeypatch: pytest.MonkeyPatch, location: str) -> None:
    monkeypatch.setenv("LAKE_URL", location)
    settings_module.settings.cache_clear()
    settings_module.definition_settings.cache_clear()


@pytest.fixture
def lake(warehouse_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """Return an empty lake in a folder whose name needs quoting."""
    use_lake(monkeypatch, str(tmp_path / "the lake"))
    return Lake(Warehouse())


@pytest.fixture
def insert_sale(query: Query) -> Callable[..., None]:
    """Return a function that adds rows to a day of the mart."""

    def add(day: dt.date, rows: int = 40, first: int = 1) -> None:
        query(_SALES, day, first, first + rows - 1)

    return add


def copy(lake: Lake, *days: dt.date) -> None:
    for replaced in lake.replace_days(days, "test"):
        assert replaced.differences == []


def lake_rows(lake: Lake) -> list[tuple[Any, ...]]:
    """Return all rows of the lake by id, as read by PyIceberg."""
    columns = (
        "date_id",
        "day",
        "sale_id",
        "item_id",
        "customer_id",
        "city_id",
        "quantity",
        "amount",
        "status",
        "source",
    )
    rows = lake.table("f_sales").scan(selected_fields=columns).to_arrow().select(columns).sort_by("sale_id")
    return list(zip(*(column.to_pylist() for column in rows.columns), strict=True))


def mart_rows(query: Query) -> list[tuple[Any, ...]]:
    """Return all rows of the mart, in the format of `lake_rows`."""
    return query(_IN_THE_MART)


def require_equal(lake: Lake, query: Query) -> None:
    """Check that the table equals the mart: row by row in PyIceberg, and by sums to the cent in DuckDB."""
    assert lake_rows(lake) == mart_rows(query)
    files = [task.file.file_path for task in lake.table("f_sales").scan().plan_files()]
    paths = [path.removeprefix("file://") for path in files]
    assert len(paths) == len(set(paths))
    found = (
        duckdb.execute(_SUMS.format("read_parquet(?, hive_partitioning = false)"), [paths]).fetchall() if paths else []
    )
    assert found == query(_SUMS.format("mart.f_sales").replace("GROUP BY ALL", "GROUP BY 1, 2, 3"))


def files_of(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}
