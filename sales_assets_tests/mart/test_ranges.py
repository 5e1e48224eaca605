"""Ranges of days: one run or many, one after the other or concurrently, produce the same tables."""

import contextlib
import threading
from typing import Any

import dagster as dg
import pytest

from sales_assets.partitions import DAYS as PARTITIONS
from sales_assets.pipeline import load, stage
from sales_assets.pipeline.publish import publish_days
from sales_assets.postgres.warehouse import Transaction, Warehouse
from sales_assets_tests.builders import Order, days_between, job, load_days
from sales_assets_tests.fixtures import F_SALES, ORDERS, RAW, Shop, failure_of

FIRST, LAST = "2024-09-29", "2024-10-02"
DAYS = days_between(FIRST, LAST)
TABLES = {
    "staging.user_orders_log": "date_id, uniq_id, status, quantity, payment_amount, line_no",
    "staging.custom_research": "date_id, category_id, geo_id, sales_qty, sales_amt, line_no",
    "staging.user_activity_log": "date_id, uniq_id, action_id, customer_id, quantity, line_no",
    "staging.price_log": "date_id, item_name, price, line_no",
    "mart.d_calendar": "date_id",
    "mart.d_city": "city_id, city_name",
    "mart.d_customer": "customer_id, first_name, last_name",
    "mart.d_item": "item_id, item_name",
    "mart.f_sales": "date_id, item_id, customer_id, city_id, quantity, amount, status, source",
    "mart.f_activity": "date_id, customer_id, action_id, events, quantity",
    "mart.f_research": "date_id, category_id, geo_id, sales_qty, sales_amt",
}


def deliver_days(shop: Shop) -> None:
    """Deliver a report of the first two days and increments of the second and third; the fourth has no file."""

    def files(*days: str) -> dict[str, Any]:
        activity = [f"1,u{day},{day},1,51,0" for day in days]
        research = [f"{day},1,2,3,4.5" for day in days]
        return {
            "user_activity_log": "\n".join(["id,uniq_id,date_time,action_id,customer_id,quantity", *activity, ""]),
            "custom_research": "\n".join(["date_id,category_id,geo_id,sales_qty,sales_amt", *research, ""]),
            "price_log": "Milk,100\nBread,7\n",
        }

    shop.reports.report(
        [Order(f"r{n}", day=day, customer_id=str(n)) for n, day in enumerate(DAYS[:2])], **files(*DAYS[:2])
    )
    for n, day in enumerate(DAYS[1:3]):
        orders = [Order(f"i{n}", day=day, item_id=str(n)), Order("x", day=day, status="refunded", city_id="7")]
        shop.reports.increment(day, orders, **files(day))


def tables(shop: Shop) -> dict[str, list[tuple[Any, ...]]]:
    return {table: shop.query(f"SELECT {columns} FROM {table} ORDER BY {columns}") for table, columns in TABLES.items()}


def empty(shop: Shop) -> None:
    shop.query(f"TRUNCATE raw.delivery, {', '.join(TABLES)} CASCADE")


def partitioned_assets() -> list[dg.AssetKey]:
    graph = job("load_days").asset_layer.asset_graph
    return [key for key in graph.materializable_asset_keys if graph.get(key).partitions_def == PARTITIONS]


def test_a_range_equals_its_days_for_every_partitioned_asset(shop: Shop) -> None:
    deliver_days(shop)
    shop.load(FIRST, LAST)
    whole = tables(shop)
    assert [len(whole[table]) for table in TABLES] == [5, 3, 3, 6, 4, 2, 2, 3, 5, 3, 3]
    keys = partitioned_assets()
    assert {ORDERS, F_SALES, *RAW} <= set(keys)
    assert len(keys) == 11
    for key in keys:
        assert shop.materialized(key) == set(DAYS), key

    empty(shop)
    shop.fetch_report()
    for day in reversed(DAYS):
        shop.load(day)
    assert tables(shop) == whole

    # Load stage by stage over the range, like backfills of one asset after the other.
    empty(shop)
    shop.fetch_report()
    staging, marts = ([key for key in keys if key.path[0] == schema] for schema in ("staging", "mart"))
    for selection in (RAW, staging, marts):
        shop.load(FIRST, LAST, selection=selection)
    assert tables(shop) == whole


def test_a_range_may_exceed_the_days_of_one_transaction(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several groups of days share a run, as in a load of a year."""
    monkeypatch.setattr(load, "DAYS_TOGETHER", 3)
    days = days_between("2024-09-01", "2024-09-11")
    for day in days[::3]:
        shop.reports.increment(day, [Order(day, day=day)])
    shop.load(days[0], days[-1])
    assert [name for name, _ in shop.sales()] == days[::3]
    assert shop.materialized(F_SALES) == set(days)


def test_overlapping_concurrent_ranges_produce_the_same_mart(shop: Shop) -> None:
    deliver_days(shop)
    shop.load(FIRST, LAST)
    whole = tables(shop)
    empty(shop)
    shop.fetch_report()
    start = threading.Barrier(3)
    failures: list[str] = []

    def load(first: str, last: str) -> None:
        with dg.DagsterInstance.ephemeral() as instance:
            start.wait(timeout=30)
            run = load_days(instance, first, last)
            failures.extend([] if run.success else [failure_of(run)])

    ranges = [(FIRST, DAYS[2]), (DAYS[1], LAST), (FIRST, LAST)]
    threads = [threading.Thread(target=load, args=days) for days in ranges]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert failures == []
    assert tables(shop) == whole


@pytest.mark.parametrize("change", ["fewer", "none"])
def test_a_day_with_fewer_rows_has_fewer_rows_in_the_mart(shop: Shop, change: str) -> None:
    """The day may be loaded as part of a range; the days around it don't change."""
    for day in DAYS:
        shop.reports.increment(day, [Order(f"{day}{n}", day=day) for n in "abc"])
    shop.load(FIRST, LAST)
    shop.reports.increment(DAYS[1], [Order(f"{DAYS[1]}b", day=DAYS[1])] if change == "fewer" else [])
    shop.load(FIRST, LAST)
    assert len(shop.sales(DAYS[1])) == (1 if change == "fewer" else 0)
    assert len(shop.sales()) == 9 + len(shop.sales(DAYS[1]))


@pytest.mark.parametrize("is_first_load", [True, False])
def test_the_cost_of_a_batch_does_not_grow_with_the_batches_before_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, is_first_load: bool
) -> None:
    """No query scans a whole table, because a scan would also read the rows of all earlier batches."""
    monkeypatch.setattr(stage, "_ROWS_PER_TRANSACTION", 1)
    monkeypatch.setattr(load, "_WRITERS", 1)
    # The counters of pg_stat_xact_user_tables include earlier transactions of a session.
    monkeypatch.setattr(Warehouse, "keeping_connections", lambda self: contextlib.nullcontext(self))
    shop.reports.report([Order(f"r{n}", day=day) for n, day in enumerate(DAYS)])
    if not is_first_load:
        shop.load(FIRST, LAST)
        shop.reports.report([Order(f"s{n}", day=day) for n, day in enumerate(DAYS)])
        shop.fetch_report()
    done: list[str] = []
    scans: list[tuple[str, int]] = []
    run, copy = Transaction.run, Transaction.copy

    def ran(transaction: Transaction, file: str, name: str, /, **parameters: object) -> int:
        if name == "summarize_days":
            done.append(name)
        return run(transaction, file, name, **parameters)

    def copied(transaction: Transaction, file: str, name: str, /, *arguments: Any, **options: Any) -> int:
        if name == "copy_rows":
            done.append(name)
        return copy(transaction, file, name, *arguments, **options)

    def watched(transaction: Transaction, *arguments: Any) -> None:
        publish_days(transaction, *arguments)
        rows = transaction.connection.execute(
            "SELECT relname, seq_scan FROM pg_stat_xact_user_tables WHERE relname IN ('user_orders_log', 'f_sales')"
        ).fetchall()
        scans.extend((row["relname"], row["seq_scan"]) for row in rows)

    monkeypatch.setattr(Transaction, "run", ran)
    monkeypatch.setattr(Transaction, "copy", copied)
    monkeypatch.setattr(load, "publish_days", watched)
    shop.load(FIRST, LAST)
    if is_first_load:
        assert done == [*["copy_rows"] * len(DAYS), "summarize_days"]
    else:
        assert done[: 2 * len(DAYS)] == ["copy_rows", "summarize_days"] * len(DAYS)
    assert sorted(set(scans)) == [("f_sales", 0), ("user_orders_log", 0)]
