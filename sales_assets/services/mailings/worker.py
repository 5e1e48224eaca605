"""A Celery worker process: the resources that its tasks share, and the event loop that runs them.

In every Celery pool (threads, processes, solo, or green threads) a process has one event loop in one thread for all
tasks: sends are concurrent there, and a task waits for its result. psycopg's asynchronous connections are used in that
loop only, so that nothing blocks a green pool.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import psycopg
import structlog
from prometheus_client import CollectorRegistry, start_http_server

from sales_assets.postgres.connection import UnusableDatabaseError, connect
from sales_assets.postgres.database import warehouse_url
from sales_assets.postgres.queries import statements
from sales_assets.services.mailings.dispatch import Dispatcher, Pace
from sales_assets.services.mailings.message_repository import MessageRepository
from sales_assets.services.mailings.metrics import Sends
from sales_assets.services.mailings.planner import Planner
from sales_assets.services.mailings.sender_client import SenderClient
from sales_assets.services.mailings.unsubscribe import links_of
from sales_assets.settings import Settings, settings

_log = structlog.get_logger()
T = TypeVar("T")

# Limits of a task's duration, which otherwise is the planner's interval: not less than the default, so that a busy
# mailing continues without a gap, and far less than the broker's timeout for an acknowledgement.
_SHORTEST_TASK, _LONGEST_TASK = 5.0, 60.0

_NO_SENDER = "http://127.0.0.1:9"

_lock = threading.Lock()
_process: "_Process | None" = None
_metrics = Sends(CollectorRegistry())


class _Process:
    """The event loop in its thread, and the resources used in it."""

    def __init__(self, chosen: Settings) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="mailings", daemon=True)
        self._thread.start()
        url = warehouse_url()
        self.planner = Planner(
            MessageRepository(url, "planner", long=True),
            send_seconds=chosen.sender_timeout,
            can_send=bool(chosen.sender_url),
        )
        self.planning = threading.Lock()
        self.dispatcher = self.run(self._open(url, chosen))

    async def _open(self, url: str, chosen: Settings) -> Dispatcher:
        sender = SenderClient(
            chosen.sender_url or _NO_SENDER,
            chosen.sender_token.get_secret_value(),
            timeout=chosen.sender_timeout,
            connections=chosen.mailings_in_flight,
        )
        pace = Pace(
            timeout=chosen.sender_timeout,
            rate=chosen.sender_rate,
            retry_seconds=chosen.sender_retry_seconds,
            lease_seconds=chosen.mailings_lease_seconds,
            in_flight=chosen.mailings_in_flight,
        )
        return await Dispatcher(url, sender, pace, _metrics, links=links_of(chosen)).__aenter__()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()


def _this_process() -> _Process:
    """Return the resources of this process, created on first use: after the fork in a pool of processes."""
    global _process
    with _lock:
        if _process is None or _process.pid != os.getpid():
            _process = _Process(settings())
        return _process


def plan(count_waiting: Callable[[], int]) -> list[int]:
    """Run the planner and return the mailings to dispatch; none while another run in this process is in progress."""
    process = _this_process()
    if not process.planning.acquire(blocking=False):
        return []
    try:
        process.run(process.planner.plan())
        return process.run(process.planner.dispatch_tasks(count_waiting()))
    except (psycopg.Error, TimeoutError, OSError) as error:
        # Drivers' messages contain addresses and user names. The next tick tries again.
        _log.error("planning failed", error=type(error).__name__)
        return []
    finally:
        process.planning.release()


def dispatch(mailing_id: int) -> None:
    """Send due messages of a mailing for one planner tick, within bounds."""
    if not settings().sender_url:
        _log.warning("SENDER_URL is not set, messages stay pending", mailing_id=mailing_id)
        return
    process = _this_process()
    try:
        seconds = max(_SHORTEST_TASK, min(settings().mailings_tick_seconds, _LONGEST_TASK))
        taken = process.run(process.dispatcher.dispatch(mailing_id, seconds))
    except (psycopg.Error, TimeoutError, OSError) as error:
        _log.error("dispatch failed", mailing_id=mailing_id, error=type(error).__name__)
        return
    _log.info("messages dispatched", mailing_id=mailing_id, messages=taken)


def start() -> None:
    """Prepare the Celery main process before the first task. Raises `SystemExit` if the schema is missing."""
    chosen = settings()
    try:
        with connect(warehouse_url(), "sales_assets mailings start", patience=0) as connection:
            row = connection.execute(statements("mailings/message")["is_there"]).fetchone()
    except UnusableDatabaseError as error:
        raise SystemExit(f"error: {error}") from None
    except psycopg.OperationalError as error:
        _log.error("database unavailable", error=type(error).__name__)
    else:
        if row is None or not row["is_there"]:
            raise SystemExit("error: the warehouse has no mailings: run `sales-assets migrate`")
    if not chosen.sender_url:
        _log.warning("SENDER_URL is not set, nothing will be sent")
    if chosen.mailings_metrics_port is not None:
        start_http_server(chosen.mailings_metrics_port, addr=chosen.mailings_metrics_host, registry=_metrics.registry)


def stop() -> None:
    """Finish the sends in flight and start no others; called at the first shutdown signal."""
    if _process is not None and _process.pid == os.getpid():
        _process.dispatcher.stop()
