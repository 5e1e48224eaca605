"""`kill -9` of workers at many seeded moments of a backfill; a canceled backfill.

TORTURE_SECONDS bounds it, TORTURE_SEED chooses other moments.
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
# A minute for the daemon's two looks at a backfill, and what a busy machine adds.
_BACKFILL_SECONDS = 400

pytestmark = [pytest.mark.broker, pytest.mark.torture, pytest.mark.timeout(_SECONDS + 600)]


def test_workers_killed_at_any_moment(platform: Platform) -> None:
    """From before the first run to the last commit: the backfill ends as a success, and equal."""
    chance = random.Random(_SEED)
    deadline = time.monotonic() + _SECONDS
    done = 0
    with platform.instance() as instance:
        while done < _MOMENTS and time.monotonic() < deadline:
            _suffer(platform, instance, chance, 100 + done)
            done += 1
    print(f"{done} moments")  # noqa: T201  the figure
    assert done, "TORTURE_SECONDS is less than a moment takes"


def _suffer(platform: Platform, instance: dg.DagsterInstance, chance: random.Random, number: int) -> None:
    platform.write(number, DAYS)
    one = platform.load_in_one_process(DAYS)
    command, reader = platform.backfill(instance, DAYS)
    until(lambda: reader.read().runs, seconds=_BACKFILL_SECONDS)
    time.sleep(chance.uniform(0, 20))  # the moment itself, not a wait for something
    chance.choice(platform.workers()).kill()
    command.succeeds()
    assert reader.read().status == "COMPLETED_SUCCESS"
    platform.require_equal_to(one)
    platform.start_worker(f"worker{number}")


def test_a_canceled_backfill_ends_its_runs(platform: Platform) -> None:
    days = DAYS[:30]
    platform.write(3, days)
    with platform.instance() as instance:
        with platform.loads_held_up():
            command, reader = platform.backfill(instance, days)
            until(lambda: platform.started_runs(instance), seconds=_BACKFILL_SECONDS)
            platform.start("cancel", "sales_assets.cli", "backfill", "--cancel", reader.backfill_id).succeeds()
            until(lambda: reader.read().has_ended, seconds=_BACKFILL_SECONDS)
        assert command.process.wait(_BACKFILL_SECONDS) == 1  # its last statement reads the mart
        progress = reader.read()
        statuses = {record.dagster_run.status.value for record in instance.get_run_records()}
    assert progress.status == "CANCELED"
    assert "CANCELED" in statuses
