"""Code location for tests of the daemon: its sensor queues, once, the number of runs set in the environment."""

import os
from collections.abc import Iterator

import dagster as dg

RUNS = "RUNS_TO_QUEUE"


@dg.job
def nothing() -> None:
    """Do nothing: the tests count the starts of runs."""


@dg.sensor(job=nothing, minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def queue(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest]:
    """Request the runs at the first tick."""
    if context.cursor is None:
        context.update_cursor("done")
        yield from (dg.RunRequest(run_key=str(number)) for number in range(int(os.environ[RUNS])))


defs = dg.Definitions(jobs=[nothing], sensors=[queue])
