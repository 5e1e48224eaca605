"""`kill -9` of workers at many seeded moments of a backfill, and cancellation of a backfill.

TORTURE_SECONDS limits the duration, TORTURE_SEED selects other moments.
"""

import os
import random
import time

import dagster as dg
import pytest

from sales_assets_tests.deploy.test_distributed_runs import DAYS, Platform, platform
from sales_assets_tests.services.partner_orders.fixtures import until

__all__ = ["platform"]

_MOMENTS = 10
_SECONDS = float(os.environ.get("TORTURE_SECONDS", "1500"))
_SEED = int(os.environ.get("TORTURE_SEED", "1"))
# A minute for two checks of the backfill by the daemon, plus the delays of a busy machine.
_BACKFILL_SECONDS = 400
# The promise: after a kill it takes at most this long until the longest run starts again.
_DETECTION_SECONDS = 90

pytestmark = [pytest.mark.broker, pytest.mark.torture, pytest.mark.timeout(_SECONDS + 600)]


def test_workers_killed_at_any_moment(platform: Platform) -> None:
    """Kills from before the first run to the last commit: the backfill still succeeds, with equal results."""
    rng = random.Random(_SEED)
    deadline = time.monotonic() + _SECONDS
    seconds: list[float] = []
    with platform.instance() as instance:
        while len(seconds) < _MOMENTS and time.monotonic() < deadline:
            seconds.append(_kill_during_backfill(platform, instance, rng, 100 + len(seconds)))
    print(f"{len(seconds)} moments; from the kill to the last run's end, without its time: {seconds}")  # noqa: T201
    assert seconds, "TORTURE_SECONDS is less than a moment takes"
    assert max(seconds) <= _DETECTION_SECONDS


def _kill_during_backfill(platform: Platform, instance: dg.DagsterInstance, rng: random.Random, number: int) -> float:
    """Kill a worker during a backfill; return the seconds from kill to the last run's end, minus the longest run."""
    platform.write(number, DAYS)
    one = platform.load_in_one_process(DAYS)
    command, reader = platform.backfill(instance, DAYS)
    until(lambda: reader.read().runs, seconds=_BACKFILL_SECONDS)
    time.sleep(rng.uniform(0, 20))  # the random moment of the kill, not a wait for a condition
    rng.choice(platform.workers()).kill()
    killed = time.time()
    command.succeeds()
    progress = reader.read()
    assert progress.status == "COMPLETED_SUCCESS"
    platform.require_equal_to(one)
    platform.start_worker(f"worker{number}")
    times = [
        (record.start_time, record.end_time)
        for record in instance.get_run_records(dg.RunsFilter(run_ids=progress.run_ids))
        if record.dagster_run.is_success and record.start_time is not None and record.end_time is not None
    ]
    return round(max(end for _, end in times) - killed - max(end - start for start, end in times), 1)


def test_a_canceled_backfill_ends_its_runs(platform: Platform) -> None:
    days = DAYS[:30]
    platform.write(3, days)
    with platform.instance() as instance:
        with platform.loads_held_up():
            command, reader = platform.backfill(instance, days)
            until(lambda: platform.started_runs(instance), seconds=_BACKFILL_SECONDS)
            platform.start("cancel", "sales_assets.cli", "backfill", "--cancel", reader.backfill_id).succeeds()
            until(lambda: reader.read().has_ended, seconds=_BACKFILL_SECONDS)
        assert command.process.wait(_BACKFILL_SECONDS) == 1  # the last statement of the command reads the mart
        progress = reader.read()
        statuses = {record.dagster_run.status.value for record in instance.get_run_records()}
    assert progress.status == "CANCELED"
    assert "CANCELED" in statuses
