"""`kill -9` at many moments of a seeded sweep: of a load, at points inside it and shares of its time; of its server;
and of a load that uploads to object storage.

Moments that this very code has survived are remembered in pytest's cache, so that an interrupted sweep goes on where
it was; a finished one begins anew. TORTURE_SECONDS bounds it, TORTURE_SEED chooses other moments.
"""

import hashlib
import os
import random
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest

from sales_assets.postgres.embedded import EmbeddedPostgres
from sales_assets.postgres.migrations import migrate
from sales_assets.simulators.report_api.app import ReportApi
from sales_assets_tests.faults.conftest import world
from sales_assets_tests.faults.test_servers import kill
from sales_assets_tests.faults.victims import (
    Victim,
    World,
    load_undisturbed,
    moments,
    suffer,
    suffer_without_server,
    wait_for_sessions,
)
from sales_assets_tests.reports import ReportFolderBuilder
from sales_assets_tests.resources.object_storage import BUCKET, Front, front_of, objects, use_object_storage
from sales_assets_tests.torture.code import code_under_test

__all__ = ["world"]

_MOMENTS = 120
_SERVER_MOMENTS = 40
_UPLOAD_MOMENTS = 20
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


@pytest.mark.torture
@pytest.mark.timeout(_SECONDS + 300)
def test_a_load_killed_at_any_upload_leaves_whole_files_and_heals(
    server: EmbeddedPostgres,
    reports: ReportFolderBuilder,
    report_api: ReportApi,
    object_storage: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the n-th upload, which every second time is still carried out. Each moment has an empty bucket folder."""
    with front_of(object_storage) as front:

        def move() -> str:
            location = f"s3://{BUCKET}/{secrets.token_hex(6)}"
            use_object_storage(monkeypatch, front.url, location)
            front.requests.clear()
            return location

        world = World(server, reports, move())
        world.raw_files = move()
        with world.copy() as database:
            load_undisturbed(world.environment(database))
        uploads = sum(made.startswith("PUT ") for made in front.requests)
        numbers = random.Random(_SEED).sample(range(1, uploads + 1), min(uploads, _UPLOAD_MOMENTS))

        def strike(moment: Moment) -> bool:
            world.raw_files = move()
            with world.copy() as database:
                with Victim(world.environment(database)) as victim:
                    front.watch = partial(_kill_at_upload, front, victim, int(moment[1]))
                    killed = not victim.finish()
                front.watch = lambda _: None
                front.failing = {}
                for path, stored in objects().items():
                    if path.endswith(".csv"):
                        assert path.endswith(f"/{hashlib.sha256(stored).hexdigest()}.csv"), f"{path} is partial"
                wait_for_sessions(server.url(database))
                world.judge_killed(database)
                world.heal_and_judge(database)
            return killed

        _sweep(request, "upload-kills", [(f"upload {number}", number) for number in numbers], strike)


def _kill_at_upload(front: Front, victim: Victim, number: int, request: str) -> None:
    if sum(made.startswith("PUT ") for made in [*front.requests, request]) == number:
        victim.process.kill()
        if number % 2:
            front.failing = {"PUT ": "reset"}
