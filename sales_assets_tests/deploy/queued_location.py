"""Code location for tests of the daemon: its sensor queues, once, the number of runs set in the environment."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg

RUNS = "RUNS_TO_QUEUE"
JOB = "JOB_TO_QUEUE"
HOLD = "FILE_THAT_HOLDS_RUNS"


@dg.job
def nothing() -> None:
    """Do nothing: the tests count the starts of runs."""


@dg.op
def wait() -> None:
    """Wait while the file exists that is named in the environment."""
    while Path(os.environ[HOLD]).exists():
        time.sleep(0.1)


@dg.job(executor_def=dg.in_process_executor)
def held() -> None:
    """Run as long as the test wants."""
    wait()


@dg.sensor(jobs=[nothing, held], minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def queue(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest]:
    """Request the runs at the first tick."""
    if context.cursor is None:
        context.update_cursor("done")
        job = os.environ.get(JOB, "nothing")
        yield from (dg.RunRequest(run_key=str(number), job_name=job) for number in range(int(os.environ[RUNS])))


defs = dg.Definitions(jobs=[nothing, held], sensors=[queue])
