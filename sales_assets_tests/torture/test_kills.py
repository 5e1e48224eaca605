"""`kill -9` at many moments of a seeded sweep: of a load, at points inside it and shares of its time; of its server.

Moments that this very code has survived are remembered in pytest's cache, so that an interrupted sweep goes on where
it was; a finished one begins anew. TORTURE_SECONDS bounds it, TORTURE_SEED chooses other moments.
"""

import os
import random
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import psycopg
import pytest

from sales_assets.postgres.embedded import EmbeddedPostgres
from sales_assets.postgres.migrations import migrate
from sales_assets.simulators.report_api.app import ReportApi
from sales_assets_tests.builders import ReportFolderBuilder
from sales_assets_tests.faults.conftest import world
from sales_assets_tests.faults.subprocess_targets import World, moments, suffer, suffer_without_server
from sales_assets_tests.faults.test_servers import kill
from sales_assets_tests.torture.code import code_under_test

__all__ = ["world"]

_MOMENTS = 120
_SERVER_MOMENTS = 40
_SECONDS = float(os.environ.get("TORTURE_SECONDS", "1500"))
_SEED = int(os.environ.get("TORTURE_SEED", "1"))

Moment = tuple[str, float]


def _sweep(
    request: pytest.FixtureRequest, name: str, wanted: Iterable[Moment], strike: Callable[[Moment], bool]
) -> None:
    """Strike at each moment that is not remembered as survived; few may come after the load's end."""
    cache = request.config.cache
    assert cache is not None
    memory = f"torture/{name}-{_SEED}-{code_under_test()}"
    survived: dict[str, bool] = cache.get(memory, {})
    deadline = time.monotonic() + _SECONDS
    places = list(wanted)
    for moment in places:
        if moment[0] in survived:
            continue
        if time.monotonic() > deadline:
            pytest.skip(f"{len(survived)} of {len(places)} moments in {_SECONDS:.0f} s; run it again for the others")
        survived[moment[0]] = strike(moment)
        cache.set(memory, survived)
    cache.set(memory, {})
    print(f"{len(survived)} moments, {sum(survived.values())} of them before the load's end")  # noqa: T201  the figures
    assert sum(survived.values()) > len(survived) * 0.7, "moments that come too late show nothing"


@pytest.mark.torture
@pytest.mark.timeout(_SECONDS + 300)
def test_a_load_killed_at_any_moment_is_whole_days_and_heals(world: World, request: pytest.FixtureRequest) -> None:
    _sweep(request, "kills", moments(_SEED, _MOMENTS, world.points), lambda moment: suffer(world, moment))


@pytest.fixture
def world_of_its_own(tmp_path: Path, reports: ReportFolderBuilder, report_api: ReportApi) -> Iterator[World]:
    """On a server that nobody else needs."""
    server = EmbeddedPostgres(tmp_path / "postgres")
    server.ensure_running()
    with psycopg.connect(server.url("sales"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE migrated_template")
    migrate(server.url("migrated_template"))
    yield World(server, reports, tmp_path / "raw")
    server.stop()


@pytest.mark.torture
@pytest.mark.timeout(_SECONDS + 300)
def test_a_server_killed_at_any_moment_of_a_load_leaves_whole_days(
    world_of_its_own: World, request: pytest.FixtureRequest
) -> None:
    chance = random.Random(_SEED)
    shares = [(f"share {share:.4f}", share) for share in (chance.random() for _ in range(_SERVER_MOMENTS))]
    server = world_of_its_own.server
    _sweep(
        request,
        "server-kills",
        shares,
        lambda moment: suffer_without_server(world_of_its_own, moment[1], lambda: kill(server)),
    )
