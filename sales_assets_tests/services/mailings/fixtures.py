"""The mailings service in tests: HTTP, database, and a broker only if the test has one."""

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import requests
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from psycopg.rows import dict_row

from sales_assets.services.http.admin import AdminPages
from sales_assets.services.http.application import application
from sales_assets.services.http.server import running
from sales_assets.services.mailings.bootstrap import Mailings
from sales_assets.settings import Settings

CLIENT = {"phone": "78218173218", "operator_code": "123", "timezone": "timezone"}


def moment(**ahead: float) -> str:
    """Return the time this far from now in the format of the JSON API."""
    return (dt.datetime.now(dt.UTC) + dt.timedelta(**ahead)).isoformat().replace("+00:00", "Z")


def mailing(**changes: Any) -> dict[str, Any]:
    """Return a valid body: a mailing to all clients that starts in an hour and ends in a day."""
    return {"start_time": moment(hours=1), "text": "hello", "end_time": moment(days=1), **changes}


@dataclass
class Api:
    """The running service and its database."""

    url: str
    database_url: str
    enqueued: list[None] = field(default_factory=list)

    def send(self, method: str, path: str, body: Any = None, **options: Any) -> requests.Response:
        """Send a request below /api/v1, as JSON unless the options override it; redirects are not followed."""
        if body is not None:
            options["json"] = body
        return requests.request(method, f"{self.url}/api/v1{path}", timeout=60, allow_redirects=False, **options)

    def client(self, **changes: Any) -> int:
        """Create a client; return its id."""
        response = self.send("POST", "/clients/", CLIENT | changes)
        response.raise_for_status()
        return int(response.json()["id"])

    def mailing(self, **changes: Any) -> int:
        """Create a mailing; return its id."""
        response = self.send("POST", "/mailings/", mailing(**changes))
        response.raise_for_status()
        return int(response.json()["id"])

    def query(self, statement: str, *parameters: object) -> list[dict[str, Any]]:
        """Run and commit a statement; return its rows, if any."""
        with psycopg.connect(self.database_url, row_factory=dict_row) as connection:
            cursor = connection.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def start(self, mailing_id: int, *, status: str = "Pending", clients: list[int] | None = None) -> None:
        """Set a mailing to running, with a message of this status for each client, without a planner."""
        self.query(
            "UPDATE mailings.mailing SET state = 'running', started_at = now() WHERE mailing_id = %s", mailing_id
        )
        self.query(
            "INSERT INTO mailings.message (mailing_id, client_id, status, next_attempt_at, finished_at)"
            " SELECT %s, client_id, %s, now(), CASE WHEN %s <> 'Pending' THEN now() END"
            " FROM unnest(%s::bigint[]) AS client_id",
            mailing_id, status, status, clients or [],
        )  # fmt: skip

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples with these labels; 0 if there are none."""
        text = requests.get(f"{self.url}/metrics", timeout=60).text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@contextmanager
def api_running(
    database_url: str, *, enqueue_planner: Callable[[], None] | None = None, **chosen: Any
) -> Iterator[Api]:
    """Run the service with a database; planner tasks are counted, or passed to `enqueue_planner`."""
    registry = CollectorRegistry()
    api = Api("", database_url)
    settings = Settings(_env_file=None, **chosen)  # type: ignore[call-arg]
    service = Mailings(
        settings,
        database_url,
        registry=registry,
        enqueue_planner=enqueue_planner or (lambda: api.enqueued.append(None)),
    )
    admin = AdminPages(settings, database_url, views=service.views)
    with running(application(service, admin, registry=registry), lifespan=True) as url:
        api.url = url
        yield api
