"""A soak test of the sensor with a simulated clock: re-issued files, faults, a wrong clock, housekeeping.

Dagster takes timestamps from the system clock, so `age` makes the records in its storage older.
"""

import datetime as dt
import os
import pickle
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import dagster as dg

from sales_assets.defs.automation import new_increments, run_requests
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.resources.report_api import ReportApi
from sales_assets.simulators.report_api.faults import Faults
from sales_assets_tests.automation.test_housekeeping import age, rows
from sales_assets_tests.builders import Order, job, order_file
from sales_assets_tests.fixtures import F_SALES, RAW_ORDERS, Shop
from sales_assets_tests.reference_model import Delivered, mart

FIRST = dt.date(2021, 1, 1)

_HOUSEKEEPING_DAYS = 10
_KEPT_DAYS = 30  # days that housekeeping doesn't touch
# Event rows per day: the latest materializations of its eleven assets and the events of its runs. Without housekeeping,
# a day has a hundred rows.
_ROWS_OF_AN_OLD_DAY = 27
_MEMORY_GROWTH = 100 * 2**20
_SESSIONS = 5


@dataclass
class Soak:
    """Simulated days of a shop, with housekeeping if `storage`, the URL of Dagster's PostgreSQL database, is set."""

    shop: Shop
    storage: str | None = None
    rng: random.Random = field(default_factory=lambda: random.Random(11))
    deliveries: dict[dt.date, Delivered] = field(default_factory=dict)
    days: list[dt.date] = field(default_factory=list)
    run_keys: Counter[str] = field(default_factory=Counter)
    loaded: Counter[str] = field(default_factory=Counter)
    faults: int = 0
    memory: list[int] = field(default_factory=list)

    def run(self, number: int, seconds: float, memory: Path | None = None) -> None:
        """Simulate days up to a number or a time limit, then let the sensor load what is left.

        memory: a file with the state after each day, for a soak test that is continued in another process with the same
        databases and reports.
        """
        if memory is not None and memory.exists():
            vars(self).update(pickle.loads(memory.read_bytes()))
        else:
            self.shop.reports.report([Order("before", day=(FIRST - dt.timedelta(days=1)).isoformat())])
            self.shop.fetch_report()
        deadline = time.monotonic() + seconds
        # A failed day is requested again at the next tick.
        with (
            mock.patch.object(run_requests, "LONGEST_PAUSE", dt.timedelta(0)),
            mock.patch.dict(os.environ, {"DAGSTER_EVENT_BATCH_SIZE": "100"}),  # as deployed
        ):
            while len(self.days) < number and time.monotonic() < deadline:
                self._pass_a_day()
                if memory is not None:
                    self._remember(memory)
            for _ in range(3):
                self._tick(_noon_after(self.days[-1]))
        self._keep_house(_KEPT_DAYS + 1)

    def check_result(self) -> None:
        """Check that the mart equals the model, each day is loaded once, and storage and memory are bounded."""
        found = self.shop.query(
            "SELECT f.date_id, l.uniq_id, item_id, customer_id, city_id, quantity, amount, f.status"
            " FROM mart.f_sales AS f JOIN mart.f_sales_lines AS l USING (id) ORDER BY 1, 2"
        )
        assert sorted(found) == mart(list(self.deliveries.values()), self.days)
        assert {row[0] for row in found} == {day.year * 10_000 + day.month * 100 + day.day for day in self.days}
        assert self.faults or len(self.days) < 8, "a soak without faults shows little"
        # Requested once: no run key twice, no change loaded twice.
        assert {key for key, times in self.run_keys.items() if times > 1} == set()
        assert {change for change, times in self.loaded.items() if times > 1} == set()
        # Records that housekeeping must keep.
        days = {day.isoformat() for day in self.days}
        for key in (F_SALES, RAW_ORDERS):
            assert self.shop.materialized(key) == days
        requested_changes = {
            run.tags[run_requests.CHANGE_KEY_TAG]
            for run in self.shop.instance.get_runs()
            if run_requests.CHANGE_KEY_TAG in run.tags
        }
        assert set(self.loaded) <= requested_changes
        sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        assert self.shop.query(sessions)[0][0] <= _SESSIONS
        events = 0
        if self.storage:
            ((events,),) = rows(self.storage, "SELECT count(*) FROM event_logs")
            assert events / len(self.days) < _ROWS_OF_AN_OLD_DAY
            assert rows(self.storage, sessions)[0][0] <= _SESSIONS
        third = len(self.memory) // 3
        if third > 50:  # until then, caches grow
            assert self.memory[-1] < self.memory[third] + _MEMORY_GROWTH
        print(f"{len(self.days)} days, {events} events kept, {self.memory[-1] >> 20} MB")  # noqa: T201  the figures

    def _remember(self, memory: Path) -> None:
        done = {name: value for name, value in vars(self).items() if name not in ("shop", "storage")}
        written = memory.with_suffix(".new")
        written.write_bytes(pickle.dumps(done))
        written.replace(memory)

    def _pass_a_day(self) -> None:
        rng, number = self.rng, len(self.days)
        day = FIRST + dt.timedelta(days=number)
        self.days.append(day)
        reissued = [day - dt.timedelta(days=rng.randint(1, 6))] if number > 6 and rng.random() < 0.1 else []
        for issued in (day, *reissued):
            lines = list(_orders(rng, issued, number))
            self.shop.reports.increment(issued.isoformat(), lines)
            self.deliveries[issued] = Delivered("increment", issued, issued, order_file(lines, statuses=True))
        if number % 20 == 7:
            self.faults += 1
            self.shop.fault(Faults(cut=1))
            self._tick(_noon_after(day))
            self.shop.fault(None)
        if number % 20 == 12:  # a clock set back, and one set forward
            for wrong in (-1, 1):
                self._tick(_noon_after(day) + dt.timedelta(days=wrong))
        self._tick(_noon_after(day))
        if number % _HOUSEKEEPING_DAYS == 0:
            self._keep_house(_HOUSEKEEPING_DAYS)
        self.memory.append(_resident())

    def _keep_house(self, days: int) -> None:
        """Make all of Dagster's records older by a number of days, and run housekeeping."""
        if self.storage:
            age(self.storage, days)
            assert job("housekeeping").execute_in_process(instance=self.shop.instance).success

    def _tick(self, now: dt.datetime) -> None:
        """Run one tick of the sensor at a simulated time, and the runs it requests."""
        with dg.partition_loading_context(effective_dt=now):
            found = new_increments.new_increments(
                dg.build_sensor_context(instance=self.shop.instance), warehouse=Warehouse(), report_api=ReportApi()
            )
            for request in getattr(found, "run_requests", None) or []:
                self.run_keys[request.run_key] += 1
                run = job("load_days").execute_in_process(
                    instance=self.shop.instance,
                    partition_key=request.partition_key,
                    tags={**request.tags, "dagster/run_key": request.run_key},
                    raise_on_error=False,
                )
                self.loaded[request.tags[run_requests.CHANGE_KEY_TAG]] += run.success


def _noon_after(day: dt.date) -> dt.datetime:
    return dt.datetime(day.year, day.month, day.day, 12, tzinfo=dt.UTC) + dt.timedelta(days=1)


def _orders(rng: random.Random, day: dt.date, edition: int) -> Iterator[Order | str]:
    for n in range(rng.randint(1, 5)):
        order = Order(
            f"{day}-{edition}-{n}",
            day=day.isoformat(),
            amount=str(rng.randint(0, 900)),
            status=rng.choice(["", "shipped", "refunded", "Refunded"]),
        )
        yield order
        if n == 0:
            yield order
    if rng.random() < 0.1:
        yield "no line at all"


def _resident() -> int:
    """Return the resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
