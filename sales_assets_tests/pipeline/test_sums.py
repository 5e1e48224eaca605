"""Sums of the rows sent, which reveal any difference from the staged or stored rows."""

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


def test_equal_rows_have_equal_sums_however_they_are_split() -> None:
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


def test_a_day_with_a_wrong_sign_is_named() -> None:
    cent, none = Decimal("0.01"), Decimal(0)
    for change in (
        {"quantity": cent, "amount": none},
        {"quantity": none, "amount": cent},
        {"quantity": -cent, "amount": none, "status": "shipped"},
        {"quantity": none, "amount": -cent, "status": "shipped"},
    ):
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
    assert Sums().summary(20241001) == dict.fromkeys(sums.summary(20241001), 0)


def test_amounts_and_quantities_are_compared_in_hundredths() -> None:
    large = {"quantity": Decimal("-12345678.91"), "amount": Decimal("-87654321.09")}
    counted(_ROW | large).require_stored(1, [_FOUND | large])


@pytest.mark.parametrize("rows", [2_000, 4_000])
def test_keys_wrap_around_at_64_bits(rows: int) -> None:
    """The sum of the keys exceeds the largest signed and unsigned 64-bit numbers; PostgreSQL's sum has no limit."""
    largest = 2_147_483_647
    row = _ROW | {"id": 65_520, "item_id": largest, "customer_id": largest, "city_id": largest}
    keys = rows * 65_520 * (1 + 39 * largest)
    sums = Sums()
    sums.count(pa.RecordBatch.from_pylist([row] * rows, _SCHEMA))
    amount = {"quantity": rows * Decimal(-2), "amount": rows * Decimal("-0.05")}
    sums.require_stored(rows, [_FOUND | amount | {"rows": rows, "keys": Decimal(keys)}])


def test_the_range_of_ids() -> None:
    sums = counted(*(_ROW | {"id": number} for number in (5, 1, 70_000, 3)))
    assert (sums.rows, sums.first_id, sums.last_id) == (4, 1, 70_000)
    assert (Sums().rows, Sums().first_id, Sums().last_id) == (0, 0, -1)


def test_keys_depend_on_the_id_modulo_a_prime() -> None:
    """The sums use the same modulus as the statements of mart/f_sales."""
    counted(_ROW | {"id": 65_521 + 7}).require_stored(1, [_FOUND | {"keys": 7 * Decimal(str(_FOUND["keys"]))}])


def test_a_difference_is_explained() -> None:
    sums = counted(_ROW | {"quantity": Decimal("-2.5"), "amount": Decimal("-1234.05")})
    with pytest.raises(NotReconciledError) as caught:
        sums.require_stored(0, [_FOUND | {"date_id": 20241002}])
    first = f"1 rows, quantity -2.50, amount -1234.05, keys {int(str(_FOUND['keys'])):x}"
    second = f"1 rows, quantity -2.00, amount -0.05, keys {int(str(_FOUND['keys'])):x}"
    none = "0 rows, quantity 0.00, amount 0.00, keys 0"
    assert str(caught.value) == (
        f"20241001: refunded: {first} sent, {none} in the mart; "
        f"20241002: refunded: {none} sent, {second} in the mart; 1 rows were sent, 0 stored"
    )
