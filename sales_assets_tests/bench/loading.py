"""The pipeline's figures: loading against PostgreSQL's own COPY, and growing sizes against smaller ones.

Belongs here: a platform of its own below a temporary folder, and what is run on it. Does not belong here: clocks and
tables (`measuring`).
"""

import datetime as dt
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pandas as pd
import psycopg
import requests
import sqlalchemy as sa

from sales_assets.embedded import EmbeddedPostgres, binary
from sales_assets.resources import migrations
from sales_assets.services.report_api.generate import Shop, generate
from sales_assets_tests.bench.measuring import Cost, Figure, measured, run

FIRST = dt.date(2024, 1, 1)
_COMMAND = [sys.executable, "-m", "sales_assets.cli"]
_PORT = "18765"
_TYPED = """CREATE UNLOGGED TABLE typed (id integer, uniq_id text, date_time timestamp, city_id integer, city_name text,
    customer_id integer, first_name text, last_name text, item_id integer, item_name text, quantity numeric(10, 2),
    payment_amount numeric(10, 2))"""


class Bench:
    """A platform below a folder: an embedded server, report files by size, a stand-in that serves one set of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.server = EmbeddedPostgres(self.home / "postgres")
        self.environment = {
            "SALES_HOME": str(self.home),
            "REPORT_API_URL": f"http://127.0.0.1:{_PORT}",
            "REPORT_API_KEY": "bench",
            "SALES_FIRST_DAY": "2020-01-01",
        }

    @property
    def url(self) -> str:
        return self.server.url("sales")

    def data(self, shop: Shop, days: int, increments: int = 0) -> Path:
        """A folder of generated files, made once."""
        name = f"{shop.lines_per_day * days}-{shop.repeats}-{shop.bad}-{days}-{increments}"
        folder = self.folder / "data" / name
        if not folder.exists():
            print(f"generating {name}", file=sys.stderr)
            generate(folder, shop, first_day=FIRST, days=days, increments=increments, oddities=False)
        return folder

    @contextmanager
    def api(self, data: Path) -> Iterator[None]:
        command = [*_COMMAND, "report-api", "--data", str(data), "--port", _PORT, "--report-seconds", "0"]
        process = subprocess.Popen(
            command, env={**os.environ, **self.environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            for _ in range(200):
                try:
                    requests.get(self.environment["REPORT_API_URL"], timeout=1)
                    break
                except requests.ConnectionError:
                    time.sleep(0.05)
            yield
        finally:
            process.terminate()
            process.wait()

    def fresh(self) -> None:
        """An empty, migrated warehouse, and the server at rest."""
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

    def load(self, first: dt.date, days: int, *, report: bool = True) -> Cost:
        last = first + dt.timedelta(days=days - 1)
        command = [*_COMMAND, "load", "--from", first.isoformat(), "--to", last.isoformat()]
        with measured(self.server.data) as cost:
            megabytes = run([*command, *(["--report"] if report else [])], self.environment)
        return replace(cost[0], megabytes=megabytes)

    def bare(self, first: dt.date, days: int) -> Cost:
        """The same assets and checks over the same days, without anything to do."""
        last = first + dt.timedelta(days=days - 1)
        with measured(self.server.data) as cost:
            run([sys.executable, "-m", f"{__package__}.bare", first.isoformat(), last.isoformat()], self.environment)
        return cost[0]

    def copy(self, data: Path) -> Cost:
        """The floor: psql's \\copy of the order file into a typed table without any rule, index or log."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("DROP TABLE IF EXISTS typed")
            connection.execute(_TYPED)
        file = data / "main" / "user_orders_log.csv"
        with measured(self.server.data) as cost:
            run([str(binary("psql")), self.url, "-qc", f"\\copy typed from '{file}' csv header"], {})
        return cost[0]

    def to_sql(self, data: Path) -> Cost:
        """pandas' own way into a table, without any rule."""
        frame = pd.read_csv(data / "main" / "user_orders_log.csv")
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("DROP TABLE IF EXISTS to_sql")
        engine = sa.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(self.url))
        with measured(self.server.data) as cost:
            frame.to_sql("to_sql", engine, index=False)
        return cost[0]


def figures(bench: Bench, lines: int) -> Iterator[tuple[Path, Figure]]:
    """(what the stand-in serves, the figure), for order logs of so many lines."""
    days = 20
    shop = Shop(seed=1, lines_per_day=lines // days, repeats=0.0)
    distinct = bench.data(shop, days)
    repeated = bench.data(replace(shop, repeats=0.8), days)
    dirty = bench.data(replace(shop, bad=0.001), days)
    size = f"{lines // 1_000_000} M" if lines >= 1_000_000 else f"{lines // 1000} k"

    def load() -> Cost:
        return bench.load(FIRST, days)

    yield (
        distinct,
        Figure(
            f"order log, {size} distinct lines, HTTP to mart, checks passed, against `\\copy`",
            "2.0",
            load,
            lambda: bench.copy(distinct),
            bench.fresh,
        ),
    )
    yield (
        repeated,
        Figure(f"the same, {size} lines with 80 % repeats", "1.8", load, lambda: bench.copy(repeated), bench.fresh),
    )
    yield (
        dirty,
        Figure(
            f"{size} lines with 0.1 % bad, against `\\copy` (to be set beside the first figure)",
            "1.1 of clean",
            load,
            lambda: bench.copy(dirty),
            bench.fresh,
        ),
    )


def small_figures(bench: Bench) -> Iterator[tuple[Path, Figure]]:
    days = 20
    small = bench.data(Shop(seed=2, lines_per_day=5_000, repeats=0.0), days)
    yield (
        small,
        Figure(
            "100 k lines, HTTP to mart, against `DataFrame.to_sql` into staging alone",
            "0.033",
            lambda: bench.load(FIRST, days),
            lambda: bench.to_sql(small),
            bench.fresh,
        ),
    )


def long_range_figures(bench: Bench) -> Iterator[tuple[Path, Figure]]:
    shop = Shop(seed=3, lines_per_day=50, repeats=0.5)
    years = bench.data(shop, days=1096, increments=1095)
    first = FIRST + dt.timedelta(days=1)
    yield (
        years,
        Figure(
            "365 small days in one run, against the same assets without work",
            "1.5",
            lambda: bench.load(first, 365),
            lambda: bench.bare(first, 365),
            bench.fresh,
        ),
    )
    yield (
        years,
        Figure(
            "1 095 days against 365",
            "3.3",
            lambda: bench.load(first, 1095),
            lambda: bench.load(first, 365),
            bench.fresh,
        ),
    )


def growth_figures(large: Bench, small: Bench, lines: int) -> Iterator[tuple[Path, Figure]]:
    """The same work beside a mart of `lines` rows, and beside one of a tenth; both are loaded once, here."""
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
        increment,
        Figure(
            f"a day's reload beside {lines:,} rows, against {lines // 10:,}",
            "1.2",
            lambda: large.load(day, 1, report=False),
            lambda: small.load(day, 1, report=False),
        ),
    )
