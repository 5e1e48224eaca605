"""Faults while the Dagster UI is up: the platform as a person runs it, its server killed, a second one beside it."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
import requests

from sales_assets.deploy.daemon import daemon_sessions
from sales_assets.postgres.embedded import EmbeddedPostgres
from sales_assets.postgres.queries import statements
from sales_assets.postgres.warehouse import DAGSTER_DATABASE
from sales_assets_tests.conftest import KEY
from sales_assets_tests.faults.test_servers import kill, wait_for_waiter
from sales_assets_tests.resources.servers import answer, serving
from sales_assets_tests.ui.platform import COMMAND, Platform, command_running, free_port, running_platform

pytestmark = pytest.mark.external

_SECONDS = 180

_LAUNCH = """mutation ($day: String!) { launchRun(executionParams: {
    selector: {repositoryName: "__repository__", repositoryLocationName: "sales_assets", jobName: "load_days"}
    executionMetadata: {tags: [{key: "dagster/partition", value: $day}]}})
    { __typename ... on LaunchRunSuccess { run { runId } } } }"""
_COURSE = """query ($run: ID!) { runOrError(runId: $run) { ... on Run { eventConnection { events {
    ... on MessageEvent { timestamp message } ... on ErrorEvent { error { message stack } } } } } } }"""
_STATUS = "query ($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }"
_EVERYTHING = """{ instance { info } runsOrError { ... on Runs { results {
    status runConfigYaml tags { key value } eventConnection { events { __typename
        ... on MessageEvent { message }
        ... on ErrorEvent { error { message stack causes { message stack } } }
        ... on MaterializationEvent { description metadataEntries { label description
            ... on TextMetadataEntry { text } ... on UrlMetadataEntry { url } ... on PathMetadataEntry { path } } }
        ... on ExecutionStepFailureEvent { failureMetadata { metadataEntries { label description } } } } } } } }
    workspaceOrError { ... on Workspace { locationEntries { displayMetadata { key value } } } } }"""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running_platform(tmp_path_factory.mktemp("platform")) as running:
        yield running


def ask(platform: Platform, query: str, **variables: str) -> requests.Response:
    return requests.post(f"{platform.url}/graphql", json={"query": query, "variables": variables}, timeout=60)


def launch(platform: Platform, day: str) -> str:
    launched = ask(platform, _LAUNCH, day=day).json()["data"]["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    return str(launched["run"]["runId"])


def until(happened: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + _SECONDS
    while not (found := happened()):
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.2)
    return found


def end_of(platform: Platform, run: str) -> str:
    def ended() -> str | None:
        told = ask(platform, _STATUS, run=run).json()
        status = told["data"] and str(told["data"]["runOrError"]["status"])  # no data: its server was just away
        return status if status in ("SUCCESS", "FAILURE", "CANCELED") else None

    return str(until(ended, f"the run {run} ends"))


def succeeds(platform: Platform, run: str) -> None:
    """Wait for its end; where it is not a good one, say what happened."""
    assert end_of(platform, run) == "SUCCESS", ask(platform, _COURSE, run=run).text


def daemons(platform: Platform) -> list[bool]:
    """For each daemon on the platform's storage, whether it works; else it stands by."""
    storage = EmbeddedPostgres(platform.home / "postgres").url(DAGSTER_DATABASE)
    return [session.holds for session in daemon_sessions(storage)]


def command(platform: Platform, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [COMMAND, *arguments],
        env=platform.environment | settings,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def test_the_pages_hold_no_secret(platform: Platform) -> None:
    """After a good run and one that failed at the API: what the UI can show of them, of the instance, the location."""
    succeeds(platform, launch(platform, platform.day(1)))
    ((report_id,),) = platform.query("SELECT report_id FROM raw.delivery WHERE kind = 'report'")
    day = platform.day(2)

    def say(path: str) -> list[bytes]:
        if not path.startswith("/get_increment"):
            return answer("a line that breaks", length=1000)
        links = {"user_orders_log_inc": f"{server.url}/orders.csv?X-Amz-Signature=AWS4-HMAC"}
        data = {"increment_id": "i", "s3_path": links}
        return answer(
            json.dumps({"report_id": report_id, "date": f"{day} 00:00:00", "status": "SUCCESS", "data": data})
        )

    with serving(say) as server:
        assert command(platform, "load", "--from", day, "--to", day, REPORT_API_URL=server.url).returncode == 1
    told = ask(platform, _EVERYTHING)
    assert "errors" not in told.json(), told.text[:2000]
    for expected in ("/orders.csv: ", "delivered", "run_storage: Runs", platform.day(1)):
        assert expected in told.text
    for secret in (KEY, "X-Amz-", "AWS4-HMAC"):
        assert secret not in told.text


def test_postgresql_killed_under_a_run_with_the_ui_up(platform: Platform) -> None:
    server = EmbeddedPostgres(platform.home / "postgres")
    before = platform.sales(1, 2, 3, 20)
    with psycopg.connect(server.url("sales"), autocommit=True) as holder:
        holder.execute(statements("locks")["everything"])
        run = launch(platform, platform.day(3))
        wait_for_waiter(server.url("sales"), seconds=_SECONDS)
        kill(server)
    assert requests.get(f"{platform.url}/server_info", timeout=60).ok
    # Any command finds it gone and starts it again.
    loaded = command(platform, "load", "--from", platform.day(4), "--to", platform.day(4))
    assert loaded.returncode == 0, loaded.stderr
    assert platform.sales(1, 2, 3, 20) == before
    assert end_of(platform, run) == "FAILURE"
    succeeds(platform, launch(platform, platform.day(3)))
    assert len(platform.sales(3, 4)) == 2


def test_a_second_platform_on_the_home_takes_part_and_leaves_the_first_alone(platform: Platform) -> None:
    log = platform.home.parent / "second.log"
    with command_running(["dev", "--port", str(free_port())], platform.environment, log) as url:
        second = Platform(url, platform.home, platform.today, platform.environment)
        runs = [launch(one, platform.day(age)) for one, age in ((platform, 5), (second, 6))]
        for run in runs:
            succeeds(platform, run)
        until(lambda: daemons(platform) == [True, False], "the second daemon stands by")
    assert EmbeddedPostgres(platform.home / "postgres").is_running()
    succeeds(platform, launch(platform, platform.day(7)))
    assert len(platform.sales(5, 6, 7)) == 3
