"""Sums of sent rows: any difference to what was staged or stored is found."""

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from sales_assets.pipeline.sums import NotReconciledError, Sums

_MONEY = pa.decimal128(10, 2)
_SCHEMA = pa.schema(
    [
        *((name, pa.int64()) for name in ("id", "date_id", "item_id", "customer_id", "city_id")),
        ("quantity", _MONEY),
        ("amount", _MONEY),
        ("status", pa.string()),
    ]
)
_ROW = {
    "id": 1, "date_id": 20241001, "item_id": 3, "customer_id": -51, "city_id": 2_147_483_647,
    "quantity": Decimal(-2), "amount": Decimal("-0.05"), "status": "refunded",
}  # fmt: skip
_FOUND = {
    "date_id": 20241001, "status": "refunded", "rows": 1, "quantity": Decimal(-2), "amount": Decimal("-0.05"),
    "keys": Decimal(1 + 3 - 7 * 51 + 31 * 2_147_483_647),
}  # fmt: skip


def counted(*rows: dict[str, Any]) -> Sums:
    sums = Sums()
    for row in rows:
        sums.count(pa.RecordBatch.from_pylist([row], _SCHEMA))
    return sums


def test_equal_rows_are_equal_however_they_are_divided() -> None:
    other = _ROW | {"id": 70_000, "status": "shipped", "quantity": Decimal(1), "amount": Decimal(5)}
    sums = Sums()
    sums.count(pa.RecordBatch.from_pylist([other, _ROW], _SCHEMA))
    assert sums._sums == counted(_ROW, other)._sums
    assert (sums.rows, sums.first_id, sums.last_id) == (2, 1, 70_000)
    counted(_ROW).require_stored(1, [_FOUND])
    Sums().require_stored(0, [])


@pytest.mark.parametrize(
    "change",
    [
        {"id": 2}, {"date_id": 20241002}, {"item_id": 4}, {"customer_id": 51}, {"city_id": 1},
        {"quantity": Decimal(-3)}, {"amount": Decimal("-0.06")}, {"status": "shipped"},
    ],
)  # fmt: skip
def test_any_other_row_is_a_difference(change: dict[str, Any]) -> None:
    with pytest.raises(NotReconciledError):
        counted(_ROW | change).require_stored(1, [_FOUND])


@pytest.mark.parametrize(
    ("stored", "found"),
    [
        (0, [_FOUND]), (1, []), (1, [_FOUND, _FOUND | {"date_id": 20241002}]),
        *((1, [_FOUND | {name: _FOUND[name] + 1}]) for name in ("rows", "quantity", "amount", "keys")),  # type: ignore[operator]
    ],
)  # fmt: skip
def test_a_row_missing_in_postgresql_is_a_difference(stored: int, found: list[dict[str, Any]]) -> None:
    with pytest.raises(NotReconciledError):
        counted(_ROW).require_stored(stored, found)


def test_a_day_of_wrong_signs_is_named() -> None:
    for change in ({"quantity": Decimal(1)}, {"amount": Decimal(1)}, {"status": "shipped"}):
        assert counted(_ROW, _ROW | change | {"date_id": 20241002}).days_of_wrong_sign == {20241002}
    zero = {"quantity": Decimal(0), "amount": Decimal(0)}
    assert counted(_ROW, _ROW | zero, _ROW | zero | {"status": "shipped"}).days_of_wrong_sign == set()


def test_the_summary_of_a_day() -> None:
    shipped = _ROW | {"status": "shipped", "quantity": Decimal(3), "amount": Decimal("10.10")}
    sums = counted(_ROW, shipped, shipped, _ROW | {"date_id": 20241002})
    assert sums.summary(20241001) == {
        "rows": 3,
        "refunded_rows": 1,
        "net_amount": Decimal("20.15"),
        "net_quantity": Decimal(4),
        "refunded_amount": Decimal("-0.05"),
    }
    assert str(Sums().summary(20241001)["net_amount"]) == "0.00"
