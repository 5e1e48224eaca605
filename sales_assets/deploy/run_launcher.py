"""Run launcher for Celery workers on any number of machines, with detection of lost workers.

dagster-celery's launcher leaves the run of a killed worker in the state STARTED permanently. Requires the extra
``workers``; `run_workers` has the Celery application.
"""

import time
from collections.abc import Mapping
from typing import Any

import dagster as dg

from sales_assets.dagster_internals import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from sales_assets.deploy.run_lock import is_executed, is_lost
from sales_assets.deploy.run_workers import app  # first: it names the extra if it is missing
from sales_assets.settings import settings

# isort: split
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_QUEUE_TAG, DAGSTER_CELERY_TASK_ID_TAG
from kombu.exceptions import OperationalError

_NOT_FOUND = 404


class RunLauncher(CeleryRunLauncher):
    """Send runs to Celery workers, by the settings RABBITMQ_URL and SALES_RUNS_QUEUE; report lost runs to Dagster.

    A run in progress has a process that holds its lock in Dagster's database, and a worker that lists its task. It is
    lost if `silent_looks` checks in a row find neither: locks are lost in a restart of PostgreSQL, and a worker that is
    shutting down does not respond. `run_monitoring.poll_interval_seconds` is the time between checks.

    silent_looks: number of checks after which a run counts as lost.
    answer_seconds: time in which workers have to respond.
    """

    def __init__(self, silent_looks: int, answer_seconds: float, inst_data: Any = None) -> None:
        # The parent's constructor would create an application for the queue "dagster".
        super(CeleryRunLauncher, self).__init__()  # type: ignore[no-untyped-call]
        self._inst_data = inst_data
        self.default_queue = settings().sales_runs_queue
        self.celery = app
        # Registers our task. dagster-celery makes a task of the same name for each launch, and Celery keeps the first.
        app.finalize()
        self._silent_looks = silent_looks
        self._answer_seconds = answer_seconds
        self._silent: dict[str, int] = {}
        self._unsent: dict[str, int] = {}
        self._active: tuple[float, set[str]] | None = None

    @classmethod
    def config_type(cls) -> Any:
        """Describe the configuration in dagster.yaml."""
        return {
            "silent_looks": dg.Field(int, is_required=False, default_value=3),
            "answer_seconds": dg.Field(float, is_required=False, default_value=2.0),
        }

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> "RunLauncher":
        return cls(**config_value, inst_data=inst_data)

    @property
    def supports_resume_run(self) -> bool:
        """False: a lost run can't be resumed. Its retry starts from the first day, idempotently."""
        return False

    def launch_run(self, context: LaunchRunContext) -> None:
        """Send a run to a worker. If the broker can't be reached, the run returns to the queue with the reason.

        The queue launches it again. Dagster would count the run as failed instead, and with two retries an outage of
        half a minute would end a backfill. Raises the broker's error for a run that was launched without the queue.
        """
        try:
            super().launch_run(context)
        except OperationalError as error:
            if not isinstance(self._instance.run_coordinator, dg.QueuedRunCoordinator):
                raise
            run = self._instance.get_run_by_id(context.dagster_run.run_id)
            if run is None or run.status != dg.DagsterRunStatus.STARTING:  # canceled meanwhile, or sent and started
                return
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            self._instance.report_engine_event(f"RabbitMQ can't be reached, the run is queued again: {reason}", run)
            self._instance.report_dagster_event(dg.DagsterEvent.job_enqueue(run), run_id=run.run_id)

    def terminate(self, run_id: str) -> bool:
        """Cancel a run: the worker interrupts its process, or drops its message."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished or DAGSTER_CELERY_TASK_ID_TAG not in run.tags:
            return False
        # Otherwise the process would report the interruption as a failure.
        self._instance.report_run_canceling(run)
        return super().terminate(run_id)

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Look for the process of a started run. Raises an error if the broker or the database can't be reached."""
        task_id = run.tags.get(DAGSTER_CELERY_TASK_ID_TAG)
        if task_id is None:  # `sales-assets load` executes runs itself
            is_running = not is_lost(self._instance, run)
        else:
            is_running = is_executed(run.run_id) or task_id in self._active_tasks()
        if is_running:
            self._silent.pop(run.run_id, None)
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        looks = self._silent[run.run_id] = self._silent.get(run.run_id, 0) + 1
        if looks < self._silent_looks:
            found = f"no process found in {looks} of {self._silent_looks} checks"
            return CheckRunHealthResult(WorkerStatus.RUNNING, found)
        del self._silent[run.run_id]
        return CheckRunHealthResult(
            WorkerStatus.FAILED, f"the process of the run was lost: {looks} checks found neither lock nor task"
        )

    def requeue_lost_launches(self) -> list[str]:
        """Queue starting runs again that have neither message nor process in `silent_looks` checks; return their ids.

        Causes: the daemon was killed before it sent the message, or RabbitMQ has lost it. Dagster checks only started
        runs, and a starting one may wait for a free worker for hours. A run whose message is found later is still
        executed once: its lock and its state stop the second process. Raises an error if the broker or the database
        can't be reached.
        """
        if not isinstance(self._instance.run_coordinator, dg.QueuedRunCoordinator):
            return []
        starting = self._instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING]))
        without_process = [run for run in starting if not is_executed(run.run_id)]
        tasks = self._known_tasks() if without_process else set()
        queues = {run.run_id: run.tags.get(DAGSTER_CELERY_QUEUE_TAG, self.default_queue) for run in without_process}
        messages = {queue: self._messages(queue) for queue in set(queues.values())}
        self._unsent = {
            run.run_id: self._unsent.get(run.run_id, 0) + 1
            for run in without_process
            # Any message in the queue may belong to the run.
            if not messages[queues[run.run_id]] and run.tags.get(DAGSTER_CELERY_TASK_ID_TAG) not in tasks
        }
        lost = [run_id for run_id, looks in self._unsent.items() if looks >= self._silent_looks]
        for run_id in lost:
            del self._unsent[run_id]
            run = self._instance.get_run_by_id(run_id)
            if run is not None and run.status == dg.DagsterRunStatus.STARTING:
                self._instance.report_engine_event("No worker and no queue has the run, it is queued again.", run)
                self._instance.report_dagster_event(dg.DagsterEvent.job_enqueue(run), run_id=run_id)
        return lost

    def get_run_worker_debug_info(self, run: dg.DagsterRun, include_container_logs: bool | None = True) -> str | None:
        """Return the id of the task, which is in the logs of the workers."""
        del include_container_logs
        return f"Celery task {run.tags.get(DAGSTER_CELERY_TASK_ID_TAG)} in queue {self.default_queue}"

    def _active_tasks(self) -> set[str]:
        """Return the ids of the tasks that workers execute; one query serves all runs that are checked together."""
        if self._active is None or time.monotonic() - self._active[0] > self._answer_seconds:
            with self.celery.connection_for_write() as connection:
                connection.connect()  # one attempt: `inspect` would retry for minutes
                replies = (
                    self.celery.control.inspect(timeout=self._answer_seconds, connection=connection).active() or {}
                )
            found = {task["id"] for tasks in replies.values() for task in tasks}
            self._active = (time.monotonic(), found)
        return self._active[1]

    def _known_tasks(self) -> set[str]:
        """Return the ids of the tasks that workers have: executed, waiting for a process, or for their next attempt."""
        with self.celery.connection_for_write() as connection:
            connection.connect()  # one attempt, see `_active_tasks`
            inspect = self.celery.control.inspect(timeout=self._answer_seconds, connection=connection)
            replies = [inspect.active(), inspect.reserved(), inspect.scheduled()]
        tasks = [task for reply in replies for of_worker in (reply or {}).values() for task in of_worker]
        return {task.get("request", task)["id"] for task in tasks}

    def _messages(self, queue: str) -> int:
        """Return the number of messages that wait in a queue; 0 if RabbitMQ has no such queue."""
        with self.celery.connection_for_write() as connection:
            connection.connect()
            try:
                return int(connection.default_channel.queue_declare(queue, passive=True).message_count)
            except connection.channel_errors as error:
                if getattr(error, "code", None) != _NOT_FOUND:
                    raise
                return 0
