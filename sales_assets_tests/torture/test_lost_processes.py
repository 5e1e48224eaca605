"""`kill -9` of daemon, code server, web server and RabbitMQ during a backfill.

Each process is started again after a while, as by a supervisor. Kills of workers: `test_distributed_runs.py`; of
PostgreSQL: `faults/test_servers.py`, `faults/test_ui_up.py`; of the object store: `faults/test_object_storage.py`.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import dagster as dg
import pytest
import requests
from kombu.connection import Connection

from sales_assets.deploy.backfills import BackfillReader
from sales_assets.postgres.embedded import EmbeddedPostgres
from sales_assets_tests.cli.processes import free_port
from sales_assets_tests.deploy.test_distributed_runs import DAYS, DAYS_PER_RUN, Platform, platform_running
from sales_assets_tests.deploy.topology import Started
from sales_assets_tests.services.partner_orders.fixtures import until
from sales_assets_tests.services.partner_orders.rabbitmq_node import RabbitMQNode

_RUNS = 2
_CHANGED = DAYS[: _RUNS * DAYS_PER_RUN]
_SECONDS = 400
_AWAY_SECONDS = 20

pytestmark = [pytest.mark.broker, pytest.mark.torture, pytest.mark.timeout(1800)]


@dataclass
class KillablePlatform:
    """The platform with a separate broker that may be killed, and its processes by name."""

    platform: Platform
    broker: RabbitMQNode
    processes: dict[str, Started]
    web_port: int
    writes: int = 0

    def start_web_server(self) -> Started:
        address = ("-h", "127.0.0.1", "-p", str(self.web_port))
        workspace = self.platform.workspace
        return self.platform.start(
            "web", "dagster_webserver", "-w", str(workspace), *address, DAGSTER_HOME=str(workspace.parent)
        )

    def accepts_connections(self) -> bool:
        try:
            return requests.get(f"http://127.0.0.1:{self.web_port}/server_info", timeout=5).ok
        except requests.RequestException:
            return False

    @contextmanager
    def without(self, name: str) -> Iterator[None]:
        """Kill a process; run the block after several checks by daemon and run monitor; then restart the process."""
        starts: dict[str, Callable[[], Started]] = {
            "daemon": self.platform.start_daemon,
            "code": self.platform.start_code_server,
            "web": self.start_web_server,
        }
        if name == "broker":
            self.broker.kill()
        else:
            self.processes[name].kill()
        time.sleep(_AWAY_SECONDS)  # the outage itself, not a wait for a condition
        yield
        if name == "broker":
            self.broker.start()
        else:
            self.processes[name] = starts[name]()

    def request(self, instance: dg.DagsterInstance) -> tuple[Started, Started, BackfillReader]:
        """Deliver new increments; start a load in one process and a backfill of the same days."""
        self.writes += 1
        self.platform.write(200 + self.writes, _CHANGED)
        one = self.platform.load_in_one_process(_CHANGED)
        return one, *self.platform.backfill(instance, _CHANGED)

    def check_result(self, one: Started, command: Started, reader: BackfillReader) -> None:
        """Check that no day failed, each run was executed once, and the mart equals the result of one process."""
        assert command.process.wait(_SECONDS) == 0, command.log()
        progress = reader.read()
        assert (progress.status, progress.failures) == ("COMPLETED_SUCCESS", [])
        assert (progress.runs, progress.finished_runs, progress.finished_days) == (_RUNS, _RUNS, len(_CHANGED))
        self.platform.require_equal_to(one)


@pytest.fixture(scope="module")
def killable_platform(server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KillablePlatform]:
    folder = tmp_path_factory.mktemp("machines")
    broker = RabbitMQNode(folder / "rabbitmq")
    broker.start()
    try:
        with platform_running(server, folder, RABBITMQ_URL=broker.url) as platform:
            processes = {one.name: one for one in platform.started if one.name in ("daemon", "code")}
            killable_platform = KillablePlatform(platform, broker, processes, free_port())
            killable_platform.processes["web"] = killable_platform.start_web_server()
            until(killable_platform.accepts_connections, seconds=_SECONDS)
            yield killable_platform
    finally:
        broker.kill()


@pytest.mark.parametrize("lost", ["daemon", "code", "web", "broker"])
def test_process_killed_during_the_load_fails_no_day(killable_platform: KillablePlatform, lost: str) -> None:
    with killable_platform.platform.instance() as instance:
        with killable_platform.platform.loads_held_up():
            one, command, reader = killable_platform.request(instance)
            until(lambda: len(killable_platform.platform.started_runs(instance)) == _RUNS, seconds=_SECONDS)
            with killable_platform.without(lost):
                pass
        killable_platform.check_result(one, command, reader)
        assert len(reader.read().run_ids) == _RUNS, "a run was repeated"
    until(killable_platform.accepts_connections, seconds=_SECONDS)


@pytest.mark.parametrize("lost", ["daemon", "code", "broker"])
def test_process_killed_before_the_runs_only_delays_them(killable_platform: KillablePlatform, lost: str) -> None:
    with killable_platform.platform.instance() as instance:
        one, command, reader = killable_platform.request(instance)
        with killable_platform.without(lost):
            if lost == "broker":
                until(lambda: _queued_again(instance, reader), seconds=_SECONDS)
        killable_platform.check_result(one, command, reader)


def test_runs_whose_messages_were_lost_are_launched_again(killable_platform: KillablePlatform) -> None:
    """The test deletes the messages, as if RabbitMQ lost its disk, or the daemon was killed before sending them."""
    platform = killable_platform.platform
    workers = platform.workers()
    for worker in workers:
        worker.kill()
    with platform.instance() as instance:
        one, command, reader = killable_platform.request(instance)
        starting = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING])
        until(lambda: len(instance.get_runs(starting)) == _RUNS, seconds=_SECONDS)
        with Connection(killable_platform.broker.url) as connection, connection.channel() as channel:
            until(lambda: channel.queue_declare(platform.queue, passive=True).message_count == _RUNS)
            channel.queue_purge(platform.queue)
        for number, _ in enumerate(workers):
            platform.start_worker(f"worker_again{number}")
        killable_platform.check_result(one, command, reader)
        assert len(reader.read().run_ids) == _RUNS, "a run was repeated"


def _queued_again(instance: dg.DagsterInstance, reader: BackfillReader) -> bool:
    messages = [entry.message for run in reader.read().run_ids for entry in instance.all_logs(run)]
    return any(text.startswith("RabbitMQ can't be reached, the run is queued again") for text in messages)
