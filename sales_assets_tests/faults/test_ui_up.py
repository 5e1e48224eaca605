"""Faults while the Dagster UI is up: failed loads, a killed PostgreSQL, and a second platform on the same home."""

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
from sales_assets_tests.resources.receivers import Mailbox, mailbox
from sales_assets_tests.resources.servers import http_response, serving
from sales_assets_tests.ui.platform import COMMAND, Platform, command_running, free_port, running_platform

pytestmark = pytest.mark.external

_SECONDS = 180
_TOKEN = "t0ken-0f-the-webhook"

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
    sensorsOrError(repositorySelector: {repositoryName: "__repository__", repositoryLocationName: "sales_assets"}) {
        ... on Sensors { results { name sensorState { typeSpecificData { ... on SensorData { lastCursor } }
            ticks(limit: 10) { status skipReason cursor error { message } } } } } }
    workspaceOrError { ... on Workspace { locationEntries { displayMetadata { key value } } } } }"""


@pytest.fixture(scope="module")
def mail() -> Iterator[Mailbox]:
    with mailbox() as mail_box:
        yield mail_box


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, mail: Mailbox) -> Iterator[Platform]:
    """Yield a platform with two alert receivers, one of which is unreachable."""
    urls = f"json://127.0.0.1:9/{_TOKEN} {mail.url}"
    with running_platform(tmp_path_factory.mktemp("platform"), ALERT_URLS=urls) as running:
        yield running


def graphql(platform: Platform, query: str, **variables: str) -> requests.Response:
    return requests.post(f"{platform.url}/graphql", json={"query": query, "variables": variables}, timeout=60)


def launch(platform: Platform, day: str) -> str:
    launched = graphql(platform, _LAUNCH, day=day).json()["data"]["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    return str(launched["run"]["runId"])


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + _SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"timed out waiting until {what}"
        time.sleep(0.2)
    return found


def end_of(platform: Platform, run: str) -> str:
    def ended() -> str | None:
        result = graphql(platform, _STATUS, run=run).json()
        status = result["data"] and str(result["data"]["runOrError"]["status"])  # no data while the server is down
        return status if status in ("SUCCESS", "FAILURE", "CANCELED") else None

    return str(until(ended, f"the run {run} ends"))


def succeeds(platform: Platform, run: str) -> None:
    """Wait for the end of the run; if it is not SUCCESS, fail with the run's events."""
    assert end_of(platform, run) == "SUCCESS", graphql(platform, _COURSE, run=run).text


def daemons(platform: Platform) -> list[bool]:
    """Return, for each daemon on the platform's storage, True if it is active and False if it is on standby."""
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


BROKEN_OFF = http_response("a line that breaks", length=1000)
REFUSED = http_response(status="400 Bad Request")


def fail_to_load(platform: Platform, day: str, file: list[bytes] = BROKEN_OFF) -> None:
    """Load a day from an API whose files break off, or have the given response; check that the load fails."""
    ((report_id,),) = platform.query("SELECT report_id FROM raw.delivery WHERE kind = 'report'")

    def respond(path: str) -> list[bytes]:
        if not path.startswith("/get_increment"):
            return file
        links = {"user_orders_log_inc": f"{server.url}/orders.csv?X-Amz-Signature=AWS4-HMAC"}
        data = {"increment_id": "i", "s3_path": links}
        return http_response(
            json.dumps({"report_id": report_id, "date": f"{day} 00:00:00", "status": "SUCCESS", "data": data})
        )

    with serving(respond) as server:
        assert command(platform, "load", "--from", day, "--to", day, REPORT_API_URL=server.url).returncode == 1


def test_the_ui_contains_no_secret(platform: Platform) -> None:
    """The UI shows a good run, a run that failed at the API, the instance, the sensors and the code location."""
    succeeds(platform, launch(platform, platform.day(1)))
    fail_to_load(platform, platform.day(2))
    response = graphql(platform, _EVERYTHING)
    assert "errors" not in response.json(), response.text[:2000]
    for expected in ("/orders.csv: ", "delivered", "run_storage: Runs", platform.day(1)):
        assert expected in response.text
    for secret in (KEY, "X-Amz-", "AWS4-HMAC", _TOKEN):
        assert secret not in response.text


def test_failed_load_is_reported_by_mail(platform: Platform, mail: Mailbox) -> None:
    day = platform.day(5)
    # A different reason than in other tests: failures for the same reason share an alert.
    fail_to_load(platform, day, REFUSED)

    def failure_mails() -> list[str]:
        # One message contains all new causes of a kind: "2 causes for which load_days failed".
        return [text for subject, text in mail.mails if "load_days failed" in subject and f"{day}: " in text]

    (text,) = until(failure_mails, "the daemon evaluates the sensor, which sends the mail")
    assert f"sales-assets load --from {day} --to {day}" in text

    def listed() -> str:
        printed = command(platform, "alerts", "list").stdout
        return printed if "load_days failed" in printed else ""

    printed = until(listed, "the tick is over")
    assert "!! receiver 1 (json), " in printed
    assert _TOKEN not in printed


def test_postgresql_killed_during_a_run_fails_the_run_and_the_ui_keeps_working(platform: Platform) -> None:
    server = EmbeddedPostgres(platform.home / "postgres")
    before = platform.sales(1, 2, 3, 20)
    with psycopg.connect(server.url("sales"), autocommit=True) as holder:
        holder.execute(statements("locks")["everything"])
        run = launch(platform, platform.day(3))
        wait_for_waiter(server.url("sales"), seconds=_SECONDS)
        kill(server)
    assert requests.get(f"{platform.url}/server_info", timeout=60).ok
    # Any command notices that the server is down and restarts it.
    loaded = command(platform, "load", "--from", platform.day(4), "--to", platform.day(4))
    assert loaded.returncode == 0, loaded.stderr
    assert platform.sales(1, 2, 3, 20) == before
    assert end_of(platform, run) == "FAILURE"
    succeeds(platform, launch(platform, platform.day(3)))
    assert len(platform.sales(3, 4)) == 2


def test_a_second_platform_on_the_home_joins_and_does_not_affect_the_first(platform: Platform) -> None:
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
