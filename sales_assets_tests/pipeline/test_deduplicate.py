"""Deduplication compared with a plain reference model: each row is kept, a duplicate or part of a conflict."""

from collections import defaultdict
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sales_assets.pipeline import deduplicate as module
from sales_assets.pipeline.deduplicate import deduplicate
from sales_assets.schemas.report_files import PRICE_LOG, USER_ORDERS_LOG

Line = tuple[str | None, str, str, int]  # uniq_id, status, item_name, quantity

_LINES = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["shipped", "refunded"]),
        st.sampled_from(["", "Milk"]),
        st.sampled_from([1, 2]),
    ),
    max_size=12,
)
_SAME: Line = ("a", "shipped", "Milk", 1)


@settings(deadline=None)  # the first grouping loads a library
@given(_LINES, st.booleans())
@example([_SAME, _SAME], False)
@example([_SAME, ("a", "refunded", "Milk", 1), _SAME], False)
@example([_SAME, ("a", "shipped", "Milk", 2), ("b", "shipped", "", 1)], True)
@example([(None, "shipped", "", 1), (None, "shipped", "", 1), _SAME], False)
def test_deduplication_agrees_with_the_reference_model(lines: list[Line], backwards: bool) -> None:
    table = _table(lines)
    order = pa.array(range(len(lines))[::-1], pa.int64())
    result = deduplicate(table.take(order) if backwards else table, USER_ORDERS_LOG)
    unique_lines, conflicts = _model(lines)
    assert result.rows.schema == USER_ORDERS_LOG.schema
    assert result.rows.column("line_no").to_pylist() == unique_lines
    assert sorted(result.conflicts.column("line_no").to_pylist()) == conflicts
    assert result.duplicates == len(lines) - len(unique_lines) - len(conflicts)


def test_a_table_without_duplicates_is_returned_unchanged() -> None:
    table = _table([_SAME, ("b", "shipped", "Milk", 1)])
    assert deduplicate(table, USER_ORDERS_LOG).rows is table


def _model(lines: list[Line]) -> tuple[list[int], list[int]]:
    """Return (line numbers kept, line numbers in conflicts), by the rules as plain Python."""
    versions: dict[tuple[object, ...], set[Line]] = defaultdict(set)
    for line in lines:
        versions[_key(line)].add(line)
    seen: set[Line] = set()
    unique_lines, conflicts = [], []
    for line_no, line in enumerate(lines, start=2):
        if len(versions[_key(line)]) > 1:
            conflicts.append(line_no)
        elif line not in seen:
            seen.add(line)
            unique_lines.append(line_no)
    return unique_lines, conflicts


def _key(line: Line) -> tuple[object, ...]:
    uniq_id, status, *_ = line
    return (uniq_id, status) if uniq_id is not None else line


def _table(lines: list[Line]) -> pa.Table:
    rows = [
        {
            "line_no": line_no,
            "date_id": 20241002,
            "uniq_id": uniq_id,
            "date_time": "2024-10-02T00:00:00",
            "city_id": 1,
            "city_name": "Rostov",
            "customer_id": 2,
            "first_name": "A",
            "last_name": "B",
            "item_id": 3,
            "item_name": item_name,
            "quantity": Decimal(quantity),
            "payment_amount": Decimal(10),
            "status": status,
        }
        for line_no, (uniq_id, status, item_name, quantity) in enumerate(lines, start=2)
    ]
    return pa.Table.from_pylist(rows, schema=USER_ORDERS_LOG.schema)


def test_the_derived_uniq_id_never_changes() -> None:
    """Rows of very old files get the same ids in every release, so the mart keeps its ids."""
    lines = _table([(None, "shipped", "Milk", 1), ("a", "shipped", "Milk", 1)])
    # The MD5 of the contents without date_id, as Python computes it.
    expected = ["961a1f292a8f76b21cfa29bba9e25a81", "a"]
    assert deduplicate(lines, USER_ORDERS_LOG).rows.column("uniq_id").to_pylist() == expected


def test_rows_of_a_file_without_uniq_id() -> None:
    rows = [("Milk", 1), ("Milk", 1), ("Oat milk", 1), ("Oat milk", 2)]
    lines = [{"line_no": n, "item_name": name, "price": Decimal(price)} for n, (name, price) in enumerate(rows, 1)]
    result = deduplicate(pa.Table.from_pylist(lines, PRICE_LOG.schema), PRICE_LOG)
    assert result.rows.column("line_no").to_pylist() == [1]
    assert sorted(result.conflicts.column("line_no").to_pylist()) == [3, 4]
    assert result.duplicates == 1


def test_exact_copies_without_conflicts_are_not_grouped_by_contents(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grouping by contents takes three times as long as removing exact copies."""
    monkeypatch.setattr(module, "_deduplicate_by_contents", None)
    other: Line = ("b", "refunded", "", 2)
    result = deduplicate(_table([_SAME, other, _SAME, other, other]), USER_ORDERS_LOG)
    assert result.rows.column("line_no").to_pylist() == [2, 3]
    assert (result.duplicates, result.conflicts.num_rows) == (3, 0)
