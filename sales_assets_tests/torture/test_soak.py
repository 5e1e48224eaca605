"""Years of daily increments through the real sensor with a moving clock; re-issues and faults mixed in.

The mart equals what plain Python makes of the files; every day is there once; connections and memory stay flat.
SOAK_DAYS says how many days (1095 are three years); TORTURE_SECONDS ends it early, and judges what was done by then.
"""

import datetime as dt
import os
import random
import resource
import time

import dagster as dg
import pytest
from dagster._core.test_utils import freeze_time

from sales_assets.defs.automation import sensors
from sales_assets.resources.report_api import ReportApi
from sales_assets.resources.warehouse import Warehouse
from sales_assets.services.report_api.faults import Faults
from sales_assets_tests.oracle import Delivered, mart
from sales_assets_tests.reports import Order, job, order_file
from sales_assets_tests.shop import Shop

_FIRST = dt.date(2021, 1, 1)
_DAYS = int(os.environ.get("SOAK_DAYS", "1095"))
_SECONDS = float(os.environ.get("TORTURE_SECONDS", "1500"))


def _orders(chance: random.Random, day: dt.date, edition: int) -> list[Order | str]:
    made: list[Order | str] = [
        Order(
            f"{day}-{edition}-{n}",
            day=day.isoformat(),
            amount=str(chance.randint(0, 900)),
            status=chance.choice(["", "shipped", "refunded", "Refunded"]),
        )
        for n in range(chance.randint(1, 5))
    ]
    return [*made, made[0]] + (["no line at all"] if chance.random() < 0.1 else [])


def _tick(shop: Shop, now: dt.datetime) -> None:
    """One tick of the sensor at a moment, and the runs that it asks for, each run key once."""
    with freeze_time(now):
        context = dg.build_sensor_context(instance=shop.instance)
        found = sensors.new_increments(context, warehouse=Warehouse(), report_api=ReportApi())
        for request in getattr(found, "run_requests", None) or []:
            tags = {**request.tags, "dagster/partition": request.partition_key}
            job("load_days").execute_in_process(
                instance=shop.instance, partition_key=request.partition_key, tags=tags, raise_on_error=False
            )


@pytest.mark.torture
@pytest.mark.timeout(_SECONDS + 300)
def test_years_of_days_end_in_the_mart_of_the_oracle(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensors, "_LONGEST_PAUSE", dt.timedelta(0))  # a failed day is asked for at the next tick
    monkeypatch.setenv("REPORT_API_PATIENCE", "0.3")
    chance = random.Random(11)
    shop.reports.report([Order("before", day=(_FIRST - dt.timedelta(days=1)).isoformat())])
    shop.fetch_report()
    deliveries: dict[dt.date, Delivered] = {}
    deadline, memory, done = time.monotonic() + _SECONDS, 0, 0
    for number in range(_DAYS):
        day = _FIRST + dt.timedelta(days=number)
        late = day - dt.timedelta(days=chance.randint(1, 6))
        reissued = [late] if number > 6 and chance.random() < 0.1 else []
        for issued in (day, *reissued):
            lines = _orders(chance, issued, number)
            shop.reports.increment(issued.isoformat(), lines)
            deliveries[issued] = Delivered("increment", issued, issued, order_file(lines, statuses=True))
        noon = dt.datetime(day.year, day.month, day.day, 12, tzinfo=dt.UTC) + dt.timedelta(days=1)
        if chance.random() < 0.05:
            shop.fault(Faults(cut=1))
            _tick(shop, noon)
            shop.fault(None)
        if chance.random() < 0.02:
            _tick(shop, noon - dt.timedelta(days=1))  # a clock set back
        _tick(shop, noon)
        done += 1
        if number == _DAYS // 3:
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if time.monotonic() > deadline:
            break
    for _ in range(3):
        _tick(shop, noon)
    found = shop.query(
        "SELECT f.date_id, l.uniq_id, item_id, customer_id, city_id, quantity, amount, f.status"
        " FROM mart.f_sales AS f JOIN mart.f_sales_lines AS l USING (id) ORDER BY 1, 2"
    )
    days = [_FIRST + dt.timedelta(days=n) for n in range(done)]
    assert sorted(found) == mart(list(deliveries.values()), days)
    assert {row[0] for row in found} == {day.year * 10_000 + day.month * 100 + day.day for day in days}
    ((sessions,),) = shop.query("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
    assert sessions <= 2
    if memory:
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < memory + 200 * 1024  # KiB
    print(f"{done} days")  # noqa: T201  the figure
