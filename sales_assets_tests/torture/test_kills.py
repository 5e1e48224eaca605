"""`kill -9` at many moments of a seeded sweep: of a load at points inside its code and at fractions of its duration, of
its database server, of a load during uploads to object storage, and of an erasure at each of its points.

Survived moments are stored in pytest's cache for this version of the code, so that an interrupted sweep is resumed; a
finished sweep starts from the beginning. TORTURE_SECONDS limits the duration, TORTURE_SEED selects other moments.
"""

import hashlib
import itertools
import json
import os
import random
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

import psycopg
import pytest

from sales_assets.postgres.embedded import EmbeddedPostgres
from sales_assets.postgres.migrations import migrate
from sales_assets.simulators.report_api.app import ReportApi
from sales_assets_tests.builders import ReportFolderBuilder
from sales_assets_tests.faults.conftest import scenario
from sales_assets_tests.faults.subprocess_targets import (
    KillScenario,
    TargetProcess,
    kill_during_load,
    kill_server_during_load,
    load_undisturbed,
    moments,
    wait_for_sessions,
)
from sales_assets_tests.faults.test_kills import erase_over_kills
from sales_assets_tests.faults.test_servers import kill
from sales_assets_tests.fixtures import stored_files
from sales_assets_tests.pipeline.test_forget import Person, person
from sales_assets_tests.resources.object_storage import BUCKET, StorageProxy, run_storage_proxy, use_object_storage
from sales_assets_tests.torture.code import code_under_test

__all__ = ["person", "scenario"]

_MOMENTS = 120
_SERVER_MOMENTS = 40
_UPLOAD_MOMENTS = 20
_SECONDS = float(os.environ.get("TORTURE_SECONDS", "1500"))
_SEED = int(os.environ.get("TORTURE_SEED", "1"))

Moment = tuple[str, float]


def _sweep(
    request: pytest.FixtureRequest, name: str, wanted: Iterable[Moment], kill_load: Callable[[Moment], bool]
) -> None:
    """Kill at each moment that is not stored as survived; at most 30 % may come after the end of the load."""
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
        survived[moment[0]] = kill_load(moment)
        cache.set(memory, survived)
    cache.set(memory, {})
    print(f"{len(survived)} moments, {sum(survived.values())} of them before the load's end")  # noqa: T201  the figures
    assert sum(survived.values()) > len(survived) * 0.7, "moments that come too late show nothing"


@pytest.mark.torture
@pytest.mark.timeout(_SECONDS + 300)
def test_load_killed_at_any_moment_leaves_whole_days_and_recovers(
    scenario: KillScenario, request: pytest.FixtureRequest
) -> None:
    _sweep(
        request, "kills", moments(_SEED, _MOMENTS, scenario.points), lambda moment: kill_during_load(scenario, moment)
    )


@pytest.mark.torture
@pytest.mark.timeout(_SECONDS + 300)
def test_erasure_killed_at_any_point_is_completed_by_the_next(person: Person) -> None:
    assert erase_over_kills(person, itertools.count(1)) > 50


@pytest.fixture
def scenario_with_server(tmp_path: Path, reports: ReportFolderBuilder, report_api: ReportApi) -> Iterator[KillScenario]:
    """Yield a scenario with a separate database server."""
    server = EmbeddedPostgres(tmp_path / "postgres")
    server.ensure_running()
    with psycopg.connect(server.url("sales"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE migrated_template")
    migrate(server.url("migrated_template"))
    yield KillScenario(server, reports, tmp_path / "raw")
    server.stop()


@pytest.mark.torture
@pytest.mark.timeout(_SECONDS + 300)
def test_server_killed_at_any_moment_of_a_load_leaves_whole_days(
    scenario_with_server: KillScenario, request: pytest.FixtureRequest
) -> None:
    rng = random.Random(_SEED)
    shares = [(f"share {share:.4f}", share) for share in (rng.random() for _ in range(_SERVER_MOMENTS))]
    server = scenario_with_server.server
    _sweep(
        request,
        "server-kills",
        shares,
        lambda moment: kill_server_during_load(scenario_with_server, moment[1], lambda: kill(server)),
    )


@pytest.mark.torture
@pytest.mark.timeout(_SECONDS + 300)
def test_load_killed_at_any_upload_leaves_whole_files_and_recovers(
    server: EmbeddedPostgres,
    reports: ReportFolderBuilder,
    report_api: ReportApi,
    object_storage: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Kill at the n-th upload; in every second case the store still completes it. Each kill has a new bucket folder."""
    with run_storage_proxy(object_storage) as storage_proxy:

        def new_folder() -> str:
            location = f"s3://{BUCKET}/{secrets.token_hex(6)}"
            use_object_storage(monkeypatch, storage_proxy.url, location)
            storage_proxy.requests.clear()
            return location

        scenario = KillScenario(server, reports, new_folder())
        scenario.raw_files = new_folder()
        with scenario.copy() as database:
            load_undisturbed(scenario.environment(database))
        uploads = sum(made.startswith("PUT ") for made in storage_proxy.requests)
        numbers = random.Random(_SEED).sample(range(1, uploads + 1), min(uploads, _UPLOAD_MOMENTS))

        def kill_load(moment: Moment) -> bool:
            scenario.raw_files = new_folder()
            with scenario.copy() as database:
                with TargetProcess(scenario.environment(database)) as target_process:
                    storage_proxy.watch = partial(_kill_at_upload, storage_proxy, target_process, int(moment[1]))
                    killed = not target_process.finish()
                storage_proxy.watch = lambda _: None
                storage_proxy.failing = {}
                _require_whole(stored_files())
                wait_for_sessions(server.url(database))
                scenario.check_killed(database)
                scenario.reload_and_check(database)
            return killed

        _sweep(request, "upload-kills", [(f"upload {number}", number) for number in numbers], kill_load)


def _kill_at_upload(storage_proxy: StorageProxy, target_process: TargetProcess, number: int, request: str) -> None:
    if sum(made.startswith("PUT ") for made in [*storage_proxy.requests, request]) >= number:
        target_process.process.kill()
        if number % 2:
            storage_proxy.failing = {"PUT ": "reset"}


def _require_whole(stored: Mapping[str, bytes]) -> None:
    """Check that every raw file has the hash in its name, and that every manifest belongs to such a file."""
    for path, contents in stored.items():
        if path.endswith(".json"):
            assert path.endswith(f"/{json.loads(contents)['sha256']}.csv.json"), f"{path} is partial"
            assert path.removesuffix(".json") in stored
        else:
            assert path.endswith(f"/{hashlib.sha256(contents).hexdigest()}.csv"), f"{path} is partial"
