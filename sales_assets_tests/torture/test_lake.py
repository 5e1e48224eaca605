"""Four processes copy 30 days to the lake repeatedly, with maintenance between the rounds; two processes are killed.

In each round one day becomes empty, and the day emptied in the previous round has sales again. The first round has no
kills: its duration determines the moments of the later kills.

TORTURE_SECONDS limits the duration, TORTURE_SEED selects other moments.
"""

import datetime as dt
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sales_assets.resources.lake import Lake
from sales_assets.schemas.calendar import date_id
from sales_assets_tests.lake import writers
from sales_assets_tests.lake.conftest import DAYS, Query, copy, files_of, insert_sale, lake, require_equal

__all__ = ["insert_sale", "lake"]

_SECONDS = float(os.environ.get("TORTURE_SECONDS", "600"))
_SEED = int(os.environ.get("TORTURE_SEED", "1"))
pytestmark = [pytest.mark.torture, pytest.mark.timeout(_SECONDS + 300)]

# A data file per day, its manifests (a copy of all days writes one), a manifest list and 21 metadata files. Measured:
# 52 files for 29 days with sales.
_MOST_FILES = len(DAYS) + 2 + 1 + 21


def test_lake_equals_the_mart_although_writers_are_killed(
    lake: Lake, insert_sale: Callable[..., None], query: Query, tmp_path: Path
) -> None:
    for day in DAYS[1:]:
        insert_sale(day)
    copy(lake, *DAYS)
    rng = random.Random(_SEED)
    deadline = time.monotonic() + _SECONDS
    killed = rounds = most_files = 0
    seconds = 0.0
    empty = DAYS[0]
    while not killed or time.monotonic() < deadline:
        rounds += 1
        insert_sale(empty)
        empty = rng.choice(DAYS)
        query("DELETE FROM mart.f_sales WHERE date_id = %s", date_id(empty))
        processes = [writers.start([*DAYS[number::4], DAYS[0]], rounds=3) for number in range(4)]
        start_time = time.monotonic()
        for process in rng.sample(processes, 2) if seconds else []:
            process.join(rng.uniform(0, seconds / 2))  # the random moment of the kill, not a wait for a condition
            process.kill()
        for process in processes:
            process.join(writers.SECONDS)
        seconds = seconds or time.monotonic() - start_time
        assert {process.exitcode for process in processes} <= {0, -9}
        killed += sum(process.exitcode == -9 for process in processes)
        copy(lake, *DAYS)
        require_equal(lake, query)
        lake.maintain(dt.datetime.now(dt.UTC) + dt.timedelta(days=8))
        require_equal(lake, query)
        most_files = max(most_files, len(files_of(tmp_path / "the lake" / "f_sales")))
        assert most_files <= _MOST_FILES
    print(f"{rounds} rounds, {killed} writers killed, {most_files} files at most")  # noqa: T201  the figures
