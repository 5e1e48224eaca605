"""Names: each stored once with the period of its use; each order row gets the name valid at its time."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from sales_assets.pipeline import names, parse_file, stage
from sales_assets.pipeline.names import add_calendar_days, names_in, store_names
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.schemas.report_files import USER_ORDERS_LOG
from sales_assets_tests.builders import Order
from sales_assets_tests.fixtures import F_SALES, ORDERS, RAW, Shop

DAYS = ["2024-10-01", "2024-10-02", "2024-10-03"]
NAMED = "SELECT uniq_id, city_name, first_name, last_name, item_name FROM staging.user_orders_log_named ORDER BY 1"


@pytest.fixture
def shop(engine_shop: Shop) -> Shop:
    """Return a shop that loads without Dagster runs; tests of Dagster's records use `dagster_shop`."""
    return engine_shop


def at(day: int, hour: int = 0) -> dt.datetime:
    return dt.datetime(2024, 10, day, hour)  # noqa: DTZ001  event times have no zone


def cities(shop: Shop) -> list[tuple[object, ...]]:
    return shop.query(
        "SELECT id, first, first_seen, last_seen FROM staging.name WHERE dimension = 'd_city'"
        " ORDER BY id, first_seen, first"
    )


def test_each_name_is_stored_once_with_its_first_and_last_use(shop: Shop) -> None:
    """The order in which the days are loaded does not matter."""
    for day, name in zip(DAYS, ("Rostov", "Rostov-on-Don", "Rostov"), strict=True):
        shop.reports.increment(
            day, [Order(f"{day} {n}", day=day, city_name=name, time=f" {n:02}:00:00") for n in (5, 7)]
        )
    for day in (DAYS[1], DAYS[2], DAYS[0]):
        shop.load(day)
    assert cities(shop) == [(1, "Rostov", at(1, 5), at(3, 7)), (1, "Rostov-on-Don", at(2, 5), at(2, 7))]
    shop.load(DAYS[0], DAYS[2])
    assert cities(shop) == [(1, "Rostov", at(1, 5), at(3, 7)), (1, "Rostov-on-Don", at(2, 5), at(2, 7))]


def test_a_row_has_the_names_of_its_time(shop: Shop) -> None:
    old = Order("a", day=DAYS[0], city_name="Rostov", first_name="Anna", last_name="Orlova", item_name="Milk")
    new = Order(
        "b", day=DAYS[2], city_name="Rostov-on-Don", first_name="Anna", last_name="Petrova", item_name="Oat milk"
    )
    shop.reports.increment(DAYS[0], [old])
    shop.reports.increment(DAYS[2], [new, new.but(uniq_id="c", city_name="", item_name="")])
    shop.load(DAYS[0], DAYS[2])
    assert shop.query(NAMED) == [
        ("a", "Rostov", "Anna", "Orlova", "Milk"),
        ("b", "Rostov-on-Don", "Anna", "Petrova", "Oat milk"),
        ("c", "Rostov-on-Don", "Anna", "Petrova", "Oat milk"),
    ]


def test_a_corrected_name_at_the_same_moment_is_the_later_one(shop: Shop) -> None:
    """A day is delivered again with another spelling of a name."""
    shop.reports.increment(DAYS[0], [Order("a", city_name="Rostow")])
    shop.load(DAYS[0])
    shop.reports.increment(DAYS[0], [Order("a", city_name="Rostov")])
    shop.load(DAYS[0])
    assert shop.query("SELECT city_name FROM mart.d_city") == [("Rostov",)]
    shop.query("TRUNCATE mart.d_city, mart.d_customer, mart.d_item")
    shop.rebuild_dimensions()
    assert shop.query("SELECT city_name FROM mart.d_city") == [("Rostov",)]


def test_names_may_exceed_an_index_entry_and_first_and_last_name_stay_apart(shop: Shop) -> None:
    long = "x" * 9000
    orders = [
        Order(str(n), city_name=f"{long}{n}", first_name=first, last_name=last, time=f" 00:00:0{n}")
        for n, (first, last) in enumerate([("ab", "c"), ("a", "bc")])
    ]
    shop.reports.increment(DAYS[0], orders)
    shop.load(DAYS[0])
    assert [name for _, name, *_ in cities(shop)] == [f"{long}0", f"{long}1"]
    customers = "SELECT first, second FROM staging.name WHERE dimension = 'd_customer' ORDER BY first_seen"
    assert shop.query(customers) == [("ab", "c"), ("a", "bc")]


def test_names_are_stored_even_if_only_staging_is_loaded(shop: Shop) -> None:
    shop.reports.increment(DAYS[0], [Order("a")])
    shop.load(DAYS[0], selection=[*RAW, ORDERS])
    assert shop.query(NAMED) == [("a", "Rostov", "Anna", "Orlova", "Milk")]
    assert shop.query("SELECT * FROM mart.d_city") == []
    shop.load(DAYS[0], selection=[F_SALES])
    assert shop.query("SELECT city_name FROM mart.d_city") == [("Rostov",)]


def test_at_the_same_event_time_the_later_line_wins(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "_ROWS_PER_NAMES", 1)
    monkeypatch.setattr(parse_file, "_ROWS_PER_DISTRIBUTION", 1)
    moments = [("A", 9), ("B", 10), ("A", 10)]
    orders = [Order(str(n), city_name=name, time=f" {hour:02}:00:00") for n, (name, hour) in enumerate(moments)]
    shop.reports.increment(DAYS[0], orders)
    shop.load(DAYS[0])
    assert shop.query("SELECT city_name FROM mart.d_city") == [("A",)]


def test_a_name_that_occurs_only_in_replaced_rows_is_deleted(shop: Shop) -> None:
    """An unused name would count as valid at its time, and return when the dimensions are rebuilt."""
    for day, name in zip(DAYS, ("Milk", "Oat milk", "Milk"), strict=True):
        shop.reports.increment(day, [Order(day, day=day, item_name=name), Order(f"{day} b", day=day, city_name="Omsk")])
    shop.load(DAYS[0], DAYS[2])
    shop.reports.increment(DAYS[1], [Order(DAYS[1], day=DAYS[1])])
    shop.load(DAYS[1])
    names = "SELECT item_name FROM staging.user_orders_log_named WHERE date_id = 20241002"
    assert shop.query(names) == [("Milk",)]
    stored = "SELECT first FROM staging.name WHERE dimension IN ('d_item', 'd_city') ORDER BY 1"
    assert shop.query(stored) == [("Milk",), ("Omsk",), ("Rostov",)], "Omsk is in use on the other days"
    assert shop.query(NAMED)[0][4] == "Milk"


def lines(*cells: tuple[int, str, int, str, str, int, str]) -> pa.Table:
    """Return order rows of (line, time, city id, city name, first name, item id, item name) of customer 51."""
    names = ("line_no", "date_time", "city_id", "city_name", "first_name", "item_id", "item_name")
    rows = [dict(zip(names, row, strict=True)) | {"customer_id": 51, "last_name": "Orlova"} for row in cells]
    fields = [USER_ORDERS_LOG.schema.field(name) for name in (*names, "customer_id", "last_name")]
    return pa.Table.from_pylist(rows, pa.schema(fields))


def test_the_names_in_rows() -> None:
    found = names_in(
        lines(
            (7, "2024-10-02", 1, "Omsk", "Anna", 3, "Milk"),
            (9, "2024-10-01 10:00", 1, "Omsk", "Anna", 3, "Milk"),
            (8, "2024-10-02T00:00:00", 2, "Omsk", "Anna", 3, "Oat milk"),
        )
    )
    first, last = "2024-10-01T10:00:00", "2024-10-02T00:00:00"
    assert sorted(tuple(row.values()) for row in found.to_pylist()) == [
        ("d_city", 1, "Omsk", "", first, last, 7),
        ("d_city", 2, "Omsk", "", last, last, 8),
        ("d_customer", 51, "Anna", "Orlova", first, last, 8),
        ("d_item", 3, "Milk", "", first, last, 7),
        ("d_item", 3, "Oat milk", "", last, last, 8),
    ]
    columns = ["dimension", "id", "first", "second", "first_seen", "last_seen", "last_line"]
    assert found.column_names == columns


@pytest.mark.parametrize(
    ("text", "event_time"),
    [
        ("2024-10-02", "2024-10-02T00:00:00"),
        ("2024-10-02 10:20", "2024-10-02T10:20:00"),
        ("2024-10-02T10:20", "2024-10-02T10:20:00"),
        ("2024-10-02T10:20:30", "2024-10-02T10:20:30"),
        ("2024-10-02 10:20:30.5+03:00", "2024-10-02T10:20:30"),
        ("2024-10-02T10:20Z", "2024-10-02T10:20:00"),
        ("2024-10-02T10:20+03:00", "2024-10-02T10:20:00"),
    ],
)
def test_the_event_time_of_a_row(text: str, event_time: str) -> None:
    (row, *_) = names_in(lines((2, text, 1, "Omsk", "Anna", 3, "Milk"))).to_pylist()
    assert (row["first_seen"], row["last_seen"], row["last_line"]) == (event_time, event_time, 2)


@pytest.mark.parametrize("in_dimensions", [True, False])
@pytest.mark.parametrize("together", [1, 3, 50_000])
def test_names_are_merged_regardless_of_how_they_are_split(
    warehouse_url: str,
    query: Callable[..., list[tuple[Any, ...]]],
    monkeypatch: pytest.MonkeyPatch,
    together: int,
    in_dimensions: bool,
) -> None:
    """Each name is stored with its first and last use, and with the highest line number at the time of the last use."""
    monkeypatch.setattr(names, "_NAMES_TOGETHER", together)
    monkeypatch.setattr(names, "_NAMES_A_BLOCK", together)
    parts = [
        names_in(lines(*part))
        for part in (
            [(9, "2024-10-02", 1, "Omsk", "Anna", 3, "Milk")],
            [(4, "2024-10-01", 1, "Omsk", "Anna", 3, "Milk"), (5, "2024-10-01", 2, "Tver", "Anna", 3, "Milk")],
            [(12, "2024-10-02", 1, "Omsk", "Anna", 3, "Oat milk")],
            [(7, "2024-10-02", 1, "Omsk", "Anna", 3, "Milk"), (3, "2024-10-03", 1, "Tomsk", "Anna", 3, "Milk")],
        )
    ]
    with Warehouse().transaction("names") as transaction:
        stored_at = store_names(transaction, parts, in_dimensions=in_dimensions)
        (now,) = transaction.rows("staging/name", "stored_at")
        assert stored_at == now["stored_at"]
    stored = query(
        "SELECT dimension, id, first, second, first_seen, last_seen, last_line FROM staging.name ORDER BY 1, 2, 3"
    )
    assert stored == [
        ("d_city", 1, "Omsk", "", at(1), at(2), 12),
        ("d_city", 1, "Tomsk", "", at(3), at(3), 3),
        ("d_city", 2, "Tver", "", at(1), at(1), 5),
        ("d_customer", 51, "Anna", "Orlova", at(1), at(3), 3),
        ("d_item", 3, "Milk", "", at(1), at(3), 3),
        ("d_item", 3, "Oat milk", "", at(2), at(2), 12),
    ]
    dimension = query("SELECT city_id, city_name FROM mart.d_city ORDER BY 1")
    assert dimension == ([(1, "Tomsk"), (2, "Tver")] if in_dimensions else [])


@pytest.mark.usefixtures("warehouse_url")
def test_a_load_without_names_extends_the_calendar_only() -> None:
    with Warehouse().transaction("calendar") as transaction:
        assert store_names(transaction, [], in_dimensions=True)
        days = [dt.date(2024, 10, day) for day in (1, 3, 6)]
        assert add_calendar_days(transaction, days[0], days[1]) == 3
        assert add_calendar_days(transaction, days[0], days[1]) == 0
        assert add_calendar_days(transaction, days[1], days[2]) == 3
