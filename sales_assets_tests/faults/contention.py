"""Loads, partner orders and replays in several processes over the same days, and the expected mart.

The processes run the loading engine without Dagster, with which a load would take four times as long.
"""

import contextlib
import datetime as dt
import json
import logging
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg

from sales_assets_tests.builders import Order, ReportFolderBuilder, order_file
from sales_assets_tests.faults.subprocess_targets import unequal_to_staging
from sales_assets_tests.reference_model import Delivered, Row, RowKey, mart, row_keys
from sales_assets_tests.services.partner_orders.fixtures import until

FIRST, LAST = dt.date(2024, 10, 1), dt.date(2024, 10, 12)
DAYS = [FIRST + dt.timedelta(days=n) for n in range((LAST - FIRST).days + 1)]
_SECONDS = 240
_CONTEXT = multiprocessing.get_context("forkserver")
Job = Callable[["_Engine", random.Random], None]


# --- in the processes -----------------------------------------------------------------------------------------


class _Engine:
    """The loading engine with the resources and tables of the Dagster op; counts lock waits, rounds and failures."""

    def __init__(self) -> None:
        from sales_assets.defs.load_daily_sales import DERIVED_MARTS
        from sales_assets.pipeline.load import Pipeline
        from sales_assets.postgres.warehouse import Warehouse
        from sales_assets.resources.raw_files import RawFiles
        from sales_assets.resources.report_api import ReportApi
        from sales_assets.settings import first_day, settings

        self.warehouse = Warehouse()
        scratch = settings().sales_home / f"tmp{os.getpid()}"
        log = logging.getLogger(__name__)
        derived = [made.table for made in DERIVED_MARTS]
        self.pipeline = Pipeline(self.warehouse, RawFiles(), ReportApi(), scratch, first_day(), log, derived=derived)
        self.waited = 0.0
        self.done = 0
        self.failures: list[str] = []

    def load(self, days: list[dt.date], *, raw: bool) -> list[str]:
        from sales_assets.pipeline.load import load_days
        from sales_assets.pipeline.load_report import F_SALES, raw_table, staging_table
        from sales_assets.schemas.report_files import REPORT_FILES

        files = REPORT_FILES.values()
        tables = [*map(raw_table, files)] * raw + [*map(staging_table, files), F_SALES]
        report = load_days(self.pipeline, days, [*tables, "mart.f_activity", "mart.f_research"], f"{os.getpid()}")
        self.waited += report.lock_wait_seconds
        failures = [f"{day}: {reason}" for day, reasons in report.failures.items() for reason in reasons]
        self.failures += failures
        return failures


def _load(engine: _Engine, rng: random.Random) -> None:
    engine.load(_range(rng), raw=rng.random() < 0.7)


def _load_orders(engine: _Engine, rng: random.Random) -> None:
    from sales_assets.pipeline.partner_orders import load_order_days

    # In the second zone, evening orders belong to the next day: their lines move from day to day.
    zone = rng.choice(["UTC", "Asia/Vladivostok"])
    load_order_days(engine.warehouse, _range(rng), f"{os.getpid()}", timezone=zone, sale_on="created")


def _replay(engine: _Engine, rng: random.Random) -> None:
    from sales_assets.cli import quarantine

    none = dict.fromkeys(("day", "date_id", "file", "reason", "state"))
    everything = {**none, "limit": 1000, "offset": 0}
    rows = until(lambda: engine.warehouse.rows("staging/quarantine", "list", **everything), seconds=_SECONDS)
    row = rng.choice(rows)
    number = row["quarantine_id"]
    corrections = {}
    if rng.random() < 0.5:
        statuses = row["line_text"].count(",") > 11
        day = dt.datetime.strptime(str(row["date_id"]), "%Y%m%d").date().isoformat()  # noqa: DTZ007
        corrections[number] = Order(f"corrected{number}", day=day).line(9, statuses=statuses)

    def load_again(days: list[dt.date]) -> list[str]:
        return engine.load(days, raw=False)

    with mock.patch.object(quarantine, "_load_again", load_again):
        discarded = [] if corrections else [number]
        quarantine.replay(engine.warehouse, corrections=corrections, discarded=discarded, as_they_are=[])


def _range(rng: random.Random) -> list[dt.date]:
    first, last = sorted(rng.choices(range(len(DAYS)), k=2))
    return DAYS[first : last + 1]


_JOBS: dict[str, Job] = {"load": _load, "orders": _load_orders, "replay": _replay}


def _work(environment: Mapping[str, str], job: str, seed: int, rounds: int, stop: Any, done: Any) -> None:
    """Repeat a job a number of times, or until `stop`; send (repetitions, seconds waited for locks, failures)."""
    from sales_assets import settings
    from sales_assets.pipeline import stage

    os.environ.clear()
    os.environ.update(environment)
    settings.settings.cache_clear()
    rng = random.Random(seed)
    engine = _Engine()
    if seed % 2:  # treat these few lines as a large file: separate names, several transactions
        stage._ROWS_PER_TRANSACTION = 3
    try:
        while engine.done < rounds and not stop.is_set():
            _JOBS[job](engine, rng)
            engine.done += 1
    except Exception as error:  # noqa: BLE001  the test reads it
        engine.failures.append(f"{job}: {type(error).__name__}: {error}")
    done.send((engine.done, engine.waited, engine.failures))


# --- in the test ----------------------------------------------------------------------------------------------


@dataclass
class Contention:
    """Processes that load, order and replay over the same days, while files and orders change."""

    url: str
    reports: ReportFolderBuilder
    seed: int = 1
    jobs: Mapping[str, int] = field(default_factory=lambda: {"load": 8, "orders": 2, "replay": 1})
    done: dict[str, int] = field(default_factory=dict)
    waited: float = 0.0
    failures: list[str] = field(default_factory=list)
    orders: int = 0

    def run(self, seconds: float, rounds: int = sys.maxsize) -> None:
        """Let each process repeat its job `rounds` times or for `seconds`, whichever ends first."""
        rng = random.Random(self.seed)
        self._issue_report(rng)
        for day in DAYS:
            self._issue(rng, day)
        engine = _Engine()
        self._fetch_report(engine)
        for _ in range(30):
            self._order(rng)
        deadline = time.monotonic() + seconds
        with self._processes(rounds) as (stop, processes):
            while time.monotonic() < deadline and any(process.is_alive() for process in processes):
                self._issue(rng, rng.choice(DAYS))
                self._order(rng)
                if rng.random() < 0.02:
                    self._issue_report(rng)
                    self._fetch_report(engine)
                time.sleep(0.1)  # the interval between changes
            stop.set()

    def check_result(self) -> None:
        """Check that no process failed or deadlocked, and that one more load produces the mart of the model."""
        # The message is needed: pytest explains only the assertions of test files.
        assert self.failures == [], f"{len(self.failures)} failures, such as {self.failures[:3]}"
        assert all(times > 0 for times in self.done.values()), self.done
        assert unequal_to_staging(self.url) == []
        engine = _Engine()
        assert engine.load(DAYS, raw=True) == []
        self._load_orders(engine)
        assert self._rows("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == [(0,)]
        assert unequal_to_staging(self.url) == []
        deliveries, resolutions = self._delivered()
        assert resolutions or not self.done.get("replay"), "replays that resolve nothing show nothing"
        sales = "SELECT f.date_id, l.uniq_id, item_id, customer_id, city_id, quantity, amount, f.status"
        lines = " FROM mart.f_sales AS f JOIN mart.f_sales_lines AS l USING (id) WHERE f.source = %s"
        found: list[Row] = sorted(self._rows(sales + lines, "report_api"))
        assert found == mart(deliveries, DAYS, resolutions)
        assert self._rows("SELECT count(*) FROM mart.f_sales WHERE source = 'report_api'") == [(len(found),)]
        assert self._rows(_SALES_OF_ORDERS) == self._rows(_EVENTS)
        assert self._rows(_ORPHANS) == [(0,)]

    @contextlib.contextmanager
    def _processes(self, rounds: int) -> Iterator[tuple[Any, list[Any]]]:
        _CONTEXT.set_forkserver_preload(["sales_assets_tests.faults.preloaded"])
        stop = _CONTEXT.Event()
        running = []
        for job, number in self.jobs.items():
            for n in range(number):
                receive_end, send_end = _CONTEXT.Pipe(duplex=False)
                seed = self.seed * 100 + n
                process = _CONTEXT.Process(target=_work, args=(dict(os.environ), job, seed, rounds, stop, send_end))
                process.start()
                send_end.close()
                running.append((job, process, receive_end))
        try:
            yield stop, [process for _, process, _ in running]
            for job, _, receive_end in running:
                assert receive_end.poll(_SECONDS), f"a process hangs: {job}"
                done, waited, failures = receive_end.recv()
                self.done[job] = self.done.get(job, 0) + done
                self.waited += waited
                self.failures += failures
        finally:
            for _, process, receive_end in running:
                process.kill()
                process.join()
                receive_end.close()

    # --- new files and orders ---------------------------------------------------------------------------------

    def _issue(self, rng: random.Random, day: dt.date) -> None:
        """Replace the increment of a day atomically, because the simulator may be serving it."""
        lines: list[Order | str] = [_sale(rng, day, "always"), *_lines(rng, day)]
        self._put(self.reports.folder / "inc" / str(day) / "user_orders_log_inc.csv", lines, statuses=True)

    def _issue_report(self, rng: random.Random) -> None:
        lines: list[Order | str] = [_sale(rng, day, "report") for day in DAYS]
        for day in DAYS:
            lines += _lines(rng, day)
        self._put(self.reports.folder / "main" / "user_orders_log.csv", lines, statuses=rng.random() < 0.5)

    def _put(self, path: Path, lines: list[Order | str], *, statuses: bool) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(order_file(lines, statuses=statuses))
        new.replace(path)

    def _fetch_report(self, engine: _Engine) -> None:
        from sales_assets.pipeline.extract import fetch_report, record

        pipeline = engine.pipeline
        delivery = fetch_report(pipeline.report_api, pipeline.raw_files, pipeline.warehouse, lambda _: None)
        with pipeline.warehouse.transaction("report") as transaction:
            record(transaction, [delivery], "run")

    def _order(self, rng: random.Random) -> None:
        """Stage an event of a partner order, like the consumer, with mappings for its items and customers."""
        self.orders += 1
        at = dt.datetime.combine(rng.choice(DAYS[:-1]), dt.time(rng.randrange(24)), dt.UTC)
        event = {
            "message_id": f"8-{self.orders}-accepted",
            "kind": "accepted",
            "project_id": 8,
            "kodpost": 1,
            "order_id": self.orders,
            "their_order_id": "7",
            "their_pharmacy_id": "1",
            "phone": "79997772211",
            "dated_at": at.isoformat(),
            "lines": [{"line_no": 1, "their_id": str(rng.randint(1, 5)), "price": "10", "count": self.orders}],
        }
        with psycopg.connect(self.url) as connection:
            if self.orders == 1:
                connection.execute("INSERT INTO staging.partner_item SELECT 1, n, n FROM generate_series(1, 5) AS n")
                connection.execute("INSERT INTO staging.partner_pharmacy VALUES (1, '1', 7)")
                connection.execute(
                    "INSERT INTO staging.partner_customer (phone, customer_id) VALUES ('79997772211', 51)"
                )
            connection.execute(
                "INSERT INTO staging.partner_order_event SELECT * FROM jsonb_populate_record("
                "NULL::staging.partner_order_event, %s::jsonb || jsonb_build_object('received_at', now()))",
                [json.dumps(event)],
            )

    def _load_orders(self, engine: _Engine) -> None:
        from sales_assets.pipeline.partner_orders import load_order_days

        load_order_days(engine.warehouse, DAYS, "last", timezone="UTC", sale_on="created")

    # --- the reference model ----------------------------------------------------------------------------------

    def _delivered(self) -> tuple[list[Delivered], dict[RowKey, str | None]]:
        """Return the deliveries in order, and the resolutions of their rejected rows."""
        from sales_assets.resources.raw_files import RawFiles

        raw_files = RawFiles()
        contents: dict[int, Delivered] = {}
        deliveries = []
        for fetch_id, kind, first, last, path in self._rows(
            "SELECT fetch_id, f.kind, f.first_day, f.last_day, f.path FROM raw.file_delivery AS d"
            " JOIN raw.fetch AS f USING (fetch_id) WHERE f.file = 'user_orders_log' ORDER BY d.number"
        ):
            if fetch_id not in contents:
                text = b"".join(raw_files.chunks(path)).decode()
                contents[fetch_id] = Delivered(kind, first, last, text)
            deliveries.append(contents[fetch_id])
        rows: dict[int, dict[int, tuple[str, str | None]]] = {}
        for fetch_id, line_no, state, text in self._rows(
            "SELECT fetch_id, line_no, state, corrected_text FROM staging.quarantine ORDER BY 1, 2"
        ):
            rows.setdefault(fetch_id, {})[line_no] = state, text
        resolutions: dict[RowKey, str | None] = {}
        for fetch_id, of_file in rows.items():
            for line_no, key in row_keys(contents[fetch_id], of_file).items():
                state, corrected = of_file[line_no]
                if state == "discarded" or corrected is not None:
                    resolution = None if state == "discarded" else corrected
                    assert resolutions.setdefault(key, resolution) == resolution, f"{key} has two resolutions"
        return deliveries, resolutions

    def _rows(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, options="-c TimeZone=UTC") as connection:
            return connection.execute(statement.encode(), parameters or None).fetchall()


_SALES_OF_ORDERS = """SELECT f.date_id, f.item_id, f.customer_id, f.quantity, f.amount, f.status
    FROM mart.f_sales AS f WHERE f.source = 'partner_orders' ORDER BY f.quantity"""
_EVENTS = """SELECT to_char(dated_at, 'YYYYMMDD')::integer, (lines -> 0 ->> 'their_id')::integer, 51,
           (lines -> 0 ->> 'count')::numeric, 10 * (lines -> 0 ->> 'count')::numeric, 'shipped'
    FROM staging.partner_order_event ORDER BY 4"""
_ORPHANS = """SELECT count(*) FROM mart.f_sales AS f
    LEFT JOIN mart.d_customer AS c USING (customer_id) LEFT JOIN mart.d_item AS i USING (item_id)
    LEFT JOIN mart.d_city AS t USING (city_id) LEFT JOIN mart.d_calendar AS d USING (date_id)
    WHERE c.customer_id IS NULL OR i.item_id IS NULL OR t.city_id IS NULL OR d.date_id IS NULL"""


def _lines(rng: random.Random, day: dt.date) -> Iterator[Order | str]:
    """Yield random sales of a day, some of them twice, and sometimes an invalid line that recurs in several files."""
    for n in range(rng.randint(0, 6)):
        sale = _sale(rng, day, str(n))
        yield from [sale] * rng.randint(1, 2)
    if rng.random() < 0.5:
        yield Order(f"bad{rng.randint(1, 3)}", day=str(day), quantity="many")


def _sale(rng: random.Random, day: dt.date, name: str) -> Order:
    customer, item = str(rng.randint(50, 60)), str(rng.randint(1, 5))
    return Order(
        f"{name}-{day}",
        day=str(day),
        quantity=str(rng.randint(0, 3)),
        amount=f"{rng.randint(0, 500)}.{rng.randint(10, 99)}",
        city_id=str(rng.randint(1, 3)),
        customer_id=customer,
        first_name=rng.choice(["Anna", "Anne"]),
        item_id=item,
        item_name=f"Item {item} of {day}",
    )
