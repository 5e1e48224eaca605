"""Files and loads beyond each size at which the engine works in parts: the results don't change.

The sizes are reduced, so that each test exceeds them like a year's load; one test uses the real sizes.
"""

from collections.abc import Callable

import pytest

from sales_assets.pipeline import load, names, parse_file, spill, stage
from sales_assets_tests.builders import ORDER_COLUMNS, Order, days_between
from sales_assets_tests.fixtures import Shop

DAYS = days_between("2024-10-01", "2024-10-06")
DAY = DAYS[0]
SIZES: dict[str, list[tuple[object, str, int]]] = {
    "parts of a day": [(parse_file, "_ROWS_PER_PARTITION", 3)],
    "hashes compared at once": [(parse_file, "_HASHES_AT_ONCE", 2)],
    "lines divided at once": [(parse_file, "_ROWS_PER_DISTRIBUTION", 2)],
    "lines in a block": [(stage, "_ROWS_PER_BLOCK", 2)],
    "lines in a transaction": [(stage, "_ROWS_PER_TRANSACTION", 2)],
    "lines between summaries of an index": [(stage, "_ROWS_PER_TRANSACTION", 2), (load, "_ROWS_PER_SUMMARY", 5)],
    "lines whose names are gathered": [(stage, "_ROWS_PER_NAMES", 2)],
    "names merged at once": [(stage, "_ROWS_PER_NAMES", 0), (names, "_NAMES_TOGETHER", 3)],
    "names in a block": [(names, "_NAMES_A_BLOCK", 2)],
    "bytes held in memory": [(spill, "HELD_BYTES", 1), (spill, "_ROWS_PER_BATCH", 2)],
    "days in a transaction": [(load, "DAYS_TOGETHER", 2)],
}
SIZES["all at once"] = [size for sizes in SIZES.values() for size in sizes]
Limit = Callable[[str], None]


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Limit:
    """Return a function that reduces one of the sizes."""

    def make(name: str) -> None:
        for module, constant, value in SIZES[name]:
            monkeypatch.setattr(module, constant, value)

    return make


def orders_of(day: str, number: int) -> list[Order | str]:
    """Return orders with the day in their names, each twice, a refund, two conflicting rows and a rejected one."""
    lines: list[Order | str] = [
        Order(f"{day}-{n}", day=day, item_id=f"{n}", item_name=f"item {n} of {day}", customer_id=f"{n % 3}")
        for n in range(number)
    ]
    refund = Order(f"{day}-0", day=day, amount="5", status="refunded", city_id="9", city_name="Omsk", item_id="90")
    conflict = [Order(f"{day}-x", day=day, amount=amount, item_id="91") for amount in ("1", "2")]
    return [conflict[0], *lines, refund, "bad", *lines, conflict[1]]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["increments", "report"])
def test_a_load_beyond_each_size_has_the_same_results(shop: Shop, limit: Limit, size: str, kind: str) -> None:
    number = 4
    limit(size)
    if kind == "increments":
        for day in DAYS:
            shop.reports.increment(
                day, orders_of(day, number), price_log=f"Milk,{day[-2:]}\nBread,7\nMilk,{day[-2:]}\n"
            )
    else:
        prices = "Milk,1\nBread,7\nMilk,1\nTea,1\nTea,2\nRye,3\n"
        lines = [line for day in reversed(DAYS) for line in orders_of(day, number)]
        shop.reports.report(lines, statuses=True, price_log=prices)
    shop.load(DAYS[0], DAYS[-1])
    expected = []
    for day in DAYS:
        amounts = [("0", -5), *((str(n), 200) for n in range(number))]
        expected += [(int(day.replace("-", "")), f"{day}-{n}", amount) for n, amount in amounts]
    assert [(row[0], row[1], row[6]) for row in shop.contents()] == expected
    # The names of the latest day count, but names in quarantined lines don't.
    item_names = [(n, f"item {n} of {DAYS[-1]}") for n in range(number)]
    assert shop.query("SELECT item_id, item_name FROM mart.d_item ORDER BY 1") == [*item_names, (90, "Milk")]
    assert shop.query("SELECT city_id, city_name FROM mart.d_city ORDER BY 1") == [(1, "Rostov"), (9, "Omsk")]
    waiting = shop.query(
        "SELECT line_text FROM staging.quarantine JOIN raw.fetch USING (fetch_id) WHERE file LIKE 'user%'"
    )
    assert sorted(text.split(",")[-2] for (text,) in waiting if text != "bad") == ["1"] * len(DAYS) + ["2"] * len(DAYS)
    assert waiting.count(("bad",)) == len(DAYS)
    staged = shop.query("SELECT item_name, price FROM staging.price_log ORDER BY date_id, 1")
    if kind == "increments":
        assert staged == [line for n in range(1, len(DAYS) + 1) for line in (("Bread", 7), ("Milk", n))]
    else:
        assert staged == [("Bread", 7), ("Milk", 1), ("Rye", 3)] * len(DAYS)


@pytest.mark.parametrize("size", ["parts of a day", "all at once"])
def test_duplicates_in_a_large_file_without_uniq_id_are_removed(shop: Shop, limit: Limit, size: str) -> None:
    """Rows are identified by their contents: copies far apart end in the same part of their day."""
    limit(size)
    columns = ORDER_COLUMNS.replace("uniq_id,", "")
    lines = [f"{DAY},1,Rostov,{n},Anna,Orlova,3,Milk,2,{100 + n}" for n in range(20)]
    text = "".join(f"{line}\n" for line in [columns, *(f"{n},{line}" for n, line in enumerate(lines + lines[::-1]))])
    shop.reports.increment(DAY, None, user_orders_log=text)
    shop.load(DAY)
    assert shop.query("SELECT customer_id, amount FROM mart.f_sales ORDER BY 1") == [(n, 100 + n) for n in range(20)]
    assert shop.query("SELECT kept, repeats, bad FROM staging.fetch_reading") == [(20, 20, 0)]


@pytest.mark.parametrize("size", ["parts of a day", "all at once"])
def test_duplicates_and_conflicts_in_other_large_files(shop: Shop, limit: Limit, size: str) -> None:
    """Rows with the same key are compared, for every kind of key."""
    limit(size)
    research = [f"{DAY},{n},2,3,4.5" for n in range(10)]
    activity = [f"{n},u{n},{DAY},1,51,0" for n in range(10)]
    prices = [f"item {n},{n}" for n in range(10)]
    shop.reports.increment(
        DAY,
        [],
        custom_research="\n".join(
            ["date_id,category_id,geo_id,sales_qty,sales_amt", *research, *research[::-1], f"{DAY},0,2,3,9", ""]
        ),
        user_activity_log="\n".join(
            [
                "id,uniq_id,date_time,action_id,customer_id,quantity",
                *activity,
                *activity[::-1],
                f"7,u0,{DAY},2,51,0",
                "",
            ]
        ),
        price_log="\n".join([*prices, *prices[::-1], "item 0,9", ""]),
    )
    shop.load(DAY)
    for file, key in (("custom_research", "category_id"), ("user_activity_log", "uniq_id"), ("price_log", "item_name")):
        assert shop.query(f"SELECT count(*), count(DISTINCT {key}) FROM staging.{file}") == [(9, 9)], file
        assert shop.query(
            "SELECT lines, kept, repeats, bad FROM staging.fetch_reading JOIN raw.fetch USING (fetch_id)"
            " WHERE file = %s",
            file,
        ) == [(21, 9, 9, 3)], file


def test_names_of_more_rows_than_are_collected_together_are_complete(shop: Shop) -> None:
    """Small files with more than the real limit of 40 000 rows together: the names of all files are stored."""
    for n, day in enumerate(DAYS[:3]):
        lines = [
            Order(f"{n}-{i}", day=day, item_id=f"{n * 50 + i % 50}", item_name=f"{day} {i % 50}") for i in range(21_000)
        ]
        shop.reports.increment(day, lines)
    shop.load(DAYS[0], DAYS[2])
    expected = [(n * 50 + i, f"{day} {i}") for n, day in enumerate(DAYS[:3]) for i in range(50)]
    assert shop.query("SELECT item_id, item_name FROM mart.d_item ORDER BY 1") == expected
