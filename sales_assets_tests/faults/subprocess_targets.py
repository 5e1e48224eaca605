"""Processes that load days until they are killed, and assertions on the mart afterwards.

A process is forked from one that has imported everything: a hundred kills cost a hundred loads, not a hundred starts
of Python. What is forked holds no connection and no thread.
"""

import functools
import itertools
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg
from psycopg import sql

from sales_assets.postgres.embedded import EmbeddedPostgres
from sales_assets.postgres.queries import statements
from sales_assets_tests.builders import Order, ReportFolderBuilder, days_between

FIRST, LAST = "2024-10-01", "2024-10-30"
DAYS = days_between(FIRST, LAST)
_SECONDS = 120
_CONTEXT = multiprocessing.get_context("forkserver")

Contents = dict[int, list[tuple[Any, ...]]]


# --- in the process that is killed ----------------------------------------------------------------------------


@functools.cache
def _definitions() -> Any:
    from sales_assets.definitions import defs

    definitions = defs()
    definitions.get_repository_def()
    return definitions


def preload() -> None:
    """Import all that a load imports, in the process that the victims are forked from."""
    from sales_assets.cli import load  # noqa: F401
    from sales_assets.deploy import instance, runs  # noqa: F401

    _definitions()


def _load(environment: Mapping[str, str], kill_at: int | None, done: Any, days: tuple[str, str]) -> None:
    """Load the days and send (time of the end, points passed, failures); die at point `kill_at` if it gets so far."""
    import datetime as dt

    import dagster as dg

    from sales_assets import settings
    from sales_assets.cli import load
    from sales_assets.deploy import instance
    from sales_assets.pipeline.progress import Progress

    os.environ.clear()
    os.environ.update(environment)
    settings.settings.cache_clear()
    mock.patch.object(load, "defs", _definitions).start()
    # Dagster's events have a storage of the process's own: a connection for each of them would be most of a load.
    mock.patch.object(instance, "prepare_dagster_home").start()
    mock.patch.object(dg.DagsterInstance, "get", dg.DagsterInstance.ephemeral).start()
    passed = _arm(kill_at)
    try:
        first, last = map(dt.date.fromisoformat, days)
        result = load.load_days(fresh_report=True, from_day=first, to_day=last, progress=Progress())
        done.send((time.monotonic(), passed(), result.failures))
    except Exception as error:  # noqa: BLE001  the test reads it
        done.send((time.monotonic(), passed(), [f"{type(error).__name__}: {error}"]))


def _arm(kill_at: int | None) -> Callable[[], int]:
    """Count every statement, commit, block of COPY, fsync and HTTP call, before and after it; die at one of them."""
    import requests

    counter, latest = itertools.count(1), 0

    def point() -> None:
        nonlocal latest
        latest = next(counter)
        if latest == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def watched(call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def run(*args: Any, **kwargs: Any) -> Any:
            point()
            result = call(*args, **kwargs)
            point()
            return result

        return run

    places: list[tuple[Any, str]] = [
        (psycopg.Connection, "execute"),
        (psycopg.Connection, "commit"),
        (psycopg.Copy, "write"),
        (os, "fsync"),
        (requests.Session, "request"),
    ]
    for owner, name in places:
        setattr(owner, name, watched(getattr(owner, name)))
    return lambda: latest


# --- in the test ----------------------------------------------------------------------------------------------


@dataclass
class Victim:
    """A load in a process of its own."""

    environment: Mapping[str, str]
    kill_at: int | None = None
    days: tuple[str, str] = (FIRST, LAST)
    points: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    def __enter__(self) -> "Victim":
        _CONTEXT.set_forkserver_preload(["sales_assets_tests.faults.preloaded"])
        self._told, telling = _CONTEXT.Pipe(duplex=False)
        self.process = _CONTEXT.Process(target=_load, args=(dict(self.environment), self.kill_at, telling, self.days))
        self.process.start()
        self.started = time.monotonic()
        telling.close()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._told.close()

    def kill(self) -> None:
        if self.process.is_alive():
            self.process.kill()
        self.process.join(_SECONDS)

    def finish(self) -> bool:
        """Wait for its end; False when it was killed before it could tell anything."""
        assert self._told.poll(_SECONDS), "the load neither ended nor died"
        try:
            ended, self.points, self.failures = self._told.recv()
        except EOFError:
            self.process.join(_SECONDS)
            assert self.process.exitcode == -signal.SIGKILL, f"the load died by itself: {self.process.exitcode}"
            return False
        self.seconds = ended - self.started  # one clock for all processes of a machine
        self.process.join(_SECONDS)
        return True


def load_undisturbed(environment: Mapping[str, str], days: tuple[str, str] = (FIRST, LAST)) -> tuple[int, float]:
    """Load to the end; gives the points passed and the seconds it took."""
    with Victim(environment, days=days) as victim:
        assert victim.finish()
    assert victim.failures == [], victim.failures  # said here: pytest explains the assertions of tests alone
    return victim.points, victim.seconds


class World:
    """A mart in an old state, files in a new one, and as many copies of the former as there are kills."""

    def __init__(self, server: EmbeddedPostgres, reports: ReportFolderBuilder, raw_files: Path) -> None:
        self.server, self.reports = server, reports
        self._environment = {"RAW_FILES_URL": str(raw_files)}
        self._write(old=True)
        self._old = f"old_{os.getpid()}_{next(_NUMBERS)}"
        self._make(self._old, "migrated_template")
        load_undisturbed(self.environment(self._old))
        self.old = contents(server.url(self._old))
        self._write(old=False)
        with self.copy() as name:
            self.points, self.seconds = load_undisturbed(self.environment(name))
            self.new, self.new_names = contents(server.url(name)), names(server.url(name))
        assert self.old != self.new
        self.empty_since = {day for day in self.old if not self.new.get(day)}
        assert self.empty_since, "a day that shrinks to nothing belongs to the scenario"

    def environment(self, database: str) -> dict[str, str]:
        return os.environ | self._environment | {"WAREHOUSE_URL": self.server.url(database)}

    def copy(self) -> "_Copy":
        return _Copy(self, f"moment_{os.getpid()}_{next(_NUMBERS)}")

    def judge_killed(self, database: str) -> None:
        """No day is half there: each is as it was or as it will be, and staging says the same."""
        found = contents(self.server.url(database))
        for day in {*self.old, *self.new}:
            assert found.get(day, []) in (self.old.get(day, []), self.new.get(day, [])), f"{day} is half there"
        assert unequal_to_staging(self.server.url(database)) == []

    def heal_and_judge(self, database: str) -> None:
        """One more run makes the mart of an undisturbed load."""
        load_undisturbed(self.environment(database))
        assert contents(self.server.url(database)) == self.new
        assert names(self.server.url(database)) == self.new_names
        assert unequal_to_staging(self.server.url(database)) == []

    def _make(self, name: str, template: str) -> None:
        with psycopg.connect(self.server.url("sales"), autocommit=True) as connection:
            parts = sql.Identifier(name), sql.Identifier(template)
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(parts[0]))
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*parts))

    def _write(self, *, old: bool) -> None:
        """Old: increments of the first 20 days. New: of the last 26, with other lines, fewer of them or none."""
        chance = random.Random(int(old))
        report = [_order(chance, f"report{n}", day) for n, day in enumerate(DAYS[:10] * 3)]
        self.reports.report([Order("before", day="2024-09-25"), *report], price_log="Milk,100\n")
        for day in DAYS[:20] if old else DAYS[4:]:
            number = 0 if not old and day in DAYS[6:9] else chance.randint(1, 12)
            lines: list[Order | str] = [_order(chance, f"{old}{n}", day) for n in range(number)]
            self.reports.increment(day, [*lines, *lines[:2]], price_log=f"Milk,{chance.randint(90, 110)}\n")


_NUMBERS = itertools.count(1)


def _order(chance: random.Random, name: str, day: str) -> Order:
    item = str(chance.randint(1, 5))
    return Order(
        f"{name}-{day}",
        day=day,
        quantity=str(chance.randint(0, 3)),
        amount=f"{chance.randint(0, 500)}.{chance.randint(10, 99)}",
        status=chance.choice([None, "shipped", "refunded"]),
        city_id=str(chance.randint(1, 3)),
        customer_id=str(chance.randint(50, 60)),
        item_id=item,
        item_name=f"Item {item} of {day}",
    )


@dataclass
class _Copy:
    """A database of its own, dropped at the end."""

    world: World
    name: str

    def __enter__(self) -> str:
        self.world._make(self.name, self.world._old)
        return self.name

    def __exit__(self, *_: object) -> None:
        with psycopg.connect(self.world.server.url("sales"), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(self.name)))


def contents(url: str) -> Contents:
    """The mart's rows per day, without the ids, which differ from load to load."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT f.date_id, l.uniq_id, item_id, customer_id, city_id, quantity, amount, f.status, f.source"
            " FROM mart.f_sales AS f JOIN mart.f_sales_lines AS l USING (id) ORDER BY 1, 2, 8, 7, 9"
        ).fetchall()
    return {day: [row[1:] for row in group] for day, group in itertools.groupby(rows, key=lambda row: row[0])}


def names(url: str) -> list[list[tuple[Any, ...]]]:
    with psycopg.connect(url) as connection:
        return [
            connection.execute(statement).fetchall()
            for statement in (
                "SELECT city_id, city_name FROM mart.d_city ORDER BY 1",
                "SELECT customer_id, first_name, last_name FROM mart.d_customer ORDER BY 1",
                "SELECT item_id, item_name FROM mart.d_item ORDER BY 1",
            )
        ]


def unequal_to_staging(url: str) -> list[tuple[Any, ...]]:
    statement = statements("checks/equal_to_staging")["offending"]
    with psycopg.connect(url) as connection:
        return connection.execute(statement, {"first_date_id": 20200101, "last_date_id": 20991231}).fetchall()


def moments(seed: int, number: int, points: int) -> Iterator[tuple[str, float]]:
    """A seeded sweep: points inside the load, and shares of its time, by turns; each with a name of its own."""
    chance = random.Random(seed)
    inside = chance.sample(range(1, points + 1), min(points, number // 2))
    for place, share in zip(inside, (chance.random() for _ in range(number - number // 2)), strict=False):
        yield f"point {place}", place
        yield f"share {share:.4f}", share


def suffer(world: World, moment: tuple[str, float]) -> bool:
    """Kill a load at the moment, judge, heal, judge. Gives whether the kill came before the load's end."""
    name, value = moment
    with world.copy() as database:
        with Victim(world.environment(database), int(value) if name.startswith("point") else None) as victim:
            if name.startswith("share"):
                time.sleep(value * world.seconds)  # the moment itself, not a wait for something
                victim.kill()
            killed = not victim.finish()
        if not killed:
            # Measured at the start, when the machine may have been busier: shares of it would come later and later.
            world.seconds = min(world.seconds, victim.seconds)
        _wait_for_sessions(world.server.url(database))
        world.judge_killed(database)
        world.heal_and_judge(database)
    return killed


def suffer_without_server(world: World, share: float, kill_server: Callable[[], None]) -> bool:
    """Kill the server after a share of a load's time and start it again, judge, heal, judge.

    The load may go on when it has no connection open just then. Gives whether it was still running.
    """
    with world.copy() as database:
        # A copied sequence hands out up to 32 numbers that no log has seen, and goes back over them if the server dies
        # before its next checkpoint. No warehouse that was migrated in its place has that.
        with psycopg.connect(world.server.url(database), autocommit=True) as connection:
            connection.execute("CHECKPOINT")
        with Victim(world.environment(database)) as victim:
            time.sleep(share * world.seconds)  # the moment itself, not a wait for something
            running = victim.process.is_alive()
            kill_server()
            world.server.ensure_running()
            assert victim.finish()
        if not running:
            world.seconds = min(world.seconds, victim.seconds)
        world.judge_killed(database)
        world.heal_and_judge(database)
    return running


def _wait_for_sessions(url: str) -> None:
    """Until the server has noticed that its clients are gone: a COMMIT that was under way is done, or is not."""
    deadline = time.monotonic() + 30
    with psycopg.connect(url, autocommit=True) as connection:
        while connection.execute(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        ).fetchone():
            assert time.monotonic() < deadline, "sessions of a killed load are left"
            time.sleep(0.01)
