"""A platform of several processes: daemon, code server and Celery workers, each with a separate SALES_HOME.

The processes share only PostgreSQL, RabbitMQ and a folder of raw files.
"""

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import psycopg
from kombu.connection import Connection

from sales_assets.settings import OUR_PREFIXES
from sales_assets_tests.cli.processes import as_in_the_foreground, free_port
from sales_assets_tests.services.partner_orders.fixtures import BROKER_URL, broker_reachable

# dagster.yaml of the daemon, as written by an operator. Workers and code server use the generated file.
DAGSTER_YAML = """
storage:
  custom:
    module: sales_assets.deploy.storage
    class: Storage
    config: {}

run_launcher:
  module: sales_assets.deploy.run_launcher
  class: RunLauncher
  config:
    silent_looks: 3
    answer_seconds: 1.0

run_coordinator:
  module: dagster.core.run_coordinator
  class: QueuedRunCoordinator
  config:
    max_concurrent_runs: 4
    dequeue_interval_seconds: 1

run_monitoring:
  enabled: true
  start_timeout_seconds: 3600
  poll_interval_seconds: 2

run_retries:
  enabled: true
  max_retries: 2
  retry_on_asset_or_op_failure: false

telemetry:
  enabled: false
"""
_SECONDS = 240
_WORKSPACE = """
load_from:
  - grpc_server:
      host: 127.0.0.1
      port: {port}
      location_name: sales_assets
"""


@dataclass
class Started:
    """A process and its children."""

    name: str
    process: "subprocess.Popen[bytes]"
    log_file: Path

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def kill(self) -> None:
        """Send SIGKILL to the process and its children at once."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def succeeds(self) -> None:
        """Wait until the process ends, and assert that it succeeded."""
        assert self.process.wait(_SECONDS) == 0, self.log()


@dataclass
class Topology:
    """Shared services and started processes."""

    folder: Path
    warehouse_url: str
    storage_url: str
    report_api_url: str
    settings: Mapping[str, str] = field(default_factory=dict)
    code_port: int = field(default_factory=free_port)
    queue: str = field(default_factory=lambda: f"test_{secrets.token_hex(6)}")
    started: list[Started] = field(default_factory=list)

    def environment(self, name: str) -> dict[str, str]:
        """Return the environment of a process; its SALES_HOME has the name of the process."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith((*OUR_PREFIXES, "DAGSTER_"))}
        return inherited | {
            "SALES_HOME": str(self.folder / name),
            "DAGSTER_HOME": str(self.folder / name / "dagster"),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "WAREHOUSE_URL": self.warehouse_url,
            "DAGSTER_STORAGE_URL": self.storage_url,
            "RAW_FILES_URL": str(self.folder / "shared"),
            "REPORT_API_URL": self.report_api_url,
            "RABBITMQ_URL": BROKER_URL,
            "SALES_RUNS_QUEUE": self.queue,
            **self.settings,
        }

    def start(self, name: str, *command: str, **settings: str) -> Started:
        home = self.folder / name
        home.mkdir(parents=True, exist_ok=True)
        log = self.folder / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                env=self.environment(name) | settings,
                cwd=home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=as_in_the_foreground,
            )
        self.started.append(Started(name, process, log))
        return self.started[-1]

    def start_worker(self, name: str) -> Started:
        return self.start(
            name, "celery", "-A", "sales_assets.deploy.run_workers", "worker", "-n", f"{name}@test", "-l", "INFO"
        )

    def start_code_server_and_daemon(self) -> None:
        home = self.folder / "daemon" / "dagster"
        home.mkdir(parents=True)
        (home / "dagster.yaml").write_text(DAGSTER_YAML)
        self.workspace.write_text(_WORKSPACE.format(port=self.code_port))
        self.start_code_server()
        self.start_daemon()

    @property
    def workspace(self) -> Path:
        return self.folder / "daemon" / "dagster" / "workspace.yaml"

    def start_code_server(self) -> Started:
        address = ("-h", "127.0.0.1", "-p", str(self.code_port))
        return self.start("code", "dagster", "api", "grpc", "-m", "sales_assets.definitions", *address)

    def start_daemon(self) -> Started:
        return self.start("daemon", "sales_assets.cli", "daemon", "--workspace", str(self.workspace))

    def workers(self) -> list[Started]:
        """Return the running workers."""
        return [one for one in self.started if one.name.startswith("worker") and one.process.poll() is None]

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        """Open Dagster's instance with the storage of the platform, instead of the storage in the test's settings."""
        home = self.folder / "test" / "dagster"
        home.mkdir(parents=True, exist_ok=True)
        url = json.dumps(self.storage_url)
        (home / "dagster.yaml").write_text(DAGSTER_YAML.replace("config: {}", f"config: {{postgres_url: {url}}}"))
        with dg.DagsterInstance.from_config(str(home)) as instance:
            yield instance

    def sessions(self) -> list[str]:
        """Return the application names of all sessions in the platform's two databases."""
        names = [psycopg.conninfo.conninfo_to_dict(url)["dbname"] for url in (self.warehouse_url, self.storage_url)]
        with psycopg.connect(self.warehouse_url) as connection:
            rows = connection.execute(
                "SELECT application_name FROM pg_stat_activity WHERE datname = ANY(%s) AND pid <> pg_backend_pid()",
                [names],
            ).fetchall()
        return [row[0] for row in rows]

    def end(self) -> None:
        for process in self.started:
            process.kill()
        if not broker_reachable():
            return
        with Connection(BROKER_URL, connect_timeout=5) as connection, connection.channel() as channel:
            channel.queue_delete(self.queue)
            for exchange in ("", ".control.pidbox", ".events"):
                channel.exchange_delete(f"{self.queue}{exchange}")
            channel.exchange_delete(f"reply.{self.queue}.control.pidbox")


def most_connections(workers: Iterable[Started]) -> int:
    """Return the largest number of PostgreSQL connections (connected Unix sockets) of a worker and its children."""
    streams = {
        f"socket:[{fields[6]}]"
        for fields in (line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:])
        if fields[4] == "0001" and fields[5] == "03"
    }
    found: dict[int, set[str]] = {worker.process.pid: set() for worker in workers}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            group = os.getpgid(int(entry.name))
            if group in found:
                found[group] |= {str(descriptor.readlink()) for descriptor in (entry / "fd").iterdir()}
    return max((len(links & streams) for links in found.values()), default=0)
