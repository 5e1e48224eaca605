"""The partner orders' rows of ``mart.f_sales``: from staged events to mart rows, and what must never happen to them."""

import datetime as dt
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import dagster as dg
import pytest

from sales_assets import settings as settings_module
from sales_assets.dagster_internals import range_tags
from sales_assets.defs.automation.new_order_events import new_order_events
from sales_assets.defs.checking import evaluate
from sales_assets.defs.load_partner_orders import order_checks
from sales_assets.defs.mart.dimensions import dimension_key
from sales_assets.pipeline.partner_orders import LoadedOrders, load_order_days
from sales_assets.postgres.warehouse import DayLock, Transaction, Warehouse
from sales_assets.services.partner_orders.mapping import Mapping, shared_phones, store, waiting
from sales_assets_tests.automation.runs import record_runs
from sales_assets_tests.builders import definitions, job
from sales_assets_tests.postgres.test_warehouse import waiting as waiting_for_locks
from sales_assets_tests.services.partner_orders.conftest import Start
from sales_assets_tests.services.partner_orders.fixtures import ALL_PARTS, order, until

Query = Callable[..., list[tuple[object, ...]]]
Load = Callable[..., dg.ExecuteInProcessResult]

DAY = "2024-06-20"
ROWS = (
    "SELECT date_id, item_id, customer_id, city_id, quantity::text, amount::text, status "
    "FROM mart.f_sales WHERE source = 'partner_orders' ORDER BY date_id, status DESC, item_id"
)
SHIPPED = [
    (20240620, 3, 51, 7, "10.00", "100.00", "shipped"),
    (20240620, 4, 51, 7, "12.00", "120.00", "shipped"),
]
MAPPINGS = [
    Mapping("item", "58", 3),
    Mapping("item", "21737", 4),
    Mapping("pharmacy", "1086", 7),
    Mapping("customer", "79997772211", 51),
]


@pytest.fixture
def mapped(warehouse_url: str) -> None:
    store(Warehouse(), MAPPINGS)


@pytest.fixture
def load(instance: dg.DagsterInstance, warehouse_url: str) -> Load:
    """Return a function that runs the job for a range of days as one run."""

    def run(first: str = DAY, last: str | None = None) -> dg.ExecuteInProcessResult:
        tags = range_tags(first, last or first)
        return job("load_partner_orders").execute_in_process(instance=instance, tags=tags, raise_on_error=False)

    return run


@pytest.fixture
def stage(query: Query) -> Callable[..., None]:
    """Return a function that stages an event like the consumer, and adds its outbox row like the service."""

    def one(order_id: int = 10, kind: str = "accepted", at: str = "2024-06-20T03:14:44Z", **changes: Any) -> None:
        event = {
            "message_id": f"8-{order_id}-{kind}",
            "kind": kind,
            "project_id": 8,
            "kodpost": 116897,
            "order_id": order_id,
            "their_order_id": "777",
            "their_pharmacy_id": "1086",
            "phone": "79997772211",
            "dated_at": at,
            "lines": [
                {"line_no": 1, "their_id": "58", "price": "10", "count": 10},
                {"line_no": 2, "their_id": "21737", "price": "10", "count": 12},
            ],
            **changes,
        }
        query(
            "INSERT INTO orders.partner_order (order_id, body_hash, order_date, order_type, their_pharmacy_id, phone, "
            "lines, state, their_order_id) VALUES (%s, '', now(), 1, '', '', '[]', 'accepted', '777') "
            "ON CONFLICT DO NOTHING",
            order_id,
        )
        query(
            "INSERT INTO orders.outbox (message_id, order_id, kind, project_id, kodpost, dated_at, created_at) "
            "VALUES (%s, %s, %s, 8, 116897, %s, now() - interval '1 hour') ON CONFLICT DO NOTHING",
            event["message_id"],
            order_id,
            kind,
            at,
        )
        query(
            "INSERT INTO staging.partner_order_event SELECT * FROM jsonb_populate_record("
            "NULL::staging.partner_order_event, %s::jsonb || jsonb_build_object('received_at', now())) "
            "ON CONFLICT DO NOTHING",
            json.dumps(event),
        )

    return one


def failed_checks(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    """Return {check: example of its first failing day} for the checks that did not pass."""
    reported = {}
    for check in result.get_asset_check_evaluations():
        if not check.passed:
            table = check.metadata["first failing days"]
            assert isinstance(table, dg.TableMetadataValue)
            reported[check.check_name] = str(table.records[0].data["example"])
    return reported


# --- from the service to the mart --------------------------------------------------------------------------------


@pytest.mark.broker
def test_an_order_reaches_the_mart_and_its_cancel_reverses_it(
    start: Start, broker: Any, mapped: None, load: Load, query: Query
) -> None:
    service = start(broker=broker, parts=ALL_PARTS)
    assert service.post(order()).json()["result"] == "success"
    until(lambda: query("SELECT count(*) FROM staging.partner_order_event") == [(1,)])
    assert load().success
    assert query(ROWS) == SHIPPED

    assert service.delete({"order_id": 10, "their_order_id": "777"}).json() == {"result": "success"}
    assert service.delete({"order_id": 10, "their_order_id": "777"}).json() == {"result": "success"}
    until(lambda: query("SELECT count(*) FROM staging.partner_order_event") == [(2,)])
    cancelled_on = query("SELECT (cancelled_at AT TIME ZONE 'UTC')::date FROM orders.partner_order")[0][0]
    assert isinstance(cancelled_on, dt.date)
    # The days are loaded separately, because there are years between them.
    for day in (DAY, cancelled_on.isoformat()):
        result = load(day)
        assert result.success
        assert failed_checks(result) == {}
    number = int(f"{cancelled_on:%Y%m%d}")
    assert query(ROWS) == [
        *SHIPPED,
        (number, 3, 51, 7, "-10.00", "-100.00", "refunded"),
        (number, 4, 51, 7, "-12.00", "-120.00", "refunded"),
    ]
    assert query("SELECT source, file, line_no FROM mart.f_sales_lines ORDER BY date_id, line_no") == [
        ("partner_orders", "partner order 10, line 1, event 8-10-accepted", 1),
        ("partner_orders", "partner order 10, line 2, event 8-10-accepted", 2),
        ("partner_orders", "partner order 10, line 1, event 8-10-cancelled", 1),
        ("partner_orders", "partner order 10, line 2, event 8-10-cancelled", 2),
    ]
    assert query("SELECT sum(amount) FROM mart.f_sales") == [(Decimal(0),)]


# --- days -------------------------------------------------------------------------------------------------------


def test_loading_twice_changes_nothing_and_a_range_equals_its_days(
    stage: Callable[..., None], mapped: None, load: Load, query: Query
) -> None:
    for number in range(4):
        stage(number, at=f"2024-06-2{number}T12:00:00Z")
        stage(number, "cancelled", at=f"2024-06-2{number + 1}T12:00:00Z")
    everything = "SELECT id, date_id, item_id, quantity, amount, status FROM mart.f_sales ORDER BY id"
    for day in range(5):
        assert load(f"2024-06-2{day}").success
    by_days = query(everything)
    assert len(by_days) == 16
    assert load("2024-06-20", "2024-06-24").success
    assert query(everything) == by_days
    assert query("SELECT count(*), count(DISTINCT uniq_id) FROM staging.partner_order_line") == [(16, 16)]


def test_rows_of_other_sources_are_never_changed(
    stage: Callable[..., None], mapped: None, load: Load, query: Query
) -> None:
    query(
        "INSERT INTO mart.f_sales (date_id, item_id, customer_id, city_id, quantity, amount, status, source) VALUES "
        "(20240620, 1, 1, 1, 1, 1, 'shipped', 'legacy'), (20240620, 1, 1, 1, -1, -1, 'refunded', 'report_api')"
    )
    others = "SELECT * FROM mart.f_sales WHERE source <> 'partner_orders' ORDER BY id"
    before = query(others)
    stage()
    assert load().success
    assert query(others) == before
    assert query(ROWS) == SHIPPED


def test_a_day_with_fewer_events_has_fewer_rows(
    stage: Callable[..., None], mapped: None, load: Load, query: Query
) -> None:
    stage(1)
    stage(2)
    assert load().success
    query("DELETE FROM staging.partner_order_event WHERE order_id = 2")
    query("DELETE FROM orders.outbox WHERE order_id = 2")
    assert load().success
    assert query(ROWS) == SHIPPED


@pytest.mark.parametrize(("zone", "day"), [("UTC", 20240620), ("Europe/Moscow", 20240621)])
def test_the_day_is_determined_in_the_time_zone_of_the_shop(
    stage: Callable[..., None],
    mapped: None,
    load: Load,
    query: Query,
    monkeypatch: pytest.MonkeyPatch,
    zone: str,
    day: int,
) -> None:
    stage(at="2024-06-20T22:30:00Z")
    monkeypatch.setenv("SALES_TIMEZONE", zone)
    settings_module.settings.cache_clear()
    result = load("2024-06-20", "2024-06-21")
    assert failed_checks(result) == {}
    assert query("SELECT DISTINCT date_id FROM mart.f_sales") == [(day,)]


def test_a_line_that_changes_its_day_with_the_time_zone_counts_once(
    stage: Callable[..., None], mapped: None, load: Load, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(at="2024-06-20T22:30:00Z")
    assert load().success
    monkeypatch.setenv("SALES_TIMEZONE", "Europe/Moscow")
    settings_module.settings.cache_clear()
    assert load("2024-06-21").success
    assert query("SELECT date_id, count(*) FROM mart.f_sales GROUP BY 1") == [(20240621, 2)]


def test_a_sale_may_be_counted_when_the_order_is_handed_out(
    stage: Callable[..., None], mapped: None, load: Load, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SALE_ON", "done")
    settings_module.settings.cache_clear()
    stage(1)
    stage(1, "done", at="2024-06-22T12:00:00Z")
    stage(2)
    stage(2, "cancelled", at="2024-06-22T12:00:00Z")
    assert load("2024-06-20", "2024-06-22").success
    # The cancel of an order that was not counted as a sale refunds nothing.
    assert query("SELECT date_id, count(*), sum(amount) FROM mart.f_sales GROUP BY 1") == [
        (20240622, 2, Decimal("220.00"))
    ]


# --- lines without a mapping --------------------------------------------------------------------------------------


def test_lines_without_a_mapping_wait_and_fail_a_check(
    stage: Callable[..., None], load: Load, query: Query, instance: dg.DagsterInstance
) -> None:
    store(Warehouse(), [mapping for mapping in MAPPINGS if mapping.theirs != "21737"])
    stage(1)
    stage(2, phone="70000000000")
    stage(3, their_pharmacy_id="9")
    result = load()
    assert query("SELECT item_id, amount FROM mart.f_sales") == [(3, Decimal("100.00"))]
    assert failed_checks(result) == {
        "partner_orders_mapped": "8-1-accepted, line 2: item 21737 of 116897 has no mapping"
    }
    reasons = [row["reason"] for row in waiting(Warehouse())]
    assert reasons == [
        "item 21737 of 116897 has no mapping",
        "the customer's phone has no mapping",
        "item 21737 of 116897 has no mapping; the customer's phone has no mapping",
        "pharmacy 9 of 116897 has no mapping",
        "item 21737 of 116897 has no mapping; pharmacy 9 of 116897 has no mapping",
    ]
    assert _requested_days(instance) == []
    again = store(
        Warehouse(),
        [*MAPPINGS, Mapping("customer", "70000000000", 52), Mapping("pharmacy", "9", 8)],
    )
    assert again == 3
    assert _requested_days(instance) == [DAY]
    assert failed_checks(load()) == {}
    assert query("SELECT count(*) FROM mart.f_sales") == [(6,)]
    assert waiting(Warehouse()) == []


def test_lines_that_exceed_the_types_of_the_mart_wait(
    stage: Callable[..., None], mapped: None, load: Load, query: Query
) -> None:
    stage(1, lines=[{"line_no": 1, "their_id": "58", "price": "99999999.99", "count": 2}])
    stage(2, lines=[{"line_no": 1, "their_id": "58", "price": "0.01", "count": 2**31 - 1}])
    assert set(failed_checks(load())) == {"partner_orders_mapped"}
    assert query("SELECT count(*) FROM mart.f_sales") == [(0,)]


def test_all_spellings_of_a_phone_are_the_same_phone(
    stage: Callable[..., None], mapped: None, load: Load, query: Query
) -> None:
    lines = [{"line_no": 1, "their_id": "58", "price": "10", "count": 1}]
    spellings = (
        "+7 (999) 777-22-11",
        "8 999 777 22 11",
        "9997772211",
        "7\u00a0999\u00a0777\u201122\u201111",
        "79997772211",
    )
    for number, phone in enumerate(spellings, start=1):
        stage(number, phone=phone, lines=lines)
    assert failed_checks(load()) == {}
    assert query("SELECT DISTINCT customer_id, count(*) OVER () FROM mart.f_sales") == [(51, 5)]


def test_a_phone_of_another_country_has_a_separate_key(
    stage: Callable[..., None], mapped: None, load: Load, query: Query
) -> None:
    store(Warehouse(), [Mapping("customer", "+375 (29) 123-45-67", 60)])
    lines = [{"line_no": 1, "their_id": "58", "price": "10", "count": 1}]
    for number, phone in enumerate(("+375291234567", "+375 29 123 45 67", "375291234567"), start=1):
        stage(number, phone=phone, lines=lines)
    load()
    assert query("SELECT customer_id FROM mart.f_sales") == [(60,), (60,)]
    assert [(row["reason"], row["phone"]) for row in waiting(Warehouse())] == [
        ("the customer's phone is not a phone number", "375291234567")
    ]


def test_a_phone_of_two_customers_is_mapped_to_neither_and_fails_a_check(
    stage: Callable[..., None], mapped: None, load: Load, query: Query, instance: dg.DagsterInstance
) -> None:
    store(Warehouse(), [Mapping("customer", "+7 (999) 777-22-11", 51), Mapping("customer", "8 999 777 22 11", 52)])
    stage(phone="9997772211")
    result = load()
    reason = "the customer's phone is mapped to several customers"
    assert failed_checks(result) == {"partner_orders_mapped": f"8-10-accepted, line 1: {reason}"}
    assert query("SELECT count(*) FROM mart.f_sales") == [(0,)]
    assert [(row["reason"], row["phone"]) for row in waiting(Warehouse())] == [(reason, "79997772211")] * 2
    assert shared_phones(Warehouse()) == [{"phone": "79997772211", "customers": [51, 52]}]
    # The next mapping file decides, in any spelling.
    assert store(Warehouse(), [Mapping("customer", "79997772211", 52)]) == 1
    assert shared_phones(Warehouse()) == []
    assert _requested_days(instance) == [DAY]
    assert failed_checks(load()) == {}
    assert query("SELECT DISTINCT customer_id FROM mart.f_sales") == [(52,)]


def test_two_customers_with_the_same_spelling_of_a_phone_are_reported(warehouse_url: str) -> None:
    store(Warehouse(), [Mapping("customer", "79997772211", 51), Mapping("customer", "79997772211", 52)])
    assert shared_phones(Warehouse()) == [{"phone": "79997772211", "customers": [51, 52]}]


def test_lines_waiting_for_a_customer_show_the_phone_that_was_looked_up(
    stage: Callable[..., None], load: Load, query: Query
) -> None:
    store(Warehouse(), [mapping for mapping in MAPPINGS if mapping.kind != "pharmacy"])
    lines = [{"line_no": 1, "their_id": "58", "price": "10", "count": 1}]
    for number, phone in enumerate(("8 (999) 777-22-11", "8 (999) 777-22-12", "call me"), start=1):
        stage(number, phone=phone, lines=lines)
    load()
    assert [row["phone"] for row in waiting(Warehouse())] == [None, "79997772212", "call me"]


# --- checks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("corruption", "check"),
    [
        ("DELETE FROM staging.partner_order_event WHERE order_id = 2", "outbox_staged"),
        ("DELETE FROM orders.outbox WHERE order_id = 2", "outbox_staged"),
    ],
)
def test_staged_events_must_equal_those_of_the_outbox(
    stage: Callable[..., None], mapped: None, load: Load, query: Query, corruption: str, check: str
) -> None:
    stage(1)
    stage(2)
    query(corruption)
    assert set(failed_checks(load())) == {check}


def test_events_still_in_transit_fail_no_check(
    stage: Callable[..., None], mapped: None, load: Load, query: Query
) -> None:
    stage(1)
    query("DELETE FROM staging.partner_order_event")
    query("UPDATE orders.outbox SET created_at = now()")
    assert failed_checks(load()) == {}


@pytest.mark.parametrize(
    ("corruption", "check"),
    [
        ("UPDATE mart.f_sales SET amount = amount + 1 WHERE status = 'shipped'", "equal_to_order_lines"),
        ("DELETE FROM mart.f_sales WHERE status = 'refunded'", "equal_to_order_lines"),
        (
            "INSERT INTO mart.f_sales VALUES (9999, 20240620, 1, 1, 1, 1, 1, 'shipped', 'partner_orders')",
            "equal_to_order_lines",
        ),
        ("UPDATE mart.f_sales SET amount = -1000 WHERE status = 'refunded'", "refunded_within_shipped"),
    ],
)
def test_checks_detect_damage_in_the_mart(
    stage: Callable[..., None], mapped: None, load: Load, query: Query, corruption: str, check: str
) -> None:
    stage()
    stage(kind="cancelled", at="2024-06-20T12:00:00Z")
    assert failed_checks(load()) == {}
    query(corruption)
    days = [dt.date(2024, 6, 20)]
    assert check in {result.check_name for result in evaluate(Warehouse(), order_checks(), days) if not result.passed}


# --- the sensor ---------------------------------------------------------------------------------------------------


def _requested_days(instance: dg.DagsterInstance) -> list[str]:
    """Return the days that a tick of the sensor requests."""
    return [request.partition_key or "" for request in _requests(instance)]


def _requests(instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    context = dg.build_sensor_context(
        instance=instance, resources={"warehouse": Warehouse()}, definitions=definitions()
    )
    tick_result = new_order_events(context)
    if isinstance(tick_result, dg.SkipReason):
        return []
    assert isinstance(tick_result, dg.SensorResult)
    return list(tick_result.run_requests or ())


def test_the_sensor_requests_days_with_new_events_until_they_are_loaded(
    stage: Callable[..., None], mapped: None, load: Load, query: Query, instance: dg.DagsterInstance
) -> None:
    assert _requested_days(instance) == []
    stage(1)
    stage(2, at="2024-06-25T00:00:00Z")
    assert _requested_days(instance) == [DAY, "2024-06-25"]
    assert load().success
    assert _requested_days(instance) == ["2024-06-25"]
    assert load("2024-06-25").success
    assert _requested_days(instance) == []


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE])
def test_hundreds_of_runs_of_one_day_block_no_other_day(
    stage: Callable[..., None], mapped: None, instance: dg.DagsterInstance, status: dg.DagsterRunStatus
) -> None:
    stage(1)
    (first,) = _requests(instance)
    record_runs(instance, [status] * 300, tags=dict(first.tags), job="load_partner_orders")
    stage(2, at="2024-06-25T00:00:00Z")
    waits = status is dg.DagsterRunStatus.FAILURE
    assert _requested_days(instance) == ([] if waits else [DAY]) + ["2024-06-25"]


def test_a_day_whose_runs_cannot_be_queried_blocks_no_other(
    stage: Callable[..., None], mapped: None, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, day in enumerate((20, 21, 22), start=1):
        stage(number, at=f"2024-06-{day}T00:00:00Z")
    records = dg.DagsterInstance.get_run_records

    def poisoned(self: dg.DagsterInstance, filters: dg.RunsFilter, *args: Any, **options: Any) -> Any:
        if any("2024-06-21" in str(tag) for tag in (filters.tags or {}).values()):
            raise OverflowError("date value out of range")
        return records(self, filters, *args, **options)

    monkeypatch.setattr(dg.DagsterInstance, "get_run_records", poisoned)
    assert _requested_days(instance) == [DAY, "2024-06-22"]


def test_a_sale_staged_after_its_cancel_requests_both_days(
    stage: Callable[..., None], mapped: None, load: Load, query: Query, instance: dg.DagsterInstance
) -> None:
    stage(kind="cancelled", at="2024-06-25T00:00:00Z")
    assert load("2024-06-25").success
    assert query("SELECT count(*) FROM mart.f_sales") == [(0,)]
    stage()
    assert _requested_days(instance) == [DAY, "2024-06-25"]
    for day in (DAY, "2024-06-25"):
        assert load(day).success
    assert query("SELECT sum(amount), count(*) FROM mart.f_sales") == [(Decimal(0), 4)]


def test_a_load_reports_the_dimensions_that_it_fills(
    stage: Callable[..., None], mapped: None, load: Load, instance: dg.DagsterInstance
) -> None:
    stage()
    assert load().success
    for table in ("d_calendar", "d_city", "d_customer", "d_item"):
        event = instance.get_latest_materialization_event(dimension_key(table))
        assert event is not None
        assert event.asset_materialization is not None
        assert event.asset_materialization.metadata["days loaded"].value == DAY


def test_days_outside_the_calendar_are_not_requested(
    stage: Callable[..., None], mapped: None, instance: dg.DagsterInstance, today: dt.date
) -> None:
    tomorrow = today + dt.timedelta(days=1)
    stage(1, at="2019-12-31T12:00:00Z")
    stage(2, at=f"{tomorrow}T00:00:00Z")
    assert _requested_days(instance) == []


def test_today_is_a_partition(
    stage: Callable[..., None], mapped: None, instance: dg.DagsterInstance, today: dt.date
) -> None:
    stage(1, at=dt.datetime.now(dt.UTC).isoformat())
    assert _requested_days(instance) == [today.isoformat()]


def test_a_load_also_locks_the_day_from_which_it_moves_lines(
    stage: Callable[..., None], mapped: None, query: Query, warehouse_url: str
) -> None:
    """In another time zone, an evening order belongs to the next day; its former day may be loading concurrently."""

    def load_in(timezone: str, day: str) -> LoadedOrders:
        return load_order_days(
            Warehouse(), [dt.date.fromisoformat(day)], "orders", timezone=timezone, sale_on="created"
        )

    stage(at="2024-06-20T20:00:00Z")
    load_in("UTC", DAY)
    with ThreadPoolExecutor(1) as pool:
        with Warehouse().writing_days("other", [20240620], DayLock.PARTNER_ORDERS):
            moved = pool.submit(load_in, "Asia/Vladivostok", "2024-06-21")
            until(lambda: waiting_for_locks(warehouse_url) == ["orders locks of order days 20240620..20240621"])
            assert query(ROWS) == SHIPPED
        assert moved.result(60).lock_wait_seconds > 0
    assert query(ROWS) == [(20240621, *row[1:]) for row in SHIPPED]


def test_lines_that_a_concurrent_load_moved_to_another_day_are_moved_back(
    stage: Callable[..., None], mapped: None, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a restart with another SALES_TIMEZONE, neither load sees the other's lines before it writes its own."""
    stage(at="2024-06-20T20:00:00Z")
    run = Transaction.run
    transactions_begun: list[bool] = []

    def load_in(timezone: str, day: str) -> LoadedOrders:
        return load_order_days(
            Warehouse(), [dt.date.fromisoformat(day)], "orders", timezone=timezone, sale_on="created"
        )

    def wait_for_other_load(transaction: Transaction, file: str, name: str, **parameters: object) -> int:
        if not transactions_begun and (file, name) == ("staging/partner_order_line", "fill_days"):
            transactions_begun.append(True)
            load_in("Asia/Vladivostok", "2024-06-21")
        return run(transaction, file, name, **parameters)

    monkeypatch.setattr(Transaction, "run", wait_for_other_load)
    load_in("UTC", "2024-06-20")
    assert query(ROWS) == SHIPPED
    assert query("SELECT DISTINCT date_id FROM staging.partner_order_line") == [(20240620,)]
