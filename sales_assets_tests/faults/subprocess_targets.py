"""Processes that load days or erase a person until they are killed, and assertions on the mart afterwards.

Each process is forked from a process that has imported everything, so that a kill costs a load, but no start of Python.
The forked process inherits no connection and no thread.
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
    """Import all that a load imports, in the process from which the load processes are forked."""
    from sales_assets.cli import load  # noqa: F401
    from sales_assets.deploy import instance, runs  # noqa: F401

    _definitions()


def _load(environment: Mapping[str, str], kill_at: int | None, done: Any, days: tuple[str, str]) -> None:
    """Load the days and send (end time, points passed, failures); kill the process at point `kill_at`, if any."""
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
    # Each process stores Dagster's events in memory: storing them in a database would take most of a load's time.
    mock.patch.object(instance, "prepare_dagster_home").start()
    mock.patch.object(dg.DagsterInstance, "get", dg.DagsterInstance.ephemeral).start()
    passed = _arm(kill_at)
    try:
        first, last = map(dt.date.fromisoformat, days)
        result = load.load_days(fresh_report=True, from_day=first, to_day=last, progress=Progress())
        done.send((time.monotonic(), passed(), result.failures))
    except Exception as error:  # noqa: BLE001  the test reads it
        done.send((time.monotonic(), passed(), [f"{type(error).__name__}: {error}"]))


def forget(environment: Mapping[str, str], kill_at: int | str | None, done: Any, days: tuple[str, str]) -> None:
    """Erase customer 51 like `sales-assets forget`; kill the process at point `kill_at`, if any."""
    import typer

    from sales_assets import settings
    from sales_assets.cli.forget import forget

    os.environ.clear()
    os.environ.update(environment)
    settings.settings.cache_clear()
    passed = _arm(kill_at)
    try:
        forget(customer=51, phone=None)
        done.send((time.monotonic(), passed(), []))
    except typer.Exit:
        done.send((time.monotonic(), passed(), ["something is left"]))


def _arm(kill_at: int | str | None) -> Callable[[], int]:
    """Count points before and after every statement, commit, block of COPY, fsync, rename, deletion and HTTP call.

    Kill the process at the point `kill_at`; if that is a name, before the first call with this name.
    Return a function that returns the latest point.
    """
    import requests

    counter, latest = itertools.count(1), 0

    def point(name: str = "") -> None:
        nonlocal latest
        latest = next(counter)
        if kill_at in (latest, name or latest):
            os.kill(os.getpid(), signal.SIGKILL)

    def watched(call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def run(*args: Any, **kwargs: Any) -> Any:
            point(call.__name__)
            result = call(*args, **kwargs)
            point()
            return result

        return run

    places: list[tuple[Any, str]] = [
        (psycopg.Connection, "execute"),
        (psycopg.Connection, "commit"),
        (psycopg.Copy, "write"),
        (os, "fsync"),
        (os, "replace"),
        (os, "remove"),
        (requests.Session, "request"),
    ]
    for owner, name in places:
        setattr(owner, name, watched(getattr(owner, name)))
    return lambda: latest


# --- in the test ----------------------------------------------------------------------------------------------


@dataclass
class TargetProcess:
    """A separate process that runs a load, or another target of this module."""

    environment: Mapping[str, str]
    kill_at: int | str | None = None
    days: tuple[str, str] = (FIRST, LAST)
    points: int = 0
    seconds: float = 0.0
    target: Callable[..., None] = _load
    failures: list[str] = field(default_factory=list)

    def __enter__(self) -> "TargetProcess":
        _CONTEXT.set_forkserver_preload(["sales_assets_tests.faults.preloaded"])
        self._receive_end, send_end = _CONTEXT.Pipe(duplex=False)
        self.process = _CONTEXT.Process(
            target=self.target, args=(dict(self.environment), self.kill_at, send_end, self.days)
        )
        self.process.start()
        self.started = time.monotonic()
        send_end.close()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._receive_end.close()

    def kill(self) -> None:
        if self.process.is_alive():
            self.process.kill()
        self.process.join(_SECONDS)

    def finish(self) -> bool:
        """Wait for the end of the process; return False if it was killed before it sent its result."""
        assert self._receive_end.poll(_SECONDS), "the load neither ended nor died"
        try:
            ended, self.points, self.failures = self._receive_end.recv()
        except EOFError:
            self.process.join(_SECONDS)
            assert self.process.exitcode == -signal.SIGKILL, f"the load died by itself: {self.process.exitcode}"
            return False
        self.seconds = ended - self.started  # all processes of a machine share this clock
        self.process.join(_SECONDS)
        return True


def load_undisturbed(environment: Mapping[str, str], days: tuple[str, str] = (FIRST, LAST)) -> tuple[int, float]:
    """Load to the end; return the points passed and the seconds taken."""
    with TargetProcess(environment, days=days) as target_process:
        assert target_process.finish()
    # Needs a message: pytest explains only assertions of tests.
    assert target_process.failures == [], target_process.failures
    return target_process.points, target_process.seconds


class KillScenario:
    """A mart in an old state, report files in a new one, and a copy of the old mart for each kill."""

    def __init__(self, server: EmbeddedPostgres, reports: ReportFolderBuilder, raw_files: Path | str) -> None:
        self.server, self.reports = server, reports
        self.raw_files = str(raw_files)
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
        return os.environ | {"RAW_FILES_URL": self.raw_files, "WAREHOUSE_URL": self.server.url(database)}

    def copy(self) -> "_Copy":
        return _Copy(self, f"moment_{os.getpid()}_{next(_NUMBERS)}")

    def check_killed(self, database: str) -> None:
        """Check that each day is entirely old or entirely new, and equal to staging."""
        found = contents(self.server.url(database))
        for day in {*self.old, *self.new}:
            assert found.get(day, []) in (self.old.get(day, []), self.new.get(day, [])), f"{day} is half there"
        assert unequal_to_staging(self.server.url(database)) == []

    def reload_and_check(self, database: str) -> None:
        """Check that one more run produces the mart of an undisturbed load."""
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
        """Write old increments (of the first 20 days) or new ones (of the last 26, with other, fewer or no lines)."""
        rng = random.Random(int(old))
        report = [_order(rng, f"report{n}", day) for n, day in enumerate(DAYS[:10] * 3)]
        self.reports.report([Order("before", day="2024-09-25"), *report], price_log="Milk,100\n")
        for day in DAYS[:20] if old else DAYS[4:]:
            number = 0 if not old and day in DAYS[6:9] else rng.randint(1, 12)
            lines: list[Order | str] = [_order(rng, f"{old}{n}", day) for n in range(number)]
            self.reports.increment(day, [*lines, *lines[:2]], price_log=f"Milk,{rng.randint(90, 110)}\n")


_NUMBERS = itertools.count(1)


def _order(rng: random.Random, name: str, day: str) -> Order:
    item = str(rng.randint(1, 5))
    return Order(
        f"{name}-{day}",
        day=day,
        quantity=str(rng.randint(0, 3)),
        amount=f"{rng.randint(0, 500)}.{rng.randint(10, 99)}",
        status=rng.choice([None, "shipped", "refunded"]),
        city_id=str(rng.randint(1, 3)),
        customer_id=str(rng.randint(50, 60)),
        item_id=item,
        item_name=f"Item {item} of {day}",
    )


@dataclass
class _Copy:
    """A copy of the old database, dropped at the end."""

    scenario: KillScenario
    name: str

    def __enter__(self) -> str:
        self.scenario._make(self.name, self.scenario._old)
        return self.name

    def __exit__(self, *_: object) -> None:
        with psycopg.connect(self.scenario.server.url("sales"), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(self.name)))


def contents(url: str) -> Contents:
    """Return the rows of the mart by day, without the ids, which differ between loads."""
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
    """Yield random (name, moment) pairs: points within the load alternating with fractions of its duration."""
    rng = random.Random(seed)
    inside = rng.sample(range(1, points + 1), min(points, number // 2))
    for place, share in zip(inside, (rng.random() for _ in range(number - number // 2)), strict=False):
        yield f"point {place}", place
        yield f"share {share:.4f}", share


def kill_during_load(scenario: KillScenario, moment: tuple[str, float]) -> bool:
    """Kill a load at a moment; check, load again and check. Return whether the load was killed before its end."""
    name, value = moment
    with scenario.copy() as database:
        with TargetProcess(
            scenario.environment(database), int(value) if name.startswith("point") else None
        ) as target_process:
            if name.startswith("share"):
                time.sleep(value * scenario.seconds)  # the moment itself, not a wait for an event
                target_process.kill()
            killed = not target_process.finish()
        if not killed:
            # The machine may have been busier when the duration was measured; then fractions of it would come too late.
            scenario.seconds = min(scenario.seconds, target_process.seconds)
        wait_for_sessions(scenario.server.url(database))
        scenario.check_killed(database)
        scenario.reload_and_check(database)
    return killed


def kill_server_during_load(scenario: KillScenario, share: float, kill_server: Callable[[], None]) -> bool:
    """Kill the server after a fraction of a load's duration and restart it; check, load again and check.

    The load may continue if it has no open connection at that moment. Return whether the load was still running.
    """
    with scenario.copy() as database:
        # A copied sequence returns up to 32 numbers before it writes a log record, and returns them again if the server
        # dies before its next checkpoint. A warehouse that was migrated in place does not have this problem.
        with psycopg.connect(scenario.server.url(database), autocommit=True) as connection:
            connection.execute("CHECKPOINT")
        with TargetProcess(scenario.environment(database)) as target_process:
            time.sleep(share * scenario.seconds)  # the moment itself, not a wait for an event
            running = target_process.process.is_alive()
            kill_server()
            scenario.server.ensure_running()
            assert target_process.finish()
        if not running:
            scenario.seconds = min(scenario.seconds, target_process.seconds)
        scenario.check_killed(database)
        scenario.reload_and_check(database)
    return running


def wait_for_sessions(url: str) -> None:
    """Wait until the server has noticed the lost clients: then a pending COMMIT is either complete or rolled back."""
    deadline = time.monotonic() + 30
    with psycopg.connect(url, autocommit=True) as connection:
        while connection.execute(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        ).fetchone():
            assert time.monotonic() < deadline, "sessions of a killed load are left"
            time.sleep(0.01)
