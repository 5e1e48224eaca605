"""Publishing: mart rows are built from order rows, days are replaced, and the stored rows are compared."""

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sales_assets.pipeline import publish
from sales_assets.pipeline.publish import MartRows, days_of_other_sources, occupied_days, publish_days, staged_rows
from sales_assets.pipeline.sums import NotReconciledError, Sums
from sales_assets.postgres.warehouse import Transaction, Warehouse
from sales_assets_tests.builders import Order
from sales_assets_tests.pipeline.conftest import Engine

SCHEMA = publish._STAGED
ORDER = {
    "date_id": 20241001,
    "item_id": 3,
    "customer_id": 51,
    "city_id": 1,
    "quantity": Decimal("2.00"),
    "payment_amount": Decimal("200.50"),
    "status": "shipped",
    "sale_id": 7,
}
COLUMNS = "id, date_id, item_id, customer_id, city_id, quantity, amount, status, source"
SHIPPED = (7, 20241001, 3, 51, 1, Decimal(2), Decimal("200.50"), "shipped", "report_api")
REFUNDED = (8, 20241001, 3, 51, 1, Decimal(-2), Decimal("-200.50"), "refunded", "report_api")


def batch(*rows: dict[str, Any]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([ORDER | row for row in rows], SCHEMA)


def send(
    transaction: Transaction, folder: Path, rows: Sequence[pa.RecordBatch], date_ids: Sequence[int], *occupied: int
) -> Sums:
    mart_rows = MartRows(transaction, folder)
    assert [*mart_rows.made_from(rows)] == [*rows]
    return publish_days(transaction, date_ids, mart_rows, set(occupied))


@pytest.mark.parametrize("adopted", [False, True])
@pytest.mark.parametrize("held", [1, 4 << 20])
def test_refunds_are_negative_in_the_mart(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adopted: bool, held: int
) -> None:
    """Refunds are negative in loads of any size, and in marts with other column types."""
    monkeypatch.setattr(publish, "_HELD_BYTES", held)
    monkeypatch.setattr(publish, "_BLOCK_BYTES", 50)
    if adopted:
        engine.query("ALTER TABLE mart.f_sales ALTER city_id TYPE smallint")
    with Warehouse().transaction("publish") as transaction:
        rows = [batch({}), batch({"status": "refunded", "sale_id": 8})]
        sums = send(transaction, tmp_path, rows, [20241001])
    assert (sums.rows, sums.first_id, sums.last_id) == (2, 7, 8)
    assert engine.query(f"SELECT {COLUMNS} FROM mart.f_sales ORDER BY id") == [SHIPPED, REFUNDED]


@pytest.mark.parametrize("last_id", [8, 500])
@pytest.mark.parametrize("replaced", [False, True])
def test_rows_changed_by_the_database_are_not_committed(
    engine: Engine, tmp_path: Path, last_id: int, replaced: bool
) -> None:
    """The stored rows are found by ids that are close together, by ids far apart, or by their days."""
    engine.query(
        "CREATE FUNCTION mart.distort() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.amount := NEW.amount + 1; RETURN NEW; END $$"
    )
    rows = [batch({}, {"sale_id": last_id})]
    occupied = [20241001] if replaced else []
    with Warehouse().transaction("publish") as transaction:
        assert send(transaction, tmp_path, rows, [20241001, 20241002], *occupied).rows == 2
        transaction.run("mart/f_sales", "summarize_days")
    engine.query("TRUNCATE mart.f_sales")
    engine.query("CREATE TRIGGER distort BEFORE INSERT ON mart.f_sales FOR EACH ROW EXECUTE FUNCTION mart.distort()")
    with (
        pytest.raises(NotReconciledError, match=r"20241001: shipped: 2 rows.*amount 401\.00.*amount 403\.00"),
        Warehouse().transaction("publish") as transaction,
    ):
        send(transaction, tmp_path, rows, [20241001, 20241002], *occupied)
    assert engine.query("SELECT count(*) FROM mart.f_sales") == [(0,)]


def test_without_days_nothing_is_sent(engine: Engine, tmp_path: Path) -> None:
    with Warehouse().transaction("publish") as transaction:
        assert send(transaction, tmp_path, [], []).rows == 0
        assert occupied_days(transaction, []) == set()
    assert days_of_other_sources(Warehouse(), []) == set()
    assert engine.query("SELECT count(*) FROM mart.f_sales") == [(0,)]


def test_replaced_days_lose_their_former_rows(engine: Engine, tmp_path: Path) -> None:
    """Rows of other days and of partner orders are kept."""
    days = [20241001, 20241002, 20241003]
    engine.reports.report([Order(str(day), day=f"2024-10-0{day % 10}") for day in days])
    engine.load("2024-10-01", "2024-10-02", "2024-10-03")
    engine.query(
        "INSERT INTO mart.f_sales (id, date_id, item_id, customer_id, city_id, quantity, amount, source)"
        " VALUES (100, 20241001, 3, 51, 1, 1, 5, 'partner_orders'), (101, 20241004, 3, 51, 1, 1, 5, 'legacy')"
    )
    ((first, _), (second, _), (third, _)) = engine.query(
        "SELECT id, date_id FROM mart.f_sales WHERE id < 100 ORDER BY 2"
    )
    with Warehouse().transaction("publish") as transaction:
        assert occupied_days(transaction, [20240930, 20241001, 20241003, 20241004]) == {20241001, 20241003, 20241004}
        staged = [row for rows in staged_rows(transaction, [20241001, 20241003]) for row in rows.to_pylist()]
        assert [row["date_id"] for row in staged] == [20241001, 20241003]
        assert {row["payment_amount"] for row in staged} == {Decimal(200)}
        rows = [batch({"sale_id": 200}, {"sale_id": 201, "date_id": 20241003})]
        send(transaction, tmp_path, rows, [20241001, 20241003], 20241003)
    found = engine.query("SELECT id FROM mart.f_sales ORDER BY id")
    assert found == [(second,), (100,), (101,), (200,), (201,)]
    assert {(first,), (third,)}.isdisjoint(found)
