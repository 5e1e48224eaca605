"""`kill -9` of a load at a hundred and twenty moments of a seeded sweep: points inside it and shares of its time.

Moments that this very code has survived are remembered in pytest's cache, so that an interrupted sweep goes on where
it was; a finished one begins anew. TORTURE_SECONDS bounds it, TORTURE_SEED chooses other moments.
"""

import hashlib
import os
import time
from pathlib import Path

import pytest

import sales_assets
from sales_assets.sql import sql_folder
from sales_assets_tests.faults.conftest import world
from sales_assets_tests.faults.victims import World, moments, suffer

__all__ = ["world"]

_MOMENTS = 120
_SECONDS = float(os.environ.get("TORTURE_SECONDS", "1500"))
_SEED = int(os.environ.get("TORTURE_SEED", "1"))


def _code() -> str:
    """A digest of all that is under test: what another version has survived says nothing about this one."""
    files = [*Path(sales_assets.__file__).parent.rglob("*.py"), *sql_folder().rglob("*.sql")]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(files))).hexdigest()[:16]


@pytest.mark.torture
@pytest.mark.timeout(_SECONDS + 300)
def test_a_load_killed_at_any_moment_is_whole_days_and_heals(world: World, request: pytest.FixtureRequest) -> None:
    cache = request.config.cache
    assert cache is not None
    memory = f"torture/kills-{_SEED}-{_code()}"
    survived: dict[str, bool] = cache.get(memory, {})
    deadline = time.monotonic() + _SECONDS
    for moment in moments(_SEED, _MOMENTS, world.points):
        if moment[0] in survived:
            continue
        if time.monotonic() > deadline:
            pytest.skip(f"{len(survived)} of {_MOMENTS} moments in {_SECONDS:.0f} s; run it again for the others")
        survived[moment[0]] = suffer(world, moment)
        cache.set(memory, survived)
    cache.set(memory, {})
    print(f"{len(survived)} moments, {sum(survived.values())} of them before the load's end")  # noqa: T201  the figures
    assert sum(survived.values()) > len(survived) * 0.7, "moments that come too late show nothing"
