"""Run requests of sensors: one run per change, retried with growing pauses; a failing item never blocks the others."""

import datetime as dt
from collections.abc import Callable, Iterable
from itertools import takewhile

import dagster as dg

from sales_assets.backoff import doubling_pause

FIRST_PAUSE = dt.timedelta(minutes=2)
LONGEST_PAUSE = dt.timedelta(hours=1)

# Run tag: the change key of a requested run.
CHANGE_KEY_TAG = "sales_assets/change_key"

# After this many consecutive failures the pause has long been at its maximum, so older runs are not read.
_MOST_RUNS_READ = 25


def request_once(
    instance: dg.DagsterInstance,
    job: str,
    change_key: str,
    *,
    tags: dict[str, str] | None = None,
    day: str | None = None,
    repeat_after: dt.timedelta = dt.timedelta(0),
) -> dg.RunRequest | None:
    """Return a run request for a change, or None while the change has to wait.

    A change waits while a run for it is in progress, and after consecutive failed runs for pauses that double up to
    `LONGEST_PAUSE`. After a successful run it is requested again: contents that change back are a change too.

    Args:
        repeat_after: Pause after a successful run, for changes that a run may not resolve.
    """
    change = f"{job}.{change_key}"
    # Newest first.
    earlier = instance.get_run_records(dg.RunsFilter(tags={CHANGE_KEY_TAG: change}), limit=_MOST_RUNS_READ)
    if any(not record.dagster_run.is_finished for record in earlier):
        return None
    failures = sum(1 for _ in takewhile(lambda record: not record.dagster_run.is_success, earlier))
    pause = doubling_pause(failures, first=FIRST_PAUSE.total_seconds(), longest=LONGEST_PAUSE.total_seconds())
    if earlier and not failures:
        pause = min(repeat_after, LONGEST_PAUSE).total_seconds()
    if pause:
        ended = max(record.update_timestamp for record in earlier).replace(tzinfo=dt.UTC)
        if _now() - ended < dt.timedelta(seconds=pause):
            return None
    latest = earlier[0].dagster_run.run_id if earlier else "first"
    return dg.RunRequest(
        run_key=f"{change}.{latest}", job_name=job, partition_key=day, tags={CHANGE_KEY_TAG: change, **(tags or {})}
    )


def request_each(
    context: dg.SensorEvaluationContext, items: Iterable[tuple[str, Callable[[], dg.RunRequest | None]]]
) -> list[dg.RunRequest]:
    """Request a run for each (name, request) item; log a failing item and continue with the others.

    Raises the first failure if nothing else is requested, so that the tick is shown as failed.
    """
    requests: list[dg.RunRequest] = []
    failures: list[Exception] = []
    for name, request in items:
        try:
            made = request()
        except Exception as error:  # noqa: BLE001 - a failing item never blocks the others
            log_failure(context, name, error)
            failures.append(error)
        else:
            requests += [made] if made else []
    if failures and not requests:
        raise failures[0]
    return requests


def log_failure(context: dg.SensorEvaluationContext, name: str, error: Exception) -> None:
    """Report a failing item in the tick's log."""
    context.log.error(f"no run requested for {name}: {type(error).__name__}: {error}")


def is_under_way(instance: dg.DagsterInstance, job: str) -> bool:
    """Return whether a run of the job is queued or in progress, however it was requested."""
    unfinished = [status for status in dg.DagsterRunStatus if status not in _FINISHED]
    return bool(instance.get_run_records(dg.RunsFilter(job_name=job, statuses=unfinished), limit=1))


def number_of(data_version: str | None) -> int:
    """Parse the event number in a data version of this platform; 0 for any other value."""
    is_ours = data_version is not None and data_version.isascii() and data_version.isdecimal()
    return int(data_version) if is_ours and data_version and len(data_version) <= _DIGITS else 0


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


_FINISHED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
_DIGITS = 18  # maximum length of an event's number; Python refuses to parse thousands of digits
