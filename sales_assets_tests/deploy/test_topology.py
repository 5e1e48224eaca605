"""Services of compose.yaml together: started with their documented commands, they load a day and send a mailing."""

import datetime as dt
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import psycopg
import pytest
import requests
import yaml

from sales_assets.postgres.embedded import EmbeddedPostgres
from sales_assets.services.http.server import running
from sales_assets.simulators.partner_api import PartnerApi
from sales_assets.simulators.report_api.app import ReportApi
from sales_assets.simulators.sender_api import SenderApi
from sales_assets_tests.builders import Order, ReportFolderBuilder
from sales_assets_tests.deploy.artefacts import DEPLOY, ENVIRONMENT, SECRETS, compose, our_services
from sales_assets_tests.deploy.containers import Topology
from sales_assets_tests.services.mailings.fixtures import CLIENT, mailing, moment
from sales_assets_tests.services.mailings.worker import remove_queues
from sales_assets_tests.services.partner_orders.fixtures import BROKER_URL, need_broker, until

_LAUNCH = """mutation ($day: String!) { launchRun(executionParams: {
    selector: {repositoryName: "__repository__", repositoryLocationName: "sales_assets",
               jobName: "load_report_and_days"}
    executionMetadata: {tags: [{key: "dagster/partition", value: $day}]}})
    { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
_COURSE = """query ($run: ID!) { runOrError(runId: $run) { ... on Run { status
    eventConnection { events { ... on MessageEvent { message } ... on ErrorEvent { error { message } } } } } } }"""


@pytest.fixture
def topology(tmp_path: Path, reports: ReportFolderBuilder) -> Iterator[tuple[Topology, EmbeddedPostgres, SenderApi]]:
    """All services of the profiles core and services, healthy, with simulators of the three external systems."""
    need_broker()
    sender = SenderApi(token="a-token-of-the-tests")
    prefix = f"topology_{secrets.token_hex(6)}"
    server = EmbeddedPostgres(tmp_path / "postgres")
    with ExitStack() as stack:
        report_api = ReportApi(reports.folder, api_key=SECRETS["REPORT_API_KEY"], report_seconds=0)
        env_file = ENVIRONMENT | {
            "REPORT_API_URL": stack.enter_context(running(report_api)),
            "PARTNERAPI_URL": stack.enter_context(running(PartnerApi())),
            "SENDER_URL": stack.enter_context(running(sender)),
            "SENDER_TOKEN": "a-token-of-the-tests",
        }
        server.ensure_running()
        stack.callback(server.stop)
        stack.callback(remove_queues, BROKER_URL, prefix)
        (folder,) = parse_qs(urlsplit(server.url("sales")).query)["host"]
        topology = Topology(
            our_services(compose("core", "services", **env_file)),
            tmp_path / "topology",
            provided={
                "@postgres:": f"@{quote(folder, safe='')}:",
                f"amqp://sales:{SECRETS['RABBITMQ_PASSWORD']}@rabbitmq:5672//": BROKER_URL,
            },
            environment={"MAILINGS_QUEUE_PREFIX": prefix, "MAILINGS_TICK_SECONDS": "0.5"},
        )
        stack.callback(topology.kill)
        topology.start()
        yield topology, server, sender


@pytest.mark.broker
@pytest.mark.external
@pytest.mark.timeout(900)
def test_compose_services_load_a_day_and_send_a_mailing(
    topology: tuple[Topology, EmbeddedPostgres, SenderApi], reports: ReportFolderBuilder
) -> None:
    services, server, sender = topology
    day = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1)
    reports.report([Order("a", day=day.isoformat())])
    reports.increment(day.isoformat(), [Order("b", day=day.isoformat(), amount="250")])

    api = services.url("api", 8000)
    assert requests.get(f"{api}/ready", timeout=30).json()["degraded"] == []
    requests.post(f"{api}/api/v1/clients/", json=CLIENT, timeout=30).raise_for_status()
    body = mailing(start_time=moment(hours=-1))
    requests.post(f"{api}/api/v1/mailings/", json=body, timeout=30).raise_for_status()

    run = _launched(services, day)
    assert until(lambda: _ended(services, run), seconds=240) == "SUCCESS", _graphql(services, _COURSE, run=run)
    with psycopg.connect(server.url("sales")) as connection:
        loaded = connection.execute("SELECT date_id, sum(amount) FROM mart.f_sales GROUP BY 1").fetchall()
    assert [(number, str(amount)) for number, amount in loaded] == [(int(f"{day:%Y%m%d}"), "250.00")]
    assert list((services.home / "raw").iterdir()), "the raw files are not in the volume"
    until(lambda: sender.sent.total() == 1, seconds=120)

    for target in prometheus_targets() & {"api:8000", "order-events:9464", "mailings-worker:9464"}:
        name, _, port = target.partition(":")
        assert "# TYPE" in requests.get(f"{services.url(name, int(port))}/metrics", timeout=30).text, target
    services.check_all()

    codes = services.stop()
    assert {name: code for name, code in codes.items() if code not in _ENDED} == {}, services.logs()[-5000:]
    until(lambda: not services.processes(), seconds=60)
    logs = services.logs()
    assert [name for name, secret in SECRETS.items() if secret in logs] == []


# Exit codes of a normal end, of SIGTERM, and of commands that handle the signal.
_ENDED = (0, -15, 143, 130)


def prometheus_targets() -> set[str]:
    """Return service:port of all scrape targets of Prometheus."""
    configured = yaml.safe_load((DEPLOY / "monitoring" / "prometheus.yml").read_text(encoding="utf-8"))
    return {
        f"{name}:{job.get('port', found['port'])}"
        for job in configured["scrape_configs"]
        for found in job["dns_sd_configs"]
        for name in found["names"]
    }


def _graphql(services: Topology, query: str, **variables: str) -> dict[str, dict[str, object]]:
    url = f"{services.url('webserver', 3000)}/graphql"
    response = requests.post(url, json={"query": query, "variables": variables}, timeout=60).json()
    assert response.get("data"), response
    found: dict[str, dict[str, object]] = response["data"]
    return found


def _launched(services: Topology, day: dt.date) -> str:
    launched = _graphql(services, _LAUNCH, day=day.isoformat())["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    return str(launched["run"]["runId"])  # type: ignore[index]


def _ended(services: Topology, run: str) -> str | None:
    status = str(_graphql(services, _COURSE, run=run)["runOrError"]["status"])
    return status if status in ("SUCCESS", "FAILURE", "CANCELED") else None
