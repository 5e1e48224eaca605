"""Backfills on several workers: same result as a load in one process, also when a worker is killed."""

import os
import random
import re
import signal
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from sales_assets.cli.console import INTERRUPTED
from sales_assets.defs.load_events import LOCK_WAITS
from sales_assets.defs.mart.f_sales import F_SALES
from sales_assets.deploy.backfills import BackfillReader, seconds_without_daemon
from sales_assets.postgres.embedded import EmbeddedPostgres
from sales_assets.services.http.server import running
from sales_assets.simulators.report_api.app import ReportApi
from sales_assets_tests.builders import Order, ReportFolderBuilder, days_between
from sales_assets_tests.conftest import KEY
from sales_assets_tests.deploy.topology import Started, Topology, most_connections
from sales_assets_tests.faults.subprocess_targets import contents, names, unequal_to_staging
from sales_assets_tests.services.partner_orders.fixtures import need_broker, until

FIRST, LAST = "2024-06-01", "2024-09-28"
DAYS = days_between(FIRST, LAST)
DAYS_PER_RUN = 30
WORKERS = 4
# The daemon checks a backfill for new and finished runs every 30 seconds.
_SECONDS = 240

pytestmark = [pytest.mark.broker, pytest.mark.external, pytest.mark.timeout(900)]


class Platform(Topology):
    """A topology with report files, and a second warehouse that is loaded by one process as a reference."""

    reports: ReportFolderBuilder
    undisturbed_url: str
    undisturbed_storage_url: str

    def write(self, seed: int, days: list[str]) -> None:
        """Replace the increments of the days."""
        rng = random.Random(seed)
        for day in days:
            lines: list[Order | str] = [
                Order(
                    f"{seed}-{day}-{number}",
                    day=day,
                    amount=f"{rng.randint(1, 500)}.{rng.randint(10, 99)}",
                    status=rng.choice(["shipped", "refunded"]),
                    customer_id=str(rng.randint(50, 60)),
                    item_id=str(rng.randint(1, 5)),
                )
                for number in range(rng.randint(1, 5))
            ]
            self.reports.increment(day, lines, price_log=f"Milk,{rng.randint(90, 110)}\n")

    def load_in_one_process(self, days: list[str]) -> Started:
        """Start a load of the days into the reference warehouse, which runs while the test waits for the daemon."""
        databases = {"WAREHOUSE_URL": self.undisturbed_url, "DAGSTER_STORAGE_URL": self.undisturbed_storage_url}
        command = ("sales_assets.cli", "load", "--report", "--from", days[0], "--to", days[-1])
        return self.start(f"one{len(self.started)}", *command, **databases)

    def require_equal_to(self, one: Started) -> None:
        """Check that the mart equals that of the reference warehouse, and its own staging."""
        one.succeeds()
        assert contents(self.warehouse_url) == contents(self.undisturbed_url)
        assert names(self.warehouse_url) == names(self.undisturbed_url)
        assert unequal_to_staging(self.warehouse_url) == []

    @contextmanager
    def loads_held_up(self) -> Iterator[None]:
        """Block all loads at their first read of the mart."""
        with psycopg.connect(self.warehouse_url) as holder:
            holder.execute("LOCK TABLE mart.f_sales IN ACCESS EXCLUSIVE MODE")
            yield

    def lock_waits(self, runs: Collection[str]) -> int:
        """Count the materializations of these runs that waited for locks of other runs."""
        statement = "SELECT count(*) FROM event_logs WHERE event LIKE %s AND run_id = ANY(%s)"
        with psycopg.connect(self.storage_url) as connection:
            row = connection.execute(statement, [f"%{LOCK_WAITS}%", list(runs)]).fetchone()
        assert row is not None
        return int(row[0])

    @staticmethod
    def started_runs(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
        return list(instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])))

    def worker_of(self, instance: dg.DagsterInstance, run: dg.DagsterRun) -> Started:
        """Return the worker that executes a run, found by the pid in the run's log."""
        messages = (entry.message for entry in instance.all_logs(run.run_id))
        pid = next(int(found[1]) for message in messages if (found := re.search(r"\(pid: (\d+)\)", message or "")))
        return next(worker for worker in self.workers() if worker.process.pid == os.getpgid(pid))

    def backfill(self, instance: dg.DagsterInstance, days: list[str]) -> tuple[Started, BackfillReader]:
        """Start `sales-assets backfill` once the daemon has reported a heartbeat."""
        until(lambda: seconds_without_daemon(instance) is None, seconds=_SECONDS)
        command = self.start(
            f"backfill{len(self.started)}", "sales_assets.cli", "backfill", "--from", days[0], "--to", days[-1]
        )
        requested = until(lambda: re.findall(r"^backfill (\w+): ", command.log(), re.MULTILINE), seconds=_SECONDS)
        return command, BackfillReader(instance, requested[0], F_SALES)


@contextmanager
def platform_running(server: EmbeddedPostgres, folder: Path, **settings: str) -> Iterator[Platform]:
    """Run a daemon, a code server and four workers, with one report loaded."""
    reports = ReportFolderBuilder(folder / "reports")
    names_of = {name: f"{name}_{os.getpid()}" for name in ("shared", "storage", "undisturbed", "undisturbed_storage")}
    with psycopg.connect(server.url("sales"), autocommit=True) as connection:
        for name, database in names_of.items():
            template = "template1" if "storage" in name else "migrated_template"
            connection.execute(f"CREATE DATABASE {database} TEMPLATE {template}".encode())
    urls = {name: server.url(database) for name, database in names_of.items()}
    with running(ReportApi(reports.folder, api_key=KEY, report_seconds=0)) as api:
        settings = {"REPORT_API_KEY": KEY, "SALES_DAYS_PER_RUN": str(DAYS_PER_RUN), **settings}
        platform = Platform(folder, urls["shared"], urls["storage"], api, settings)
        platform.reports = reports
        platform.undisturbed_url, platform.undisturbed_storage_url = urls["undisturbed"], urls["undisturbed_storage"]
        reports.report([Order("report", day=FIRST)])
        try:
            for number in range(WORKERS):
                platform.start_worker(f"worker{number}")
            platform.start_code_server_and_daemon()
            platform.start("report", "sales_assets.cli", "load", "--report", "--from", FIRST, "--to", FIRST).succeeds()
            yield platform
        finally:
            platform.end()
    with psycopg.connect(server.url("sales"), autocommit=True) as connection:
        for database in names_of.values():
            connection.execute(f"DROP DATABASE {database} WITH (FORCE)".encode())


@pytest.fixture(scope="module")
def platform(server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    need_broker()
    with platform_running(server, tmp_path_factory.mktemp("machines")) as platform:
        yield platform


def test_four_workers_load_what_one_process_loads(platform: Platform) -> None:
    platform.write(1, DAYS)
    one = platform.load_in_one_process(DAYS)
    most = most_of_worker = 0
    with platform.instance() as instance:
        with platform.loads_held_up():
            command, reader = platform.backfill(instance, DAYS)
            until(lambda: len(platform.started_runs(instance)) == WORKERS, seconds=_SECONDS)

        def ended() -> bool:
            nonlocal most, most_of_worker
            most = max(most, len(platform.sessions()))
            most_of_worker = max(most_of_worker, most_connections(platform.workers()))
            return command.process.poll() is not None

        until(ended, seconds=_SECONDS)
        progress = reader.read()
    assert (progress.status, progress.failures, command.process.returncode) == ("COMPLETED_SUCCESS", [], 0)
    assert (progress.runs, progress.finished_runs, progress.finished_days) == (WORKERS, WORKERS, len(DAYS))
    assert f"{WORKERS} of {WORKERS} runs" in command.log()
    assert re.search(rf"days requested +│ {len(DAYS)} ", command.log())
    platform.require_equal_to(one)
    assert platform.lock_waits(progress.run_ids) == 0  # the runs load different days
    assert most_of_worker in range(3, 13)
    assert most in range(4 * 3, 61)


def test_run_of_a_killed_worker_is_repeated_by_another(platform: Platform) -> None:
    """The lost run is detected and repeated by another worker, without manual steps."""
    changed = DAYS[:60]
    platform.write(2, changed)
    one = platform.load_in_one_process(changed)
    with platform.instance() as instance:
        with platform.loads_held_up():
            command, reader = platform.backfill(instance, changed)
            until(lambda: len(platform.started_runs(instance)) == 2, seconds=_SECONDS)
            platform.worker_of(instance, platform.started_runs(instance)[0]).kill()
            platform.start_worker("worker_in_its_place")  # replaces the killed worker for the other tests
            command.process.send_signal(signal.SIGINT)
            assert command.process.wait(_SECONDS) == INTERRUPTED
        again = f"sales-assets backfill --follow {reader.backfill_id}"
        assert f"`{again}` shows it, `sales-assets backfill --cancel {reader.backfill_id}` cancels it" in command.log()
        platform.start("again", "sales_assets.cli", *again.split()[1:]).succeeds()
        progress = reader.read()
    assert (progress.status, progress.failures) == ("COMPLETED_SUCCESS", [])
    assert (progress.runs, progress.finished_runs, len(progress.run_ids)) == (2, 2, 3)
    platform.require_equal_to(one)
