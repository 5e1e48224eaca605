"""``mart.f_activity``: events and quantities by day, customer and action, compared with the report files."""

import datetime as dt
from collections import defaultdict
from decimal import Decimal
from pathlib import Path

import pytest

from sales_assets.simulators.report_api.generate import Shop as Generated
from sales_assets.simulators.report_api.generate import generate
from sales_assets_tests.fixtures import Shop
from sales_assets_tests.reference_model import lines_by_day

ROWS = "SELECT date_id, customer_id, action_id, events, quantity FROM mart.f_activity ORDER BY 1, 2, 3"
HEADER = "id,uniq_id,date_time,action_id,customer_id,quantity\n"
DAY, OTHER = "2024-10-01", "2024-10-02"


@pytest.fixture
def shop(engine_shop: Shop) -> Shop:
    """Return a shop that loads without Dagster runs; tests of Dagster's records use `dagster_shop`."""
    return engine_shop


def expected(folder: Path) -> list[tuple[int, int, int, int, Decimal]]:
    """Return the mart rows expected for a folder of report files."""
    quantities: dict[tuple[int, int, int], list[Decimal]] = defaultdict(list)
    for day, lines in lines_by_day(folder, "user_activity_log", "date_time").items():
        for line in lines:
            key = day, int(line["customer_id"]), int(line["action_id"])
            quantities[key].append(Decimal(line["quantity"]))
    return sorted((*key, len(found), sum(found, Decimal(0))) for key, found in quantities.items())


def test_mart_rows_equal_the_report_files(shop: Shop) -> None:
    first = dt.date(2024, 9, 1)
    generate(shop.reports.folder, Generated(seed=5, lines_per_day=5), first_day=first, days=60, increments=10)
    shop.load("2024-09-01", "2024-10-30")
    rows = shop.query(ROWS)
    assert len(rows) > 100
    assert rows == expected(shop.reports.folder)


def test_events_are_counted_and_quantities_added_up(shop: Shop) -> None:
    """Grouping is by customer and action; a duplicate line is one event, and an event with quantity 0 counts."""
    activity = f"1,a,{DAY},1,51,2\n2,b,{DAY},1,51,0.5\n3,b,{DAY},1,51,0.5\n4,c,{DAY},2,51,0\n5,d,{DAY},1,52,4\n"
    shop.reports.increment(DAY, None, user_activity_log=HEADER + activity)
    shop.load(DAY)
    assert shop.query(ROWS) == [
        (20241001, 51, 1, 2, Decimal("2.50")),
        (20241001, 51, 2, 1, 0),
        (20241001, 52, 1, 1, 4),
    ]


def test_a_day_is_replaced_as_a_whole(shop: Shop) -> None:
    """Loading twice changes nothing; rows missing from a new file are deleted, and other days don't change."""
    for day in (DAY, OTHER):
        shop.reports.increment(day, None, user_activity_log=f"{HEADER}1,{day}a,{day},1,51,2\n2,{day}b,{day},1,52,3\n")
    shop.load(DAY, OTHER)
    before = shop.query(ROWS)
    assert [row[:2] for row in before] == [(20241001, 51), (20241001, 52), (20241002, 51), (20241002, 52)]
    shop.load(DAY, OTHER)
    assert shop.query(ROWS) == before
    shop.reports.increment(DAY, None, user_activity_log=f"{HEADER}1,c,{DAY},3,53,1\n")
    shop.load(DAY)
    assert shop.query(ROWS) == [(20241001, 53, 3, 1, 1), *before[2:]]
    shop.reports.increment(DAY, None, user_activity_log=HEADER)
    shop.load(DAY)
    assert shop.query(ROWS) == before[2:]
