"""Read the progress of backfills, which the storage's daemon executes."""

import time
from dataclasses import dataclass, field

import dagster as dg

from sales_assets.dagster_internals import backfill_tags, has_ended, is_retried, range_of
from sales_assets.deploy.runs import reasons

# The daemon that launches the runs of backfills sends a heartbeat every 30 seconds.
_DAEMON = "BACKFILL"
_SILENT_SECONDS = 120

_SUCCESS = "COMPLETED_SUCCESS"


@dataclass
class BackfillProgress:
    """State of a backfill. A failed run that is retried appears only in `run_ids`; its retry is counted instead."""

    status: str
    has_ended: bool
    run_ids: list[str] = field(default_factory=list)
    runs: int = 0
    finished_runs: int = 0
    finished_days: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def is_success(self) -> bool:
        return self.status == _SUCCESS


def seconds_without_daemon(instance: dg.DagsterInstance) -> float | None:
    """Return the time since the last heartbeat of a daemon that executes backfills; None if a daemon is running."""
    heartbeat = instance.get_daemon_heartbeats().get(_DAEMON)
    silent = time.time() - heartbeat.timestamp if heartbeat else float("inf")
    return silent if silent > _SILENT_SECONDS else None


class BackfillReader:
    """Reader of a backfill's progress, which reads the events of each finished run only once.

    asset: asset whose materializations count as finished days.
    """

    def __init__(self, instance: dg.DagsterInstance, backfill_id: str, asset: dg.AssetKey) -> None:
        self._instance, self.backfill_id, self._asset = instance, backfill_id, asset
        self._finished: dict[str, tuple[int, list[str]]] = {}

    def read(self) -> BackfillProgress:
        """Read the present state. Raises `KeyError` if the backfill does not exist."""
        backfill = self._instance.get_backfill(self.backfill_id)
        if backfill is None:
            raise KeyError(self.backfill_id)
        progress = BackfillProgress(backfill.status.value, has_ended(backfill.status))
        if backfill.error is not None:
            progress.failures.append(backfill.error.message.strip())
        filters = dg.RunsFilter(tags=backfill_tags(self.backfill_id))
        for record in self._instance.get_run_records(filters, ascending=True):
            run = record.dagster_run
            progress.run_ids.append(run.run_id)
            if is_retried(run):
                continue
            progress.runs += 1
            if run.is_finished:
                days, failures = self._result(run)
                progress.finished_runs += 1
                progress.finished_days += days
                progress.failures += failures
        return progress

    def _result(self, run: dg.DagsterRun) -> tuple[int, list[str]]:
        """Return the number of days that a finished run has loaded, and the reasons of failures."""
        if run.run_id not in self._finished:
            types = {
                dg.DagsterEventType.ASSET_MATERIALIZATION,
                dg.DagsterEventType.STEP_FAILURE,
                dg.DagsterEventType.RUN_FAILURE,
            }
            logged = self._instance.all_logs(run.run_id, of_type=types)
            events = [entry.dagster_event for entry in logged if entry.dagster_event is not None]
            days = {
                event.partition for event in events if event.is_step_materialization and event.asset_key == self._asset
            }
            failures = reasons(events)
            if not failures and run.status != dg.DagsterRunStatus.SUCCESS:
                ends = [event.message for event in events if event.is_run_failure and event.message]
                why = ends[-1] if ends else run.status.value.lower()
                failures = [f"{' to '.join(dict.fromkeys(range_of(run.tags)))}: {why}"]
            self._finished[run.run_id] = len(days), failures
        return self._finished[run.run_id]
