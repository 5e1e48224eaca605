"""The Celery application: ``celery -A sales_assets.services.mailings.celery_app worker``, and ``... beat``.

Broker, queues, the two tasks, worker start and stop, and `enqueue_planner`. A task carries at most a mailing's id and
only signals that work may be due: due messages are stored in the database, so a lost, repeated or late task costs time
at most.
Importing this module opens no connection and reads no setting.
"""

import contextlib
import logging
import sys
import threading
import time
from typing import Any

import structlog
from celery import Celery, signals
from kombu.connection import Connection
from kombu.entity import Exchange, Queue

from sales_assets.services.http.logging import configure_logging
from sales_assets.services.mailings import worker
from sales_assets.settings import SettingsError, settings

_log = structlog.get_logger()

PLAN = "mailings.plan"
DISPATCH = "mailings.dispatch"

# Older tasks are dropped, since a newer one follows. Bounds the queue while no worker runs.
_HINT_SECONDS = 60
_BROKER_SECONDS = 5
_ENQUEUE_SECONDS = 2
# A burst of new mailings enqueues two planner tasks: one at its start and one after it.
_ENQUEUE_PAUSE = 0.5


def _uses_green_threads() -> bool:
    """Return whether eventlet or gevent patched this process, which Celery does before it imports an application."""
    if "eventlet" in sys.modules:
        return bool(sys.modules["eventlet"].patcher.is_monkey_patched("socket"))
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("socket"))


def plan_queue() -> str:
    """Return the name of the queue of planner tasks."""
    return f"{settings().mailings_queue_prefix}.plan"


def dispatch_queue() -> str:
    """Return the name of the queue of dispatch tasks."""
    return f"{settings().mailings_queue_prefix}.dispatch"


def _configuration() -> dict[str, Any]:
    try:
        chosen = settings()
    except SettingsError as error:
        raise SystemExit(f"error: {error}") from None
    prefix, tick = chosen.mailings_queue_prefix, chosen.mailings_tick_seconds
    exchange = Exchange(prefix, type="direct", durable=True)
    return {
        "broker_url": chosen.rabbitmq_url.get_secret_value(),
        "broker_connection_timeout": _BROKER_SECONDS,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # Checking heartbeats under green pools costs a worker all but some ten tasks a second.
        "broker_heartbeat": 0 if _uses_green_threads() else 30,
        "broker_transport_options": {"confirm_publish": True, "write_timeout": _BROKER_SECONDS},
        "task_queues": [Queue(name, exchange, routing_key=name) for name in (plan_queue(), dispatch_queue())],
        "task_routes": {PLAN: {"queue": plan_queue()}, DISPATCH: {"queue": dispatch_queue()}},
        "task_default_queue": plan_queue(),
        "task_default_exchange": prefix,
        "task_default_routing_key": plan_queue(),
        "control_exchange": f"{prefix}.control",
        "event_exchange": f"{prefix}.events",
        "event_queue_prefix": f"{prefix}.events",
        "result_backend": None,
        "task_ignore_result": True,
        "accept_content": ["json"],
        "task_serializer": "json",
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        # Only a retried publish gets a new connection: without retries beat would keep a broken one forever.
        "task_publish_retry": True,
        "task_publish_retry_policy": {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.2},
        "worker_prefetch_multiplier": 1,
        # Several, so that a mailing need not wait for another's messages; sends within one task are concurrent anyway.
        "worker_concurrency": 4,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # After a broken connection Celery would raise the prefetch count again from the pool's threads, each waiting
        # for the broker's answer on the socket that the main thread reads. This has hung a worker permanently.
        "worker_enable_prefetch_count_reduction": False,
        "worker_hijack_root_logger": False,
        # In memory: a tick needs no state from beat's file.
        "beat_scheduler": "celery.beat:Scheduler",
        "beat_max_loop_interval": min(tick, 5),
        "beat_schedule": {"plan": {"task": PLAN, "schedule": tick, "options": {"expires": max(5 * tick, 10.0)}}},
        "timezone": "UTC",
        "enable_utc": True,
    }


app = Celery("mailings", set_as_current=False)
app.add_defaults(_configuration)


def _plan() -> None:
    """Start and finish mailings; enqueue dispatch tasks where messages are due."""
    with app.connection_for_write() as connection:
        for mailing_id in worker.plan(lambda: _waiting_dispatches(connection)):
            dispatch.apply_async((mailing_id,), connection=connection, expires=_HINT_SECONDS, retry=False)


def _dispatch(mailing_id: int) -> None:
    """Send due messages of a mailing for a few seconds."""
    worker.dispatch(mailing_id)


plan = app.task(_plan, name=PLAN)
dispatch = app.task(_dispatch, name=DISPATCH)


def _waiting_dispatches(connection: Any) -> int:
    """Return the number of dispatch tasks that wait at the broker."""
    with connection.channel() as channel:
        return int(channel.queue_declare(dispatch_queue(), passive=True).message_count)


# --- worker start and stop ----------------------------------------------------------------------------------------


def _configure_logging(loglevel: Any = None, **_signal: Any) -> None:
    # Celery's default is WARNING, which hides starts and stops.
    configure_logging(min(loglevel, logging.INFO) if isinstance(loglevel, int) else logging.INFO)


def _worker_starts(**_signal: Any) -> None:
    _configure_logging()  # Celery does so later
    worker.start()


def _worker_ready(**_signal: Any) -> None:
    _log.info("worker ready", queue_prefix=settings().mailings_queue_prefix)


def _worker_ends(**_signal: Any) -> None:
    worker.stop()


# weak=False: signals hold weak references by default.
signals.setup_logging.connect(_configure_logging, weak=False)
signals.worker_init.connect(_worker_starts, weak=False)
signals.worker_ready.connect(_worker_ready, weak=False)
signals.worker_shutting_down.connect(_worker_ends, weak=False)


# --- requesting a plan --------------------------------------------------------------------------------------------


class _Enqueuer:
    """Publish at most one `plan` task at a time, in a thread that an unreachable broker may block forever."""

    def __init__(self) -> None:
        self._wanted = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def enqueue_planner(self) -> None:
        self._wanted.set()
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="enqueue planner", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            try:
                self._publish()
            except Exception as error:  # noqa: BLE001 - beat's tick follows; the text may have the broker's address
                _log.warning("could not enqueue planner task", error=type(error).__name__)
            time.sleep(_ENQUEUE_PAUSE)

    def _publish(self) -> None:
        limits = {"confirm_publish": True, "read_timeout": _ENQUEUE_SECONDS, "write_timeout": _ENQUEUE_SECONDS}
        url = settings().rabbitmq_url.get_secret_value()
        with contextlib.closing(
            Connection(url, connect_timeout=_ENQUEUE_SECONDS, heartbeat=0, transport_options=limits)
        ) as connection:
            plan.apply_async(connection=connection, retry=False, expires=_HINT_SECONDS)


_enqueuer = _Enqueuer()


def enqueue_planner() -> None:
    """Enqueue a planner task. Returns at once.

    Best effort: where the broker is unreachable, beat's next tick finds the mailing.
    """
    _enqueuer.enqueue_planner()
