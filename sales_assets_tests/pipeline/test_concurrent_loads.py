"""Concurrent loads: different days in parallel, the same day in turn, and the data that days share."""

import datetime as dt
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from sales_assets.cli import quarantine
from sales_assets.pipeline import load
from sales_assets.pipeline.load import Pipeline, load_days
from sales_assets.pipeline.load_report import F_SALES, LoadReport, raw_table, staging_table
from sales_assets.pipeline.partner_orders import load_order_days
from sales_assets.postgres.queries import statements
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.resources.raw_files import RawFiles
from sales_assets.resources.report_api import ReportApi
from sales_assets.schemas.report_files import USER_ORDERS_LOG
from sales_assets.settings import first_day, settings
from sales_assets_tests.builders import Order
from sales_assets_tests.fixtures import Shop
from sales_assets_tests.postgres.test_warehouse import waiting
from sales_assets_tests.services.partner_orders.fixtures import until

DAYS = ("2024-09-01", "2024-09-02")
_SECONDS = 120
Call = Callable[..., Any]


def engine(*days: str, run_id: str, raw: bool = True) -> LoadReport:
    """Load days with the engine, without Dagster."""
    scratch = settings().sales_home / run_id
    log = logging.getLogger(__name__)
    pipeline = Pipeline(Warehouse(), RawFiles(), ReportApi(), scratch, first_day(), log)
    tables = [raw_table(USER_ORDERS_LOG)] * raw + [staging_table(USER_ORDERS_LOG), F_SALES]
    return load_days(pipeline, [dt.date.fromisoformat(day) for day in days], tables, run_id)


def synchronize(monkeypatch: pytest.MonkeyPatch, name: str, **waiting: Call) -> None:
    """Call `waiting[run_id]`, or else `waiting["every"]`, before each call of `load.<name>`."""
    function = getattr(load, name)

    def synchronized(*arguments: Any, **options: Any) -> Any:
        run = threading.current_thread().name.split("_")[0]
        waiting.get(run, waiting.get("every", lambda: None))()
        return function(*arguments, **options)

    monkeypatch.setattr(load, name, synchronized)


def start(run_id: str, *days: str, raw: bool = True) -> "Loading":
    return Loading(run_id, days, raw)


class Loading:
    """A load in a thread that is named after its run."""

    def __init__(self, run_id: str, days: tuple[str, ...], raw: bool) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=run_id)
        self._report = self._pool.submit(engine, *days, run_id=run_id, raw=raw)

    def report(self) -> LoadReport:
        report = self._report.result(_SECONDS)
        self._pool.shutdown()
        assert report.failures == {}
        return report


@pytest.fixture
def url(warehouse_url: str) -> str:
    return warehouse_url


def test_loads_of_different_days_write_at_the_same_time(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two loads have staged different days but not committed; both write the same customers, in opposite order."""
    shop.fetch_report()
    for day in DAYS:
        customers = range(50, 60) if day == DAYS[0] else range(59, 49, -1)
        shop.reports.increment(
            day, [Order(f"{day} {n}", day=day, customer_id=str(n), first_name=f"{day}") for n in customers]
        )
    synchronize(monkeypatch, "store_names", every=threading.Barrier(2, timeout=_SECONDS).wait)
    loads = [start(f"load{n}", day) for n, day in enumerate(DAYS)]
    assert [one.report().lock_wait_seconds for one in loads] == [0, 0]
    assert len(shop.sales()) == 20
    assert shop.query("SELECT DISTINCT first_name FROM mart.d_customer") == [(DAYS[1],)]


def test_a_second_load_of_the_same_day_waits_and_finds_it_loaded(
    shop: Shop, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.reports.increment(DAYS[0], [Order("a", day=DAYS[0]), Order("b", day=DAYS[0])])
    shop.fetch_report()
    second_parsed = threading.Event()
    synchronize(monkeypatch, "store_names", first=lambda: second_parsed.wait(_SECONDS))
    first = start("first", DAYS[0])
    until(lambda: shop.query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2") == [(1,)])
    second = start("second", DAYS[0])
    assert until(lambda: waiting(url)) == ["second locks of days 20240901..20240901"]
    second_parsed.set()
    assert first.report().lock_wait_seconds == 0
    assert second.report().lock_wait_seconds > 0
    assert [name for name, _ in shop.sales()] == ["a", "b"]
    # Both loads parsed the report, but only the first recorded and staged it.
    assert shop.query("SELECT run_id, revision FROM staging.fetch_reading") == [("first", 1)]
    assert shop.query("SELECT run_id FROM staging.staged_day") == [("first",)]


def test_a_report_parsed_by_two_loads_is_recorded_once_and_both_days_are_loaded(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.reports.report([Order(day, day=day) for day in DAYS] + [Order("bad", day=DAYS[0], quantity="two")])
    shop.fetch_report()
    synchronize(monkeypatch, "exclude_other_recorders", every=threading.Barrier(2, timeout=_SECONDS).wait)
    loads = [start(f"load{n}", day, raw=False) for n, day in enumerate(DAYS)]
    assert [one.report().lock_wait_seconds for one in loads] == [0, 0]
    assert [name for name, _ in shop.sales()] == list(DAYS)
    assert shop.query("SELECT revision FROM staging.fetch_reading") == [(1,)]
    assert len(shop.quarantined()) == 1
    assert shop.query("SELECT date_id, revision FROM staging.staged_day ORDER BY 1") == [(20240901, 1), (20240902, 1)]


@pytest.mark.parametrize("moment", ["exclude_other_recorders", "select_files"])
def test_a_row_resolved_while_two_loads_parse_its_report_is_not_lost(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """After the first load has parsed the file, a load of another day records a parse result with the resolution."""
    bad = Order("b", day=DAYS[1], amount="ten")
    shop.reports.report([Order("a", day=DAYS[0]), bad, Order("c", day=DAYS[1])])
    shop.fetch_report()
    engine(DAYS[0], run_id="before", raw=False)
    resolved = threading.Event()

    def resolve_and_load() -> None:
        if not resolved.is_set():
            resolved.set()
            ((number,),) = shop.query("SELECT quarantine_id FROM staging.quarantine")
            text = bad.but(amount="10").line(2, statuses=False)
            with Warehouse().transaction("a person") as transaction:
                transaction.run("staging/quarantine", "correct", ids=[number], texts=[text])
            start("other", DAYS[0], raw=False).report()

    synchronize(monkeypatch, moment, this=resolve_and_load)
    start("this", DAYS[1], raw=False).report()
    assert resolved.is_set()
    assert shop.sales() == [("a", 200), ("b", 10), ("c", 200)]


def test_partner_orders_and_replays_run_concurrently_with_a_load_of_their_day(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Partner orders and replays don't wait for a load that has written the day's rows but not committed them."""
    bad = Order("b", day=DAYS[0], amount="ten")
    shop.reports.increment(DAYS[0], [Order("a", day=DAYS[0]), bad])
    shop.fetch_report()
    engine(DAYS[0], run_id="before")
    shop.reports.increment(DAYS[0], [Order("new", day=DAYS[0])])
    arrived, may_continue = threading.Event(), threading.Event()

    def wait_to_continue() -> None:
        arrived.set()
        assert may_continue.wait(_SECONDS)

    synchronize(monkeypatch, "store_names", held=wait_to_continue)
    held = start("held", DAYS[0])
    assert arrived.wait(_SECONDS)
    loaded = load_order_days(Warehouse(), [dt.date.fromisoformat(DAYS[0])], "orders", timezone="UTC", sale_on="created")
    assert loaded.lock_wait_seconds == 0
    ((number,),) = shop.query("SELECT quarantine_id FROM staging.quarantine")
    monkeypatch.setattr(quarantine, "_load_again", lambda _: [])
    text = bad.but(amount="10").line(2, statuses=True)
    done = quarantine.replay(Warehouse(), corrections={number: text}, discarded=[], as_they_are=[])
    assert [row["state"] for row in done.lines] == ["corrected"]
    may_continue.set()
    held.report()
    assert shop.sales() == [("new", 200)]


def test_a_relay_of_partner_orders_does_not_delay_loads(shop: Shop, url: str) -> None:
    """A relay holds its lock as long as it runs, and loads don't need this lock."""
    shop.reports.increment(DAYS[0], [Order("a", day=DAYS[0])])
    shop.fetch_report()
    with psycopg.connect(url, autocommit=True) as relay:
        relay.execute(statements("orders/outbox")["lead"])
        start("load", DAYS[0]).report()
    assert shop.sales() == [("a", 200)]
