"""Celery worker and beat processes for tests, with a simulated sender and separate queue names."""

import asyncio
import json
import os
import re
import secrets
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from kombu.connection import Connection
from prometheus_client import CollectorRegistry

from sales_assets.services.http.server import running
from sales_assets.services.mailings.dispatch import Clock, Dispatcher, Pace
from sales_assets.services.mailings.message_repository import MessageRepository
from sales_assets.services.mailings.metrics import Sends
from sales_assets.services.mailings.planner import Planner
from sales_assets.services.mailings.sender_client import SenderClient
from sales_assets.services.mailings.unsubscribe import UnsubscribeLinks
from sales_assets.simulators.sender_api import SenderApi
from sales_assets_tests.cli.processes import listening
from sales_assets_tests.services.partner_orders.fixtures import BROKER_URL, broker_reachable, until

TOKEN = "the-token-of-the-tests"
TEXT = "a text that no log may hold"
PHONES_FROM = 79_000_000_000
# The clients in tests have phones that differ from any id or time in a log.
PHONE = re.compile(r"7900\d{7}")
_START_SECONDS = 90

FINAL = "SELECT count(*) FROM mailings.message WHERE status = 'Pending'"


@dataclass
class MailingsEnvironment:
    """A database with clients and mailings, a sender, a broker, and the Celery processes started by a test."""

    database_url: str
    sender: SenderApi
    sender_url: str
    folder: Path
    broker_url: str = BROKER_URL
    prefix: str = field(default_factory=lambda: f"test_{secrets.token_hex(6)}")
    settings: dict[str, str] = field(default_factory=dict)
    started: "list[CeleryProcess]" = field(default_factory=list)

    # --- data -----------------------------------------------------------------------------------------------------

    def query(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run and commit a statement; return its rows, if any."""
        with psycopg.connect(self.database_url) as connection:
            cursor = connection.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def clients(self, number: int, *, operator_code: str = "900", tag: str | None = None, zone: str = "UTC") -> None:
        self.query(
            "INSERT INTO mailings.client (phone, operator_code, tag, timezone)"
            " SELECT (%s + n)::text, %s, %s, %s FROM generate_series(1, %s) AS n",
            PHONES_FROM, operator_code, tag, zone, number,
        )  # fmt: skip

    def mailing(
        self,
        *,
        start_offset: float = -60,
        end_offset: float = 3600,
        operator_code: str | None = None,
        tag: str | None = None,
        window: tuple[str, str] | None = None,
    ) -> int:
        """Create a mailing that begins and ends this many seconds from now; return its id."""
        send_from, send_until = window or (None, None)
        rows = self.query(
            "INSERT INTO mailings.mailing (text, operator_code_filter, tag_filter, start_time, end_time, send_from,"
            " send_until) VALUES (%s, %s, %s, now() + %s * interval '1 second', now() + %s * interval '1 second', %s,"
            " %s) RETURNING mailing_id",
            TEXT, operator_code, tag, start_offset, end_offset, send_from, send_until,
        )  # fmt: skip
        return int(rows[0][0])

    def statuses(self, mailing_id: int | None = None) -> Counter[str]:
        rows = self.query(
            "SELECT status, count(*) FROM mailings.message WHERE %s::bigint IS NULL OR mailing_id = %s GROUP BY 1",
            mailing_id, mailing_id,
        )  # fmt: skip
        return Counter(dict(rows))

    def state(self, mailing_id: int) -> str:
        return str(self.query("SELECT state FROM mailings.mailing WHERE mailing_id = %s", mailing_id)[0][0])

    def finished(self, mailing_id: int, *, seconds: float = 60) -> Counter[str]:
        """Wait until the mailing is finished; return the number of messages per status."""
        until(lambda: self.state(mailing_id) == "finished", seconds=seconds)
        return self.statuses(mailing_id)

    # --- in this process --------------------------------------------------------------------------------------------

    def plan(self, *, waiting: int = 0) -> list[int]:
        """Run the planner once; return the mailing id of each dispatch task that it requests."""

        async def run_planner() -> list[int]:
            async with planner(self) as one:
                await one.plan()
                return await one.dispatch_tasks(waiting)

        return asyncio.run(run_planner())

    def dispatch(
        self,
        mailing_id: int,
        *,
        clock: Clock | None = None,
        links: UnsubscribeLinks | None = None,
        seconds: float = 60,
        **pace: Any,
    ) -> Sends:
        """Run one dispatch task until no message is due; return its metrics."""

        async def run() -> Sends:
            async with dispatcher(self, clock=clock, links=links, **pace) as (one, metrics):
                await one.dispatch(mailing_id, seconds)
                return metrics

        return asyncio.run(run())

    # --- processes ------------------------------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        return {
            "WAREHOUSE_URL": self.database_url,
            "RABBITMQ_URL": self.broker_url,
            "SENDER_URL": self.sender_url,
            "SENDER_TOKEN": TOKEN,
            "SENDER_TIMEOUT": "2",
            "SENDER_RETRY_SECONDS": "0.2",
            "MAILINGS_QUEUE_PREFIX": self.prefix,
            "MAILINGS_TICK_SECONDS": "0.3",
            "MAILINGS_LEASE_SECONDS": "2",
            "SALES_HOME": str(self.folder / "home"),
            **self.settings,
        }

    def worker(self, pool: str = "threads", *, ready: bool = True, **settings: str) -> "CeleryProcess":
        """Start a worker; by default wait until it accepts tasks."""
        process = CeleryProcess(self, ["worker", "-P", pool, "-n", f"{secrets.token_hex(4)}@test"], settings)
        self.started.append(process)
        if ready:
            process.wait_until_ready()
        return process

    def beat(self) -> "CeleryProcess":
        process = CeleryProcess(self, ["beat"], {})
        self.started.append(process)
        return process

    def log(self) -> str:
        """Return the logs of all processes."""
        return "\n".join(process.log() for process in self.started)

    def end(self) -> None:
        for process in self.started:
            process.kill()
        remove_queues(self.broker_url, self.prefix)

    def waiting(self, queue: str = "dispatch") -> int:
        """Return the number of tasks queued at the broker."""
        with Connection(self.broker_url, connect_timeout=5) as connection, connection.channel() as channel:
            return int(channel.queue_declare(f"{self.prefix}.{queue}", passive=True).message_count)


def remove_queues(broker_url: str, prefix: str) -> None:
    """Remove the queues and exchanges that the Celery processes of a prefix declared, if the broker is reachable."""
    if not broker_reachable(broker_url):
        return
    with Connection(broker_url, connect_timeout=5) as connection, connection.channel() as channel:
        for queue in ("plan", "dispatch"):
            channel.queue_delete(f"{prefix}.{queue}")
        # Celery's exchanges for remote control and events outlive its processes.
        for exchange in ("", ".control.pidbox", ".events"):
            channel.exchange_delete(f"{prefix}{exchange}")
        channel.exchange_delete(f"reply.{prefix}.control.pidbox")


class CeleryProcess:
    """A `celery` process; `kill` sends SIGKILL to the process and its children."""

    def __init__(self, mailings_env: MailingsEnvironment, arguments: list[str], settings: dict[str, str]) -> None:
        self._log = mailings_env.folder / f"{arguments[0]}-{secrets.token_hex(4)}.log"
        self.folder = mailings_env.folder / "cwd"
        self.folder.mkdir(exist_ok=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "sales_assets.services.mailings.celery_app", *arguments],
                env=os.environ | mailings_env.environment() | settings,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def listens(self) -> set[str]:
        """Return the addresses that the main process listens on."""
        return listening([self._process.pid])

    def wait_until_ready(self) -> None:
        until(lambda: "worker ready" in self.log() or not self.is_running(), seconds=_START_SECONDS)
        assert self.is_running(), self.log()

    def is_running(self) -> bool:
        return self._process.poll() is None

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def events(self, event: str) -> list[dict[str, Any]]:
        """Return the log entries of this event."""
        lines = (json.loads(line) for line in self.log().splitlines() if line.startswith("{"))
        return [line for line in lines if line.get("event") == event]

    def terminate(self) -> int:
        """Send SIGTERM; return the exit code."""
        self._process.terminate()
        return self._process.wait(60)

    def kill(self) -> None:
        if self.is_running():
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@asynccontextmanager
async def planner(mailings_env: MailingsEnvironment, *, can_send: bool = True) -> AsyncIterator[Planner]:
    messages = MessageRepository(mailings_env.database_url, "planner", long=True)
    try:
        yield Planner(messages, send_seconds=1, can_send=can_send)
    finally:
        await messages.close()


@asynccontextmanager
async def dispatcher(
    mailings_env: MailingsEnvironment,
    *,
    clock: Clock | None = None,
    links: UnsubscribeLinks | None = None,
    token: str = TOKEN,
    url: str | None = None,
    **pace: Any,
) -> AsyncIterator[tuple[Dispatcher, Sends]]:
    """Create a dispatcher, fast unless `pace` overrides it; yield the dispatcher and its metrics."""
    chosen = Pace(**{"timeout": 3, "rate": 0, "retry_seconds": 0, "lease_seconds": 5, "in_flight": 20} | pace)
    metrics = Sends(CollectorRegistry())
    sender = SenderClient(url or mailings_env.sender_url, token, timeout=chosen.timeout, connections=chosen.in_flight)
    async with Dispatcher(mailings_env.database_url, sender, chosen, metrics, links=links, clock=clock) as one:
        yield one, metrics


def counted(metrics: Sends, name: str, **labels: str) -> float:
    """Return the value of a counter's sample; 0 if there is none."""
    return metrics.registry.get_sample_value(name, labels) or 0


@contextmanager
def mailings_environment(
    database_url: str, folder: Path, *, broker_url: str = BROKER_URL, **settings: str
) -> Iterator[MailingsEnvironment]:
    """Run a simulated sender and yield a `MailingsEnvironment` that uses it; every process is killed at the end."""
    sender = SenderApi(token=TOKEN)
    folder.mkdir(parents=True, exist_ok=True)
    with running(sender) as url:
        mailings_env = MailingsEnvironment(database_url, sender, url, folder, broker_url, settings=settings)
        try:
            yield mailings_env
        finally:
            mailings_env.end()
