"""``mart.f_customer_retention``: new, returning and refunded customers of a week, and the sums that must agree.

The reference model in this module follows the text of docs/guides/retention-and-audiences.md in Python, and shares
nothing with the SQL statements.
"""

import datetime as dt
import itertools
import random
from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import dagster as dg
import psycopg
import pytest

from sales_assets.dagster_internals import range_tags
from sales_assets.defs.automation.changed_weeks import changed_weeks
from sales_assets.defs.checking import evaluate
from sales_assets.defs.mart.f_customer_retention import F_CUSTOMER_RETENTION, retention_checks
from sales_assets.partitions import WEEKS
from sales_assets.pipeline.sums import NotReconciledError
from sales_assets.postgres.warehouse import Transaction, Warehouse
from sales_assets_tests.builders import Order, job
from sales_assets_tests.fixtures import F_SALES, Shop

Query = Callable[..., list[tuple[Any, ...]]]
Make = Callable[..., dg.ExecuteInProcessResult]

WEEK = "2024-09-30"
ROWS = (
    "SELECT period_id, item_id, new_customers_count, returning_customers_count, refunded_customer_count, "
    "new_customers_revenue::text, returning_customers_revenue::text, customers_refunded, refunded_amount::text "
    "FROM mart.f_customer_retention ORDER BY period_id, item_id"
)


@pytest.fixture
def make(instance: dg.DagsterInstance, warehouse_url: str) -> Make:
    """Return a function that runs the job for a range of weeks as one run."""

    def run(first: str = WEEK, last: str | None = None, raise_on_error: bool = True) -> dg.ExecuteInProcessResult:
        tags = range_tags(first, last or first)
        job_result = job("make_customer_retention")
        return job_result.execute_in_process(instance=instance, tags=tags, raise_on_error=raise_on_error)

    return run


@pytest.fixture
def insert_sale(query: Query) -> Callable[..., None]:
    """Return a function that inserts a sale into the mart; a negative amount is a refund."""

    def one(date_id: int, customer: int, item: int, amount: float | None, source: str = "report_api") -> None:
        status = "refunded" if amount is not None and amount < 0 else "shipped"
        query(
            "INSERT INTO mart.f_sales (date_id, item_id, customer_id, city_id, quantity, amount, status, source) "
            "VALUES (%s, %s, %s, 1, 1, %s, %s, %s)",
            date_id, item, customer, amount, status, source,
        )  # fmt: skip

    return one


def failed_checks(result: dg.ExecuteInProcessResult) -> set[str]:
    return {check.check_name for check in result.get_asset_check_evaluations() if not check.passed}


def expected_rows(query: Query) -> list[tuple[Any, ...]]:
    """Return the rows of the mart according to the guide."""
    sales = query("SELECT date_id, customer_id, item_id, status, coalesce(amount, 0) FROM mart.f_sales")
    lines: dict[tuple[int, int], int] = defaultdict(int)
    by_item: dict[tuple[int, int], list[tuple[int, str, Decimal]]] = defaultdict(list)
    for number, customer, item, status, amount in sales:
        year, week, _ = dt.date(number // 10000, number // 100 % 100, number % 100).isocalendar()
        period = year * 100 + week
        lines[period, customer] += status == "shipped"
        by_item[period, item].append((customer, status, amount))
    rows = []
    for (period, item), sold in sorted(by_item.items()):
        shipped = [(lines[period, customer] == 1, customer, amount) for customer, status, amount in sold
                   if status == "shipped"]  # fmt: skip
        refunded = [(customer, amount) for customer, status, amount in sold if status == "refunded"]
        money = [
            sum((amount for is_new, _, amount in shipped if is_new), Decimal(0)),
            sum((amount for is_new, _, amount in shipped if not is_new), Decimal(0)),
            sum((amount for _, amount in refunded), Decimal(0)),
        ]
        new, returning, back = (f"{amount:.2f}" for amount in money)
        rows.append((
            period, item,
            len({customer for is_new, customer, _ in shipped if is_new}),
            len({customer for is_new, customer, _ in shipped if not is_new}),
            len({customer for customer, _ in refunded}),
            new, returning, len(refunded), back,
        ))  # fmt: skip
    return rows


# --- classification of customers ---------------------------------------------------------------------------------


def test_customers_are_new_returning_or_refunded_by_the_lines_of_the_week(
    insert_sale: Callable[..., None], make: Make, query: Query
) -> None:
    insert_sale(20240930, 1, 7, 100)
    insert_sale(20241001, 2, 7, 20)
    insert_sale(20241006, 2, 7, 30)
    insert_sale(20241002, 3, 7, 5)
    insert_sale(20241002, 3, 8, 6)
    insert_sale(20241003, 1, 7, -100)
    insert_sale(20241004, 4, 8, -40)
    insert_sale(20241004, 4, 8, -2)
    assert failed_checks(make()) == set()
    assert query(ROWS) == [
        # Customer 1 is new and refunded; 2 has two lines; 3 has two lines, one of them for this item.
        (202440, 7, 1, 2, 1, "100.00", "55.00", 1, "-100.00"),
        # Customer 3 is returning for every item; 4 bought in another week.
        (202440, 8, 0, 1, 1, "0.00", "6.00", 2, "-42.00"),
    ]


def test_a_week_of_refunds_only(insert_sale: Callable[..., None], make: Make, query: Query) -> None:
    insert_sale(20241001, 1, 7, -10)
    assert failed_checks(make()) == set()
    assert query(ROWS) == [(202440, 7, 0, 0, 1, "0.00", "0.00", 1, "-10.00")]


def test_lines_of_all_sources_count_together(insert_sale: Callable[..., None], make: Make, query: Query) -> None:
    insert_sale(20240930, 1, 7, 1, "legacy")
    insert_sale(20241001, 1, 7, 2, "partner_orders")
    insert_sale(20241002, 1, 7, 4)
    insert_sale(20241002, 2, 7, None, "legacy")
    assert failed_checks(make()) == set()
    assert query(ROWS) == [(202440, 7, 1, 1, 0, "0.00", "7.00", 0, "0.00")]


@pytest.mark.parametrize(
    ("day", "monday", "period"),
    [
        (20241229, "2024-12-23", 202452),
        (20241230, "2024-12-30", 202501),
        (20250105, "2024-12-30", 202501),
        (20210103, "2020-12-28", 202053),
        (20210104, "2021-01-04", 202101),
        (20240229, "2024-02-26", 202409),
    ],
)
def test_weeks_around_new_year_are_iso_weeks(
    insert_sale: Callable[..., None], make: Make, query: Query, day: int, monday: str, period: int
) -> None:
    insert_sale(day, 1, 7, 10)
    assert failed_checks(make(monday)) == set()
    assert [row[0] for row in query(ROWS)] == [period]
    assert query("SELECT mart.iso_week(%s)", day) == [(period,)]


def test_a_week_across_new_year_is_one_period(insert_sale: Callable[..., None], make: Make, query: Query) -> None:
    insert_sale(20241231, 1, 7, 10)
    insert_sale(20250101, 1, 7, 10)
    make("2024-12-23", "2025-01-06")
    assert query(ROWS) == [(202501, 7, 0, 1, 0, "0.00", "20.00", 0, "0.00")]


def test_numbers_that_are_not_dates_have_no_week(query: Query) -> None:
    for number in (20240231, 20240001, 20241301, 20240100, 0, -5, 99999999, 2**31 - 1, -(2**31)):
        assert query("SELECT mart.iso_week(%s)", number) == [(None,)], number
    wrong = query(
        "SELECT day FROM generate_series('1999-12-20'::date, '2041-01-10', '1 day') AS day "
        "WHERE mart.iso_week(to_char(day, 'YYYYMMDD')::int) IS DISTINCT FROM to_char(day, 'IYYYIW')::int"
    )
    assert wrong == []


# --- weeks ------------------------------------------------------------------------------------------------------


def test_random_sales_agree_with_the_reference_model_and_a_range_equals_its_weeks(
    insert_sale: Callable[..., None], make: Make, query: Query
) -> None:
    rng = random.Random(5)
    start = dt.date(2024, 12, 9)
    for _ in range(300):
        day = start + dt.timedelta(days=rng.randrange(42))
        insert_sale(int(f"{day:%Y%m%d}"), rng.randrange(25), rng.randrange(4), rng.choice([10, 2.5, 0, -1.25, None]))
    assert failed_checks(make("2024-12-09", "2025-01-13")) == set()
    rows = query(ROWS)
    assert len(rows) == 24
    assert rows == expected_rows(query)
    query("DELETE FROM mart.f_customer_retention")
    for number in (3, 0, 5, 1, 4, 2, 3):
        make((start + dt.timedelta(weeks=number)).isoformat())
    assert query(ROWS) == rows


def test_a_smaller_week_loses_rows_and_other_weeks_are_unchanged(
    insert_sale: Callable[..., None], make: Make, query: Query
) -> None:
    for day, item in itertools.product((20240929, 20240930, 20241006, 20241007), (7, 8)):
        insert_sale(day, day, item, 10)
    make("2024-09-23", "2024-10-07")
    before = query(ROWS)
    assert len(before) == 6
    query("DELETE FROM mart.f_sales WHERE date_id = 20241006 OR date_id = 20240930 AND item_id = 8")
    make()
    assert query(ROWS) == [
        *before[:2],
        (202440, 7, 1, 0, 0, "10.00", "0.00", 0, "0.00"),
        *before[4:],
    ]
    query("DELETE FROM mart.f_sales")
    assert failed_checks(make("2024-09-23", "2024-10-07")) == set()
    assert query(ROWS) == []


def test_the_current_week_is_a_partition(
    insert_sale: Callable[..., None], make: Make, query: Query, today: dt.date
) -> None:
    monday = today - dt.timedelta(days=today.weekday())
    assert WEEKS.get_last_partition_key() == monday.isoformat()
    assert WEEKS.get_first_partition_key() == "2019-12-30"
    insert_sale(int(f"{today:%Y%m%d}"), 1, 7, 10)
    make(monday.isoformat())
    assert len(query(ROWS)) == 1


def test_a_week_whose_sums_do_not_agree_is_not_committed(
    insert_sale: Callable[..., None], make: Make, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert_sale(20240930, 1, 7, 100)
    make()
    before = query(ROWS)
    insert_sale(20240930, 2, 7, 100)
    query(
        "CREATE FUNCTION mart.lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "NEW.new_customers_revenue := NEW.new_customers_revenue - 0.01; RETURN NEW; END $$; "
        "CREATE TRIGGER lose BEFORE INSERT ON mart.f_customer_retention FOR EACH ROW EXECUTE FUNCTION mart.lose()"
    )
    with pytest.raises(NotReconciledError, match=r"week 202440: 199\.99 of new and 0\.00 of returning"):
        make()
    assert query(ROWS) == before


def test_sales_loaded_during_a_run_do_not_break_it(
    insert_sale: Callable[..., None], make: Make, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reconciliation and the checks see the same snapshot of sales from which the week was filled."""
    insert_sale(20240930, 1, 7, 100)
    rows = Transaction.rows

    def load_first(self: Any, file: str, name: str, /, **parameters: object) -> list[dict[str, Any]]:
        if file == "checks/revenue_of_the_week":
            insert_sale(20240930, 2, 7, 50)
        return rows(self, file, name, **parameters)

    monkeypatch.setattr(Transaction, "rows", load_first)
    assert failed_checks(make()) == set()
    assert query("SELECT count(*) > 1 FROM mart.f_sales") == [(True,)]
    assert query(ROWS) == [(202440, 7, 1, 0, 0, "100.00", "0.00", 0, "0.00")]


@pytest.mark.usefixtures("no_waiting_for_locks")
def test_two_runs_of_one_week_are_serialized(warehouse_url: str, make: Make, query: Query) -> None:
    with psycopg.connect(warehouse_url) as other:
        other.execute("LOCK TABLE mart.f_customer_retention IN ROW EXCLUSIVE MODE")  # the lock that a writer holds
        other.execute("SELECT * FROM mart.f_customer_retention")
        assert query("SELECT count(*) FROM mart.f_customer_retention") == [(0,)], "readers are not held up"
        with pytest.raises(psycopg.errors.LockNotAvailable):
            make()


# --- checks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("corruption", "check", "days_named"),
    [
        (
            "UPDATE mart.f_customer_retention SET new_customers_revenue = new_customers_revenue + 0.01",
            "revenue_of_the_week",
            ["20240930"],
        ),
        (
            "UPDATE mart.f_customer_retention SET refunded_amount = refunded_amount - 1",
            "revenue_of_the_week",
            ["20240930"],
        ),
        ("UPDATE mart.f_sales SET amount = amount + 1 WHERE date_id = 20240930", "revenue_of_the_week", ["20240930"]),
        ("DELETE FROM mart.f_sales", "revenue_of_the_week", ["20240930"]),
        ("DELETE FROM mart.f_customer_retention", "sales_in_weeks", ["20240930", "20241006"]),
        ("INSERT INTO mart.f_sales VALUES (99, 20241001, 9, 1, 1, 1, 0)", "sales_in_weeks", ["20241001"]),
        ("INSERT INTO mart.f_sales VALUES (99, 20240931, 7, 1, 1, 1, 0)", "sales_in_weeks", ["20240931"]),
        ("INSERT INTO mart.f_sales VALUES (99, 20191229, 7, 1, 1, 1, 0)", "sales_before_first_week", ["20191229"]),
    ],
)
def test_checks_see_harm(
    insert_sale: Callable[..., None], make: Make, query: Query, corruption: str, check: str, days_named: list[str]
) -> None:
    insert_sale(20240930, 1, 7, 100)
    insert_sale(20241006, 1, 7, -50)
    assert failed_checks(make()) == set()
    query(corruption)
    for days in ([dt.date(2024, 9, 30), dt.date(2024, 10, 6)], []):
        results = {result.check_name: result for result in evaluate(Warehouse(), retention_checks(), days)}
        assert [name for name, result in results.items() if not result.passed] == [check]
        table: Any = results[check].metadata["first failing days"]
        assert [record.data["day"] for record in table.records] == days_named


def test_every_check_has_a_case_above() -> None:
    marks: Any = test_checks_see_harm.pytestmark
    assert {check for _, check, _ in marks[0].args[1]} == {check.name for check in retention_checks()}


# --- the sensor -------------------------------------------------------------------------------------------------


def sensor_requests(instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    tick_result = changed_weeks(dg.build_sensor_context(instance=instance))
    return list(tick_result.run_requests or ()) if isinstance(tick_result, dg.SensorResult) else []


def weeks_of(requests: list[dg.RunRequest]) -> list[tuple[str, str]]:
    ranges = [request.partition_key_range for request in requests]
    return [(weeks.start, weeks.end) for weeks in ranges if weeks is not None]


def run(instance: dg.DagsterInstance, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
    """Execute a run request, like the daemon."""
    return job("make_customer_retention").execute_in_process(
        instance=instance, tags=dict(request.tags), raise_on_error=False
    )


def test_the_sensor_requests_weeks_of_loaded_days_until_they_are_computed(shop: Shop, query: Query) -> None:
    for day in ("2024-09-29", "2024-09-30", "2024-10-01", "2024-10-14"):
        shop.reports.increment(day, [Order(f"u{day}", day=day)])
    assert sensor_requests(shop.instance) == []
    shop.load("2024-09-29", "2024-10-01")
    shop.load("2024-10-14")
    requests = sensor_requests(shop.instance)
    assert weeks_of(requests) == [("2024-09-23", "2024-09-30"), ("2024-10-14", "2024-10-14")]
    for request in requests:
        assert failed_checks(run(shop.instance, request)) == set()
    assert [row[0] for row in query(ROWS)] == [202439, 202440, 202442]
    assert sensor_requests(shop.instance) == []
    shop.load("2024-10-01")
    again = sensor_requests(shop.instance)
    assert weeks_of(again) == [("2024-09-30", "2024-09-30")]
    assert again[0].run_key not in {request.run_key for request in requests}


def test_the_sensor_sees_partner_orders(instance: dg.DagsterInstance, warehouse_url: str) -> None:
    assert job("load_partner_orders").execute_in_process(instance=instance, partition_key="2024-12-31").success
    assert weeks_of(sensor_requests(instance)) == [("2024-12-30", "2024-12-30")]


def record_materialization(instance: dg.DagsterInstance, day: str) -> None:
    """Record a materialization of a day's sales, without loading it."""
    instance.report_runless_asset_event(dg.AssetMaterialization(F_SALES, partition=day))


def test_a_day_loaded_while_its_week_is_computed_is_requested_again(
    instance: dg.DagsterInstance, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_materialization(instance, WEEK)
    run_statement = Transaction.run

    def record_meanwhile(self: Any, file: str, name: str, /, **parameters: object) -> int:
        if name == "fill_weeks":
            record_materialization(instance, WEEK)
        return run_statement(self, file, name, **parameters)

    monkeypatch.setattr(Transaction, "run", record_meanwhile)
    make()
    monkeypatch.undo()
    assert weeks_of(sensor_requests(instance)) == [(WEEK, WEEK)]


def test_no_week_is_requested_during_a_run(instance: dg.DagsterInstance, warehouse_url: str) -> None:
    record_materialization(instance, WEEK)
    instance.create_run_for_job(job("make_customer_retention"), status=dg.DagsterRunStatus.STARTED)
    assert sensor_requests(instance) == []


def test_a_failed_run_is_requested_again_after_a_pause(
    instance: dg.DagsterInstance, warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_materialization(instance, WEEK)
    (first,) = sensor_requests(instance)
    instance.create_run_for_job(
        job("make_customer_retention"), tags=dict(first.tags), status=dg.DagsterRunStatus.FAILURE
    )
    assert sensor_requests(instance) == [], "not at once"
    monkeypatch.setattr("sales_assets.defs.automation.run_requests.LONGEST_PAUSE", dt.timedelta(0))
    (again,) = sensor_requests(instance)
    assert again.run_key != first.run_key


def test_days_before_the_calendar_are_ignored(instance: dg.DagsterInstance, warehouse_url: str) -> None:
    record_materialization(instance, "2018-01-01")
    assert sensor_requests(instance) == []


def test_materializations_of_weeks_contain_their_numbers(insert_sale: Callable[..., None], make: Make) -> None:
    insert_sale(20240930, 1, 7, 100)
    result = make("2024-09-23", "2024-09-30")
    metadata = {event.partition: event.step_materialization_data.materialization.metadata
                for event in result.get_asset_materialization_events()
                if event.asset_key == F_CUSTOMER_RETENTION}  # fmt: skip
    assert metadata["2024-09-30"]["revenue of new customers"].value == 100.0
    assert metadata["2024-09-23"]["items"].value == 0


@pytest.mark.parametrize("partition", ["by hand", "2024-13-01", "9999-12-31"])
def test_a_partition_that_is_not_a_day_blocks_no_week(
    instance: dg.DagsterInstance, warehouse_url: str, partition: str
) -> None:
    record_materialization(instance, partition)
    record_materialization(instance, WEEK)
    assert weeks_of(sensor_requests(instance)) == [(WEEK, WEEK)]
