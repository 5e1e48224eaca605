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

from sales_assets.services.http.application import application
from sales_assets.services.http.server import running
from sales_assets.services.mailings.bootstrap import Mailings
from sales_assets.settings import Settings

CLIENT = {"phone": "78218173218", "operator_code": "123", "timezone": "timezone"}


def moment(**ahead: float) -> str:
    """A moment so far ahead of now, as JSON has it."""
    return (dt.datetime.now(dt.UTC) + dt.timedelta(**ahead)).isoformat().replace("+00:00", "Z")


def mailing(**changes: Any) -> dict[str, Any]:
    """A body that is accepted: a mailing to everybody, from an hour ahead for a day."""
    return {"start_time": moment(hours=1), "text": "hello", "end_time": moment(days=1), **changes}


@dataclass
class Api:
    """The running service, and the database behind it."""

    url: str
    database_url: str
    kicks: list[None] = field(default_factory=list)

    def ask(self, method: str, path: str, body: Any = None, **options: Any) -> requests.Response:
        """A request below /api/v1, as JSON unless the options say otherwise; redirects are not followed."""
        if body is not None:
            options["json"] = body
        return requests.request(method, f"{self.url}/api/v1{path}", timeout=60, allow_redirects=False, **options)

    def client(self, **changes: Any) -> int:
        """A new client's id."""
        answer = self.ask("POST", "/clients/", CLIENT | changes)
        answer.raise_for_status()
        return int(answer.json()["id"])

    def mailing(self, **changes: Any) -> int:
        """A new mailing's id."""
        answer = self.ask("POST", "/mailings/", mailing(**changes))
        answer.raise_for_status()
        return int(answer.json()["id"])

    def query(self, statement: str, *parameters: object) -> list[dict[str, Any]]:
        """A statement on the database, committed; its rows, if it has any."""
        with psycopg.connect(self.database_url, row_factory=dict_row) as connection:
            cursor = connection.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def start(self, mailing_id: int, *, status: str = "Pending", clients: list[int] | None = None) -> None:
        """Have a mailing running with a message of this status for each of the clients, without a planner."""
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
        """The sum of a metric's samples with these labels; 0 where there are none."""
        text = requests.get(f"{self.url}/metrics", timeout=60).text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@contextmanager
def api_running(database_url: str, *, kick: Callable[[], None] | None = None, **chosen: Any) -> Iterator[Api]:
    """The service over a database; kicks of the planner are counted, or given to `kick`."""
    registry = CollectorRegistry()
    api = Api("", database_url)
    settings = Settings(_env_file=None, **chosen)  # type: ignore[call-arg]
    service = Mailings(settings, database_url, registry=registry, kick=kick or (lambda: api.kicks.append(None)))
    with running(application(service, registry=registry), lifespan=True) as url:
        api.url = url
        yield api
