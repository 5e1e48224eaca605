"""The Celery application that executes Dagster's runs: ``celery -A sales_assets.deploy.run_workers worker``.

Requires the extra ``workers``. `run_launcher.RunLauncher` sends a run as one task; a worker executes it in a process
that is forked for it. Importing this module opens no connection and reads no setting.

A message is acknowledged when its run has ended. If a worker is lost before that, RabbitMQ delivers the message to
another worker. If the run had not started, it starts there; if it had, Dagster ignores the second start, and
`run_launcher` detects that the run is lost. RabbitMQ also delivers a message again after a lost connection and, before
release 3.12, after its `consumer_timeout` of 30 minutes: the lock of a run prevents that two processes execute it.
"""

import gc
import importlib
from typing import Any

import dagster as dg
import psycopg
from celery import Celery, Task, signals
from celery.utils.log import get_task_logger
from kombu.entity import Exchange, Queue
from kombu.exceptions import OperationalError

from sales_assets.dagster_internals import sent_run_id
from sales_assets.deploy.instance import prepare_dagster_home
from sales_assets.deploy.run_lock import run_lock
from sales_assets.pipeline.memory import share_one_pool
from sales_assets.settings import SettingsError, settings

try:
    from dagster_celery.tasks import create_execute_job_task
except ModuleNotFoundError as error:
    # Not ModuleNotFoundError, which Dagster and Celery replace by a message without the reason.
    raise ImportError("runs by Celery need the extra `workers`: pip install 'sales_assets[workers]'") from error

_log = get_task_logger(__name__)

_BROKER_SECONDS = 5
_RETRY_SECONDS = 10
_RETRIES = 60
# A launch waits this long for an unreachable broker, and then at most 5 s for each of connect, send and confirm.
# Kombu's own retries aren't used: they count attempts, which take up to 5 s each.
_REACH_SECONDS = 10
_REACH_INTERVALS = {"interval_start": 0.5, "interval_step": 0.5, "interval_max": 2}
_HELD_MILLISECONDS = 7 * 24 * 3600 * 1000


def _configuration() -> dict[str, Any]:
    try:
        chosen = settings()
    except SettingsError as error:
        raise SystemExit(f"error: {error}") from None
    name = chosen.sales_runs_queue
    queue = Queue(
        name,
        # dagster-celery sends with the routing key `<queue>.<task>`.
        Exchange(name, type="topic", durable=True),
        routing_key=f"{name}.#",
        queue_arguments={"x-max-priority": 10, "x-consumer-timeout": _HELD_MILLISECONDS},
    )
    return {
        "broker_url": chosen.rabbitmq_url.get_secret_value(),
        "broker_connection_timeout": _BROKER_SECONDS,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # RabbitMQ closes the channel of a message that was held too long.
        "broker_channel_error_retry": True,
        "broker_heartbeat": 30,
        "broker_transport_options": {"confirm_publish": True, "write_timeout": _BROKER_SECONDS},
        "task_queues": [queue],
        "task_default_queue": name,
        "task_default_exchange": name,
        "task_default_routing_key": f"{name}.task",
        "task_create_missing_queues": False,
        "control_exchange": f"{name}.control",
        "event_exchange": f"{name}.events",
        "event_queue_prefix": f"{name}.events",
        # The state of a run is in Dagster's storage, and its lock shows whether the process is alive. Celery's result
        # tables would need `beat` to stay small.
        "result_backend": None,
        "task_ignore_result": True,
        "accept_content": ["json"],
        "task_serializer": "json",
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_publish_retry": False,
        "worker_pool": "prefork",
        "worker_concurrency": 1,
        "worker_max_tasks_per_child": 1,
        # Hold no run that another worker could start.
        "worker_prefetch_multiplier": 1,
        "worker_proc_alive_timeout": 60,
        # Dagster logs to stderr: Celery would repeat each line as a warning.
        "worker_redirect_stdouts": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # See services/mailings/celery_app.py: it has been observed to hang a worker permanently.
        "worker_enable_prefetch_count_reduction": False,
        "timezone": "UTC",
        "enable_utc": True,
    }


class _NotStartedError(Exception):
    """Dagster could not start a run, and could not report that either."""


class _RunTask(Task):  # type: ignore[misc]  # Celery has no annotations
    """Task that executes a run, unless another process executes it."""

    def apply_async(self, *arguments: Any, **options: Any) -> Any:
        """Send the task in bounded time, even if RabbitMQ accepts connections and confirms nothing (a full disk).

        Raises `kombu.exceptions.OperationalError` if RabbitMQ can't be reached or does not answer.
        """
        connection = self.app.connection_for_write()
        try:
            connection.ensure_connection(timeout=_REACH_SECONDS, **_REACH_INTERVALS)
            sent = super().apply_async(
                *arguments, **options | {"connection": connection, "confirm_timeout": _BROKER_SECONDS}
            )
        except connection.recoverable_connection_errors as error:
            connection.collect()  # `release` would wait for the broker's confirmation without a limit
            raise OperationalError(str(error) or type(error).__name__) from error
        connection.release()
        return sent

    def __call__(self, execute_job_args_packed: dict[str, Any]) -> Any:
        """Execute the run under its lock; try again later if it could not be started."""
        run_id = sent_run_id(execute_job_args_packed)
        try:
            with run_lock(run_id) as session:
                if session is not None:
                    result = self.run(execute_job_args_packed)
                    # Dagster ignores every error: without its database, a run would be "starting" permanently.
                    if _is_starting(run_id):
                        raise _NotStartedError(f"run {run_id} could not be started")
                    return result
        except Exception as error:  # noqa: BLE001  the drivers have no common error
            # Failures of the run itself are in its log. A second attempt does nothing once the run has started.
            raise self.retry(exc=error, countdown=_RETRY_SECONDS, max_retries=_RETRIES) from None
        _log.warning("run %s is being executed by another process", run_id)
        return None


app = Celery("runs", set_as_current=False)
app.add_defaults(_configuration)
_options: Any = {"base": _RunTask}
execute_run = create_execute_job_task(app, **_options)


def _is_starting(run_id: str) -> bool:
    """Return whether a run is still to be started. Raises an error if Dagster's database can't be reached."""
    with dg.DagsterInstance.get() as instance:
        run = instance.get_run_by_id(run_id)
    return run is not None and run.status == dg.DagsterRunStatus.STARTING


# --- worker start -------------------------------------------------------------------------------------------------


def _prepare(**_signal: Any) -> None:
    """Check the settings and import what runs need, before processes are forked for runs."""
    try:
        if settings().warehouse_url is None:
            raise SettingsError("WAREHOUSE_URL: a run worker needs the PostgreSQL server that all machines share")
        prepare_dagster_home()
    except (SettingsError, psycopg.OperationalError) as error:
        raise SystemExit(f"error: {error}") from None
    share_one_pool()
    importlib.import_module("sales_assets.definitions")
    gc.freeze()


# weak=False: signals hold weak references by default.
signals.worker_init.connect(_prepare, weak=False)
