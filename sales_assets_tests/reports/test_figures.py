"""Figures of the overview: equal to a count in Python, for any period, and compared with the totals of the mart."""

import dataclasses
import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from sales_assets.postgres.warehouse import Warehouse
from sales_assets.reports.figures import TOP, Overview, ReportError, overview
from sales_assets.schemas.calendar import day_of, monday_of
from sales_assets_tests.builders import Order
from sales_assets_tests.fixtures import EngineShop
from sales_assets_tests.reports.conftest import LAST, Query, days_before

_CENT = Decimal("0.01")


def read(days: int = 90, first: dt.date | None = None, last: dt.date | None = None) -> Overview:
    return overview(Warehouse(), first, last, days=days)


def sums(query: Query, by: Callable[[dt.date, int, int], Any], first: dt.date, last: dt.date) -> dict[Any, Any]:
    """Return {group: [net, refunded, rows]} of the mart, summed in Python."""
    groups: dict[Any, list[Any]] = defaultdict(lambda: [Decimal(), Decimal(), 0])
    for number, item, city, amount, status in query(
        "SELECT date_id, item_id, city_id, amount, status FROM mart.f_sales"
    ):
        if first <= day_of(number) <= last:
            group = groups[by(day_of(number), item, city)]
            group[0] += amount
            group[1] += amount if status == "refunded" else 0
            group[2] += 1
    return {key: tuple(group) for key, group in groups.items()}


def test_every_chart_equals_a_count_of_the_rows(query: Query, insert_sale: Callable[..., None]) -> None:
    for number, day in enumerate(days_before(LAST, 30)):
        if number != 20:  # a day without sales
            insert_sale(day, rows=20 + number)
    found = read(20)
    first = LAST - dt.timedelta(days=19)
    assert (found.first, found.last, found.days, found.differences()) == (first, LAST, 20, [])

    of_days = sums(query, lambda day, *_: day, first, LAST)
    zero = (Decimal(), Decimal(), 0)
    assert [row["step"] for row in found.amounts.rows] == days_before(LAST, 20)
    assert [(row["net_amount"], row["refunded_amount"]) for row in found.amounts.rows] == [
        of_days.get(day, zero)[:2] for day in days_before(LAST, 20)
    ]
    assert [row["rows"] for row in found.rows.rows] == [of_days.get(day, zero)[2] for day in days_before(LAST, 20)]

    of_weeks = sums(query, lambda day, *_: max(monday_of(day), first), first, LAST)
    assert found.refund_share.unit == "week"
    assert {row["step"]: (row["shipped_amount"], row["refunded_amount"]) for row in found.refund_share.rows} == {
        week: (net - refunded, refunded) for week, (net, refunded, _) in of_weeks.items()
    }
    for ranked, position in ((found.items, 1), (found.cities, 2)):
        groups = sums(query, lambda *row, position=position: row[position], first, LAST)
        assert {row.id: (row.net_amount, row.rows) for row in ranked} == {
            key: (net, rows) for key, (net, _, rows) in groups.items()
        }
        assert [row.net_amount for row in ranked] == sorted((row.net_amount for row in ranked), reverse=True)


def test_items_outside_the_top_are_one_row(query: Query) -> None:
    query(
        "INSERT INTO mart.f_sales (date_id, item_id, customer_id, city_id, quantity, amount, status, source)"
        " SELECT 20241002, n, 1, 1, 1, n, 'shipped', 'report_api' FROM generate_series(1, 25) AS n"
    )
    *top, others = read().items
    assert [row.id for row in top] == [*range(25, 25 - TOP, -1)]
    assert dataclasses.astuple(others) == (None, "15 others", Decimal(120), 15, 15)


def test_rejected_rows_are_counted_in_the_selected_files_of_the_days(shop: EngineShop) -> None:
    shop.reports.increment("2024-10-01", [Order("a"), "bad one"])
    shop.reports.increment("2024-10-02", [Order("b", day="2024-10-02"), "2024-10-02 bad two", "bad three"])
    shop.load("2024-10-01", "2024-10-02")
    in_days = Counter(dict(shop.query("SELECT date_id, sum(bad)::int FROM staging.fetch_day GROUP BY date_id")))
    found = read(first=dt.date(2024, 9, 30), last=dt.date(2024, 10, 3))
    assert [row["rejected_rows"] for row in found.rows.rows] == [0, in_days[20241001], in_days[20241002], 0]
    assert found.rejected_rows == sum(in_days.values()) > 0


@pytest.mark.parametrize(
    ("days", "unit", "most"),
    [(1, "day", 1), (160, "day", 160), (161, "week", 25), (1096, "week", 158), (1200, "month", 41), (9000, "year", 26)],
)
def test_a_longer_period_has_longer_steps(
    query: Query, insert_sale: Callable[..., None], days: int, unit: str, most: int
) -> None:
    for day in {LAST, LAST - dt.timedelta(days=days - 1), LAST - dt.timedelta(days=days // 2)}:
        insert_sale(day)
    insert_sale(LAST - dt.timedelta(days=days))  # outside the period
    found = read(days)
    assert found.amounts.unit == found.rows.unit == unit
    assert len(found.amounts.rows) <= most
    assert found.amounts.rows[0]["step"] == found.first == LAST - dt.timedelta(days=days - 1)
    assert found.totals["rows"] == 40 * min(days, 3)
    assert found.differences() == []


def test_the_period_of_a_new_shop_starts_with_its_first_day(
    insert_sale: Callable[..., None], warehouse_url: str
) -> None:
    insert_sale(LAST)
    insert_sale(LAST - dt.timedelta(days=2))
    found = read(90)
    assert (found.first, found.last, found.days) == (LAST - dt.timedelta(days=2), LAST, 3)


def test_the_period_of_an_empty_mart_ends_yesterday(warehouse_url: str, today: dt.date) -> None:
    found = read(5)
    assert found.last == today - dt.timedelta(days=1)
    assert (found.totals["rows"], found.share, list(found.items), found.differences()) == (0, None, [], [])
    assert [row["net_amount"] for row in found.amounts.rows] == [0] * 5


def test_invalid_periods_are_refused(warehouse_url: str) -> None:
    with pytest.raises(ReportError, match="the period is reversed: 2024-10-03 is after 2024-10-02"):
        read(first=LAST + dt.timedelta(days=1), last=LAST)
    with pytest.raises(ReportError, match="longer than 100 years"):
        read(first=dt.date(1900, 1, 1), last=LAST)


def test_a_chart_that_differs_from_the_mart_is_named(insert_sale: Callable[..., None], warehouse_url: str) -> None:
    insert_sale(LAST)
    found = read()
    for chart, column, part in (
        ("amounts", "net_amount", found.amounts),
        ("amounts", "refunded_amount", found.amounts),
        ("refund share", "shipped_amount", found.refund_share),
        ("refund share", "refunded_amount", found.refund_share),
        ("rows", "rows", found.rows),
    ):
        assert part.rows[-1][column]
        part.rows[-1][column] += _CENT  # type: ignore[index]
        (difference,) = found.differences()
        assert difference.startswith(f"{chart}: {column} ")
        part.rows[-1][column] -= _CENT  # type: ignore[index]
    for chart in ("items", "cities"):
        fewer = dataclasses.replace(found, **{chart: getattr(found, chart)[1:]})
        assert [text.split(" ")[:2] for text in fewer.differences()] == [
            [f"{chart}:", "net_amount"],
            [f"{chart}:", "rows"],
        ]
