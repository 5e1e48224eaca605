"""`sales-assets export`: files that equal the mart exactly, written completely or not at all."""

import csv
import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sales_assets.cli import export as export_module
from sales_assets.pipeline import named_sales
from sales_assets_tests.cli.conftest import Run

Query = Callable[..., list[tuple[Any, ...]]]

FIRST, LAST = "2024-10-01", "2024-10-03"
RANGE = ("--from", FIRST, "--to", LAST)
NAMES = [
    *("id", "date_id", "date", "city_id", "city_name", "customer_id", "first_name", "last_name"),
    *("item_id", "item_name", "quantity", "amount", "status", "source"),
]


@pytest.fixture
def query(query: Query) -> Query:
    """A mart with names that need escaping, a day without rows, and a city without a name."""
    query("INSERT INTO mart.d_city (city_id, city_name) VALUES (1, 'Тверь'), (2, NULL)")
    query("INSERT INTO mart.d_customer (customer_id, first_name, last_name) VALUES (7, E'two\nlines', '')")
    query("INSERT INTO mart.d_item (item_id, item_name) VALUES (3, 'Молоко, \"3,2 %\"')")
    query(
        "INSERT INTO mart.f_sales (date_id, item_id, customer_id, city_id, quantity, amount, status, source)"
        " SELECT CASE WHEN n > 2 THEN 20241003 ELSE 20241001 END, 3 + n % 2, 7, 1 + n % 2, n, n + 0.07, 'shipped',"
        " 'report_api' FROM generate_series(1, 42) AS n"
    )
    return query


def mart(query: Query) -> list[tuple[Any, ...]]:
    return query(
        "SELECT id, date_id, to_date(date_id::text, 'YYYYMMDD'), city_id, city_name, customer_id, first_name,"
        " last_name, item_id, item_name, quantity, amount, f.status, source FROM mart.f_sales AS f"
        " LEFT JOIN mart.d_city USING (city_id) LEFT JOIN mart.d_customer USING (customer_id)"
        " LEFT JOIN mart.d_item USING (item_id) ORDER BY date_id, id"
    )


def rows_of(table: pa.Table) -> list[tuple[Any, ...]]:
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def test_parquet_equals_the_mart(
    query: Query, run_in_process: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "_ROWS_PER_GROUP", 20)
    file = tmp_path / "sales.parquet"
    done = run_in_process("export", *RANGE, str(file))
    assert (done.returncode, done.stdout) == (0, f"{file}: 42 rows, {FIRST} to {LAST}\n")
    table = pq.read_table(file)
    assert table.column_names == NAMES
    assert table.schema.field("amount").type == pa.decimal128(10, 2)
    assert rows_of(table) == mart(query)
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_csv_equals_the_mart(query: Query, run_in_process: Run, tmp_path: Path) -> None:
    file = tmp_path / "sales.csv"
    assert run_in_process("export", *RANGE, str(file)).returncode == 0
    with file.open(encoding="utf-8", newline="") as text:
        header, *rows = csv.reader(text)
    assert header == NAMES
    assert rows == [["" if value is None else str(value) for value in row] for row in mart(query)]
    # NULL and '' are written differently.
    assert ",2,," in file.read_text()
    assert ',"",' in file.read_text()


def test_names_are_not_evaluated_as_spreadsheet_formulas(query: Query, run_in_process: Run, tmp_path: Path) -> None:
    hostile = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "＝1"]
    for number, name in enumerate([*hostile, "a=b", "'=1"], start=10):
        query("INSERT INTO mart.d_city (city_id, city_name) VALUES (%s, %s)", number, name)
        query("UPDATE mart.f_sales SET city_id = %s WHERE id = (SELECT min(id) + %s FROM mart.f_sales)", number, number)
    query("UPDATE mart.d_item SET item_name = '=1'")
    query("UPDATE mart.d_customer SET first_name = '=2', last_name = '=3'")
    assert run_in_process("export", *RANGE, str(tmp_path / "sales.csv")).returncode == 0
    with (tmp_path / "sales.csv").open(encoding="utf-8", newline="") as text:
        rows = list(csv.DictReader(text))
    assert [row["city_name"] for row in rows if int(row["city_id"]) >= 10] == [
        *(f"'{name}" for name in hostile),
        *("a=b", "'=1"),
    ]
    assert {(row["item_name"], row["first_name"], row["last_name"]) for row in rows} == {
        ("'=1", "'=2", "'=3"),
        ("", "'=2", "'=3"),
    }
    assert run_in_process("export", *RANGE, str(tmp_path / "sales.parquet")).returncode == 0
    assert rows_of(pq.read_table(tmp_path / "sales.parquet")) == mart(query)


def test_folder_export_has_one_file_per_day_with_rows(query: Query, run_in_process: Run, tmp_path: Path) -> None:
    assert run_in_process("export", *RANGE, f"{tmp_path}/sales/").returncode == 0
    assert sorted(path.name for path in (tmp_path / "sales").iterdir()) == [f"{FIRST}.parquet", f"{LAST}.parquet"]
    assert rows_of(pq.read_table(tmp_path / "sales")) == mart(query)
    done = run_in_process("export", *RANGE, "--force", f"{tmp_path}/sales/")
    assert (done.returncode, done.stderr.strip()) == (1, f"error: {tmp_path}/sales/ exists")


def test_an_existing_file_is_replaced_only_by_force(query: Query, run_in_process: Run, tmp_path: Path) -> None:
    file = tmp_path / "sales"
    file.write_text("precious")
    done = run_in_process("export", *RANGE, "--format", "csv", str(file))
    assert (done.returncode, done.stderr.strip()) == (1, f"error: {file} exists: --force replaces it")
    assert file.read_text() == "precious"
    assert run_in_process("export", *RANGE, "--format", "csv", "--force", str(file)).returncode == 0
    assert file.read_text().startswith("id,date_id,")


@pytest.mark.parametrize("name", ["sales.csv", "sales.parquet", "sales/"])
def test_interrupted_export_leaves_no_file(
    query: Query, run_in_process: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The server terminates the session before the last day is read."""
    folder = tmp_path / "exports"
    folder.mkdir()

    def disturbed(read: Callable[..., object]) -> Callable[..., object]:
        def read_or_break(*arguments: Any) -> object:
            if arguments[-1] == dt.date(2024, 10, 3):
                assert list(folder.iterdir())
                query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ~ 'export'")
            return read(*arguments)

        return read_or_break

    for function in ("rows_of", "csv_of"):
        monkeypatch.setattr(named_sales, function, disturbed(getattr(named_sales, function)))
    assert run_in_process("export", *RANGE, f"{folder}/{name}").returncode == 1
    assert list(folder.iterdir()) == []


def test_export_reads_all_days_from_one_snapshot(query: Query, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day that changes during the export is exported as it was when the export began."""
    before = mart(query)
    read = named_sales.rows_of

    def changed(transaction: Any, schema: pa.Schema, day: dt.date) -> Any:
        query("UPDATE mart.f_sales SET amount = amount + 1")
        return read(transaction, schema, day)

    monkeypatch.setattr(named_sales, "rows_of", changed)
    export_module.export(str(tmp_path / "sales.parquet"), dt.date(2024, 10, 1), dt.date(2024, 10, 3), None)
    assert rows_of(pq.read_table(tmp_path / "sales.parquet")) == before
    assert mart(query) != before


def test_amounts_of_an_adopted_mart_are_exact_or_refused(query: Query, run_in_process: Run, tmp_path: Path) -> None:
    query("ALTER TABLE mart.f_sales ALTER COLUMN amount TYPE numeric, ALTER COLUMN quantity TYPE integer")
    query("UPDATE mart.f_sales SET amount = 0.0000000001")
    assert run_in_process("export", *RANGE, str(tmp_path / "exact.parquet")).returncode == 0
    assert set(pq.read_table(tmp_path / "exact.parquet")["amount"].to_pylist()) == {Decimal("0.0000000001")}
    query("UPDATE mart.f_sales SET amount = 0.00000000001 WHERE date_id = 20241003")
    done = run_in_process("export", *RANGE, str(tmp_path / "refused.parquet"))
    assert done.returncode == 1
    assert "would cause data loss" in done.stderr
    assert not (tmp_path / "refused.parquet").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--from", LAST, "--to", FIRST, "sales.csv"), f"the range is reversed: {LAST} is after {FIRST}"),
        ((*RANGE, "nowhere/sales.csv"), "nowhere is not a folder"),
        (
            (*RANGE, "sales.xlsx"),
            "sales.xlsx: the format .xlsx is not written; choose --format parquet or --format csv",
        ),
    ],
)
def test_invalid_arguments_are_reported_in_one_sentence(
    run_in_process: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run_in_process("export", *arguments)
    assert (done.returncode, done.stderr.strip()) == (1, f"error: {message}")
