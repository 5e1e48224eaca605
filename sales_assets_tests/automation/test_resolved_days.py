"""The sensor `resolved_days`: days of resolved rows are requested once, until a load has marked them."""

import datetime as dt

import dagster as dg
import pytest

from sales_assets.defs.automation.jobs import load_resolved_days
from sales_assets.defs.automation.resolved_days import resolved_days
from sales_assets.postgres.resolutions import CORRECT, DISCARD, Resolution, resolve
from sales_assets.postgres.warehouse import Warehouse
from sales_assets_tests.automation.runs import record_runs
from sales_assets_tests.builders import Order, job
from sales_assets_tests.fixtures import Shop

DAYS = ("2024-10-01", "2024-10-02")
CORRECTED = Order("b", day=DAYS[0], amount="10").line(2, statuses=True)


@pytest.fixture
def numbers(engine_shop: Shop) -> list[int]:
    """Load two days, each with a valid and a rejected row; return the numbers of the rejected rows."""
    for day in DAYS:
        engine_shop.reports.increment(day, [Order("a", day=day), Order("b", day=day, amount="ten")])
    engine_shop.load(*DAYS)
    return [row[0] for row in engine_shop.query("SELECT quarantine_id FROM staging.quarantine ORDER BY date_id")]


def tick(instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    result = resolved_days(dg.build_sensor_context(instance=instance, resources={"warehouse": Warehouse()}))
    assert isinstance(result, dg.SensorResult | dg.SkipReason)
    return list(result.run_requests or []) if isinstance(result, dg.SensorResult) else []


def store(*resolutions: Resolution) -> None:
    with Warehouse().transaction("test") as transaction:
        resolve(transaction, resolutions, by="anna", via="page")


def test_days_of_resolved_rows_are_requested_until_they_are_loaded(engine_shop: Shop, numbers: list[int]) -> None:
    """Each day is one run of the job without API calls; another resolution of the day is another request."""
    with dg.DagsterInstance.ephemeral() as instance:
        assert tick(instance) == []
        store(Resolution(numbers[0], CORRECT, CORRECTED), Resolution(numbers[1], DISCARD))
        first, second = tick(instance)
        assert (first.partition_key, second.partition_key) == DAYS
        assert first.job_name == load_resolved_days.name
        assert [request.run_key for request in tick(instance)] == [first.run_key, second.run_key]

        requests_before = engine_shop.api.count("/get_increment")
        run = job("load_resolved_days").execute_in_process(
            instance=instance, partition_key=first.partition_key, tags=dict(first.tags)
        )
        assert run.success
        assert engine_shop.api.count("/get_increment") == requests_before
        assert engine_shop.sales(DAYS[0]) == [("a", 200), ("b", 10)]
        assert [request.partition_key for request in tick(instance)] == [DAYS[1]]

        store(Resolution(numbers[0], DISCARD))
        again, _ = tick(instance)
        assert again.partition_key == DAYS[0]
        assert again.run_key != first.run_key


def test_a_failed_run_is_requested_again_after_a_pause(numbers: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    store(Resolution(numbers[0], DISCARD))
    with dg.DagsterInstance.ephemeral() as instance:
        (first,) = tick(instance)
        record_runs(instance, [dg.DagsterRunStatus.FAILURE], tags=first.tags, job=load_resolved_days.name)
        assert tick(instance) == []
        monkeypatch.setattr(
            "sales_assets.defs.automation.run_requests._now", lambda: dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
        )
        (repeated,) = tick(instance)
        assert repeated.partition_key == DAYS[0]
        assert repeated.run_key != first.run_key


def test_a_successful_run_that_started_too_early_is_not_requested_again_at_once(numbers: list[int]) -> None:
    store(Resolution(numbers[0], DISCARD))
    with dg.DagsterInstance.ephemeral() as instance:
        (first,) = tick(instance)
        record_runs(instance, [dg.DagsterRunStatus.SUCCESS], tags=first.tags, job=load_resolved_days.name)
        assert tick(instance) == []
