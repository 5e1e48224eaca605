"""Two platforms with one storage, one of which is killed: no run is started twice, and every run ends."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from sales_assets.deploy.daemon import STANDING_BY, WORKING, daemon_sessions
from sales_assets_tests.cli.processes import Command, free_port
from sales_assets_tests.deploy.daemons import events, until

pytestmark = [pytest.mark.torture, pytest.mark.timeout(1800)]

_RUNS = 20
_SECONDS = 1200
# At most the runs of the killed code server, and the run that is being launched.
_LOST = 3
_LAUNCH = """mutation { launchRun(executionParams: { selector: {repositoryName: "__repository__",
    repositoryLocationName: "sales_assets", jobName: "housekeeping"} }) { __typename } }"""


@pytest.fixture
def platforms(
    tmp_path: Path, warehouse_url: str, new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Command, Command, str]]:
    """Two commands with separate homes and a shared warehouse, and the URL of their storage."""
    storage = new_database("template1")
    monkeypatch.setenv("DAGSTER_STORAGE_URL", storage)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    made = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        made.append(Command(tmp_path / name))
    yield made[0], made[1], storage
    for command in made:
        command.kill_remaining()


def test_second_platform_takes_over_from_the_killed_one(
    platforms: tuple[Command, Command, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    *commands, storage = platforms
    urls, outputs = [], []
    for command, role in zip(commands, (WORKING, STANDING_BY), strict=True):
        monkeypatch.setenv("SALES_HOME", str(command.home))
        url = f"http://127.0.0.1:{free_port()}"
        urls.append(url)
        process = command.start("dev", "--port", url.rpartition(":")[2])
        assert process.stdout is not None
        outputs.append(process.stdout)
        assert outputs[-1].readline().startswith(f"Dagster UI: {url}")
        assert outputs[-1].readline().startswith(role)
    for number in range(_RUNS):
        response = requests.post(f"{urls[number % 2]}/graphql", json={"query": _LAUNCH}, timeout=60).json()
        assert response["data"]["launchRun"]["__typename"] == "LaunchRunSuccess", response
    until(lambda: len(events(storage, "PIPELINE_START")) >= _LOST, "some runs have started", _SECONDS)
    for number in commands[0].processes():
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    killed = time.monotonic()
    until(lambda: [session.holds for session in daemon_sessions(storage)] == [True], "the second took over")
    assert time.monotonic() - killed < 30
    assert outputs[1].readline().startswith(WORKING)
    until(lambda: len(_ended(storage)) == _RUNS, "all runs have ended", _SECONDS)
    assert len(events(storage, "PIPELINE_FAILURE")) <= _LOST
    assert set(events(storage, "PIPELINE_STARTING").values()) == {1}
    assert set(events(storage, "PIPELINE_START").values()) == {1}
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    commands[1].wait_until(lambda: not commands[1].processes(), "all processes of the second are gone")


def _ended(storage: str) -> set[str]:
    return {*events(storage, "PIPELINE_SUCCESS"), *events(storage, "PIPELINE_FAILURE")}
