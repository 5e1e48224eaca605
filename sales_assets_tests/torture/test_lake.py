"""Four processes copy days to the lake, two of them killed at any time, again and again, with maintenance in between.

TORTURE_SECONDS bounds it, TORTURE_SEED chooses other moments.
"""

import datetime as dt
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sales_assets.resources.lake import Lake
from sales_assets_tests.lake import writers
from sales_assets_tests.lake.conftest import DAYS, Query, copy, files_of, lake, require_equal, sell

__all__ = ["lake", "sell"]

_SECONDS = float(os.environ.get("TORTURE_SECONDS", "600"))
_SEED = int(os.environ.get("TORTURE_SEED", "1"))
_DAYS = DAYS[:8]
pytestmark = [pytest.mark.torture, pytest.mark.timeout(_SECONDS + 300)]

# Per day: a data file and up to two manifests that name it. Beside them: 21 metadata files and a manifest list.
_MOST_FILES = 3 * len(_DAYS) + 22


def test_writers_killed_at_any_time_leave_a_lake_that_equals_the_mart(
    lake: Lake, sell: Callable[..., None], query: Query, tmp_path: Path
) -> None:
    for day in _DAYS:
        sell(day)
    copy(lake, *_DAYS)
    chance = random.Random(_SEED)
    deadline = time.monotonic() + _SECONDS
    killed = 0
    while not killed or time.monotonic() < deadline:
        processes = [writers.start([*_DAYS[number::4], _DAYS[0]], rounds=3) for number in range(4)]
        for process in chance.sample(processes, 2):
            process.join(chance.uniform(0, 4))  # the moment itself, not a wait for something
            process.kill()
        for process in processes:
            process.join(writers.SECONDS)
        assert {process.exitcode for process in processes} <= {0, -9}
        killed += sum(process.exitcode == -9 for process in processes)
        copy(lake, *_DAYS)
        require_equal(lake, query)
        lake.maintain(dt.datetime.now(dt.UTC) + dt.timedelta(days=8))
        require_equal(lake, query)
        assert len(files_of(tmp_path / "the lake" / "f_sales")) <= _MOST_FILES
