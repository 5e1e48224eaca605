"""Benefit of locks per day: four workers with them against four with one lock around all writes, as before 0.2."""

import statistics
from collections.abc import Iterator

import dagster as dg
import psycopg
import pytest

from sales_assets_tests.deploy.test_distributed_runs import DAYS, WORKERS, Platform, platform
from sales_assets_tests.faults.subprocess_targets import unequal_to_staging
from sales_assets_tests.services.partner_orders.fixtures import until

__all__ = ["platform"]

_ROUNDS = 3
_SECONDS = 600
_LARGEST_RATIO = 0.65
# Slows each COPY to staging and to the mart by 5 s; `serially` selects one lock, held until the commit.
_SLOW = """
    CREATE SEQUENCE slowed;
    CREATE TABLE serially AS SELECT false AS chosen;
    CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF (SELECT chosen FROM serially) THEN PERFORM pg_advisory_xact_lock(1); END IF;
        PERFORM nextval('slowed'), pg_sleep(5);
        RETURN NULL;
    END $$;
    CREATE TRIGGER slow BEFORE INSERT ON staging.user_orders_log EXECUTE FUNCTION slow();
    CREATE TRIGGER slow BEFORE INSERT ON mart.f_sales EXECUTE FUNCTION slow();
"""

pytestmark = [pytest.mark.broker, pytest.mark.torture, pytest.mark.timeout(_ROUNDS * 2 * _SECONDS)]


@pytest.fixture
def warehouse(platform: Platform) -> Iterator["psycopg.Connection[tuple[float]]"]:
    with psycopg.connect(platform.warehouse_url, autocommit=True) as connection:
        connection.execute(_SLOW)
        yield connection
        connection.execute("DROP FUNCTION slow CASCADE; DROP TABLE serially; DROP SEQUENCE slowed")


def test_four_workers_write_in_parallel(platform: Platform, warehouse: "psycopg.Connection[tuple[float]]") -> None:
    times: dict[bool, list[float]] = {True: [], False: []}
    with platform.instance() as instance:
        for number in range(_ROUNDS):
            for serially in (True, False):
                warehouse.execute("UPDATE serially SET chosen = %s", [serially])
                platform.write(300 + 2 * number + serially, DAYS)
                times[serially].append(_seconds(platform, instance))
    (slowed,) = warehouse.execute("SELECT last_value::float FROM slowed").fetchone() or (0,)
    assert slowed == _ROUNDS * 2 * WORKERS * 2, "each run writes once to staging and once to the mart"
    ratio = statistics.median(times[False]) / statistics.median(times[True])
    print(f"seconds with one lock {times[True]}, with locks per day {times[False]}, ratio {ratio:.2f}")  # noqa: T201
    assert ratio <= _LARGEST_RATIO


def _seconds(platform: Platform, instance: dg.DagsterInstance) -> float:
    """Load all days with a backfill; return the seconds from the start of the first run to the end of the last."""
    command, reader = platform.backfill(instance, DAYS)
    until(lambda: command.process.poll() is not None, seconds=_SECONDS)
    progress = reader.read()
    assert (command.process.returncode, progress.failures, progress.runs) == (0, [], WORKERS), command.log()
    assert unequal_to_staging(platform.warehouse_url) == []
    records = instance.get_run_records(dg.RunsFilter(run_ids=progress.run_ids))
    return round(max(one.end_time or 0 for one in records) - min(one.start_time or 0 for one in records), 1)
