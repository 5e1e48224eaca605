"""Benchmarks of the pipeline: loading against PostgreSQL's COPY, and large inputs against smaller ones."""

import datetime as dt
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import psycopg
import requests
import sqlalchemy as sa

from sales_assets.deploy.instance import prepare_dagster_home
from sales_assets.partitions import DAYS, days_of
from sales_assets.pipeline.file_selection import RawFile, SelectedFile
from sales_assets.pipeline.parse_file import parse_file
from sales_assets.pipeline.sale_ids import sale_ids
from sales_assets.pipeline.stage import selected_rows, stage_days
from sales_assets.postgres import migrations
from sales_assets.postgres.embedded import EmbeddedPostgres, binary
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.schemas.report_files import USER_ORDERS_LOG
from sales_assets.settings import settings
from sales_assets.simulators.report_api.generate import Shop, generate
from sales_assets_tests.bench.measuring import Cost, Figure, measured, run

FIRST = dt.date(2024, 1, 1)
Data = Callable[[], Path]  # generates the files for a figure, unless they exist
_COMMAND = [sys.executable, "-m", "sales_assets.cli"]
_PORT, _OTHER_PORT = 18765, 18766
_TYPED = """CREATE UNLOGGED TABLE typed (id integer, uniq_id text, date_time timestamp, city_id integer, city_name text,
    customer_id integer, first_name text, last_name text, item_id integer, item_name text, quantity numeric(10, 2),
    payment_amount numeric(10, 2))"""
# The raw file that staged days refer to.
_KEPT = """WITH d AS (INSERT INTO raw.delivery (kind, first_day, last_day, outcome)
                      VALUES ('report', %s, %s, 'delivered') RETURNING *)
    INSERT INTO raw.fetch (fetch_id, delivery_id, file, kind, first_day, last_day, url, path, sha256, bytes, line_count,
                           fetched_at)
    SELECT 1, delivery_id, 'user_orders_log', kind, first_day, last_day, '', '', '', 0, 0, now() FROM d"""


class Bench:
    """A platform in a folder: an embedded server, generated report files, and a simulator that serves some of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.server = EmbeddedPostgres(self.home / "postgres")
        self.environment = {
            "SALES_HOME": str(self.home),
            "REPORT_API_URL": _address(_PORT),
            "REPORT_API_KEY": "bench",
            "SALES_FIRST_DAY": "2020-01-01",
        }

    @property
    def url(self) -> str:
        return self.server.url("sales")

    def data(self, shop: Shop, days: int, increments: int = 0, first_day: dt.date = FIRST) -> Path:
        """Return a folder of generated files; each is generated once."""
        name = f"{shop.lines_per_day * days}-{shop.repeats}-{shop.bad}-{days}-{increments}-{first_day}"
        folder = self.folder / "data" / name
        if not folder.exists():
            print(f"generating {name}", file=sys.stderr)
            generate(folder, shop, first_day=first_day, days=days, increments=increments, oddities=False)
        return folder

    @contextmanager
    def api(self, data: Path, port: int = _PORT) -> Iterator[None]:
        command = [*_COMMAND, "report-api", "--data", str(data), "--port", str(port), "--report-seconds", "0"]
        process = subprocess.Popen(
            command, env={**os.environ, **self.environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            for _ in range(200):
                try:
                    requests.get(_address(port), timeout=1)
                    break
                except requests.ConnectionError:
                    time.sleep(0.05)
            _make_report(port)
            yield
        finally:
            process.terminate()
            process.wait()

    def fresh(self) -> None:
        """Create an empty, migrated warehouse, and run a checkpoint."""
        self.server.ensure_running()
        with psycopg.connect(self.server.url("dagster"), autocommit=True) as connection:
            connection.execute("DROP DATABASE sales WITH (FORCE)")
            connection.execute("CREATE DATABASE sales")
        migrations.migrate(self.url)
        shutil.rmtree(self.home / "raw", ignore_errors=True)
        self.rest()

    def rest(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("CHECKPOINT")

    def count(self, statement: str) -> int:
        with psycopg.connect(self.url) as connection:
            row = connection.execute(statement.encode()).fetchone()
        return int(row[0]) if row else 0

    @contextmanager
    def as_environment(self) -> Iterator[None]:
        """Apply the settings of this platform to this process and its children."""
        before = dict(os.environ)
        os.environ.update(self.environment)
        settings.cache_clear()
        try:
            prepare_dagster_home()
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)
            settings.cache_clear()

    def load(self, first: dt.date, days: int, *, report: bool = True, port: int = _PORT) -> Cost:
        last = first + dt.timedelta(days=days - 1)
        command = [*_COMMAND, "load", "--from", first.isoformat(), "--to", last.isoformat()]
        with measured(self.server.data) as cost:
            chosen = self.environment | {"REPORT_API_URL": _address(port)}
            megabytes = run([*command, *(["--report"] if report else [])], chosen)
        return replace(cost[0], megabytes=megabytes)

    def bare(self, first: dt.date, days: int) -> Cost:
        """Run the assets and checks of the same days without any work."""
        last = first + dt.timedelta(days=days - 1)
        with measured(self.server.data) as cost:
            run([sys.executable, "-m", f"{__package__}.bare", first.isoformat(), last.isoformat()], self.environment)
        return cost[0]

    def copy(self, data: Path) -> Cost:
        """The lower bound: psql's \\copy of the order file into a typed table without constraints, indexes or WAL."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("DROP TABLE IF EXISTS typed")
            connection.execute(_TYPED)
        file = data / "main" / "user_orders_log.csv"
        with measured(self.server.data) as cost:
            run([str(binary("psql")), self.url, "-qc", f"\\copy typed from '{file}' csv header"], {})
        return cost[0]

    def stage(self, data: Path, days: int) -> Cost:
        """Parse the raw file, and stage and commit its rows, without Dagster."""
        file = data / "main" / f"{USER_ORDERS_LOG.name}.csv"
        last = FIRST + dt.timedelta(days=days - 1)

        def chunks() -> Iterator[bytes]:
            with file.open("rb") as opened:
                yield from iter(lambda: opened.read(1 << 20), b"")

        with self.as_environment(), tempfile.TemporaryDirectory() as folder:
            warehouse = Warehouse()
            with psycopg.connect(self.url) as connection:
                connection.execute(_KEPT, [FIRST, last])
            now = dt.datetime.now(dt.UTC)
            raw_file = RawFile(1, "report", file.name, "", FIRST, last, 0, corrected=False, found_at=now)
            with measured(self.server.data) as cost:
                parsed = parse_file(chunks, USER_ORDERS_LOG, raw_file, {}, Path(folder))
                selected = [SelectedFile(day, 1, revision=1, staged=False) for day in parsed.days]
                with warehouse.transaction("bench") as transaction:
                    ids = sale_ids(transaction, {day: counts.kept for day, counts in parsed.days.items()}, {}, [])
                    rows = ids.assign(selected_rows(selected, {1: parsed}))
                    stage_days(transaction, USER_ORDERS_LOG, selected, rows, "bench")
        return cost[0]

    def to_sql(self, data: Path) -> Cost:
        """Load the order file with pandas' `to_sql`, without any rule."""
        frame = pd.read_csv(data / "main" / "user_orders_log.csv")
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("DROP TABLE IF EXISTS to_sql")
        engine = sa.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(self.url))
        with measured(self.server.data) as cost:
            frame.to_sql("to_sql", engine, index=False)
        return cost[0]


def figures(bench: Bench, lines: int) -> Iterator[tuple[Data, Figure]]:
    """Yield (files that the simulator serves, figure) for order logs with this number of lines."""
    days = 20
    shop = Shop(seed=1, lines_per_day=lines // days, repeats=0.0)
    size = f"{lines // 1_000_000} M" if lines >= 1_000_000 else f"{lines // 1000} k"
    load = partial(bench.load, FIRST, days)
    clean = partial(bench.data, shop, days)
    aims = ("2.8", "1.6") if lines > 1_000_000 else ("4.8", "3.8")  # the start of the command matters less and less
    for name, aim, kind in (
        (f"order log, {size} distinct lines, HTTP to mart, checks passed, against `\\copy`", aims[0], shop),
        (f"the same, {size} lines with 80 % repeats", aims[1], replace(shop, repeats=0.8)),
    ):
        data = partial(bench.data, kind, days)
        yield data, Figure(name, aim, load, partial(_copy, bench, data), bench.fresh)

    def load_clean() -> Cost:
        with bench.api(clean(), _OTHER_PORT):
            return load(port=_OTHER_PORT)

    yield (
        partial(bench.data, replace(shop, bad=0.001), days),
        Figure(f"{size} lines with 0.1 % bad, quarantined, against clean ones", "1.1", load, load_clean, bench.fresh),
    )


def _address(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def _make_report(port: int) -> None:
    """Request a report, so that the simulator knows the period of its files; reading a million lines takes it 0.4 s."""
    headers = {"X-API-KEY": "bench", "X-Nickname": "bench", "X-Cohort": "1", "X-Project": "True"}
    response = requests.post(f"{_address(port)}/generate_report", headers=headers, timeout=60)
    response.raise_for_status()
    requests.get(
        f"{_address(port)}/get_report", headers=headers, params=response.json(), timeout=600
    ).raise_for_status()


def _copy(bench: Bench, data: Data) -> Cost:
    return bench.copy(data())


def small_figures(bench: Bench) -> Iterator[tuple[Data, Figure]]:
    days = 20
    data = partial(bench.data, Shop(seed=2, lines_per_day=5_000, repeats=0.0), days)
    yield (
        data,
        Figure(
            "100 k lines read, checked, deduplicated and staged, against `DataFrame.to_sql` of them",
            "0.033",
            lambda: bench.stage(data(), days),
            lambda: bench.to_sql(data()),
            bench.fresh,
        ),
    )
    yield (
        data,
        Figure(
            "100 k lines, `sales-assets load` from its start to the mart, against the same `to_sql`",
            "",
            lambda: bench.load(FIRST, days),
            lambda: bench.to_sql(data()),
            bench.fresh,
        ),
    )


def years(bench: Bench) -> tuple[Data, dt.date]:
    """Return three years of small increments up to yesterday, and their first day."""
    last = days_of([DAYS.get_last_partition_key() or ""])[0]
    first = last - dt.timedelta(days=1094)
    shop = Shop(seed=3, lines_per_day=50, repeats=0.5)
    return partial(bench.data, shop, 1096, 1095, first - dt.timedelta(days=1)), first


def long_range_figures(bench: Bench) -> Iterator[tuple[Data, Figure]]:
    data, first = years(bench)
    yield (
        data,
        Figure(
            "365 small days in one run, against the same assets without work",
            "2.2",
            lambda: bench.load(first, 365),
            lambda: bench.bare(first, 365),
            bench.fresh,
        ),
    )
    yield (
        data,
        Figure(
            "1 095 days against 365",
            "3.3",
            lambda: bench.load(first, 1095),
            lambda: bench.load(first, 365),
            bench.fresh,
        ),
    )


def growth_figures(large: Bench, small: Bench, lines: int) -> Iterator[tuple[Data, Figure]]:
    """Yield the figure of one load into a mart of `lines` rows against a mart of a tenth; both are loaded here once."""
    days = 20
    sizes = ((large, lines), (small, lines // 10))
    folders = [bench.data(Shop(seed=1, lines_per_day=count // days, repeats=0.0), days) for bench, count in sizes]
    for (bench, _), data in zip(sizes, folders, strict=True):
        bench.fresh()
        with bench.api(data):
            bench.load(FIRST, days)
        bench.rest()
    day = FIRST + dt.timedelta(days=days)
    again = small.data(Shop(seed=4, lines_per_day=10_000, repeats=0.0), days=1)
    increment = small.folder / "data" / "one-day"
    shutil.rmtree(increment, ignore_errors=True)
    (increment / "inc" / day.isoformat()).mkdir(parents=True)
    text = (again / "main" / "user_orders_log.csv").read_text().replace(FIRST.isoformat(), day.isoformat())
    (increment / "inc" / day.isoformat() / "user_orders_log_inc.csv").write_text(text)
    yield (
        lambda: increment,
        Figure(
            f"a day's reload beside {lines:,} rows, against {lines // 10:,}",
            "1.2",
            lambda: large.load(day, 1, report=False),
            lambda: small.load(day, 1, report=False),
        ),
    )
