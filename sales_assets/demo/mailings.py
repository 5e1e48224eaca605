"""Mailing of the demo, from a refund in the mart to a message at the sender, and back to the mart."""

import datetime as dt
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
import requests

from sales_assets.dagster_internals import range_tags
from sales_assets.definitions import defs
from sales_assets.demo.services import PHONES, DemoError, Followed, Services, log_path
from sales_assets.deploy.instance import prepare_dagster_home
from sales_assets.deploy.runs import failures_of, run_job
from sales_assets.partitions import ORDER_DAYS, days_of, key_of
from sales_assets.pipeline.progress import Progress
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.schemas.calendar import monday_of
from sales_assets.settings import settings

TAG = "refunded"

_WEEKS = 5
_SENT_SECONDS = 60.0
_TEXT = "Your money is on its way back. Here is 10% off your next order."

# Customers of the demo's orders, and others without an order, one of them with another tag.
_CLIENTS: tuple[dict[str, Any], ...] = (
    *({"phone": phone, "operator_code": "000", "timezone": "Europe/Moscow"} for phone in PHONES),
    {"phone": "70000000003", "operator_code": "000", "timezone": "Asia/Novosibirsk"},
    {"phone": "70000000004", "operator_code": "000", "timezone": "UTC", "tag": "VIP"},
    {"phone": "70000000005", "operator_code": "000", "timezone": "Asia/Vladivostok"},
)


@dataclass(frozen=True)
class Mailed:
    """Result of the demo's mailing.

    Attributes:
        mailing_id: The mailing.
        weeks: Rows of mart.f_customer_retention, the latest first.
        audience: Number of clients, and of linked ones by kind of link.
        tags: Number of clients by tag.
        statistics: Number of messages by status, from the API.
        refunds: Refunds of the demo's orders, each with its client and its message.
        sent: Number of sends by message.
        failures: Failures of the runs.
    """

    mailing_id: int
    weeks: list[dict[str, Any]]
    audience: dict[str, int]
    tags: dict[str, int]
    statistics: dict[str, int]
    refunds: list[dict[str, Any]]
    sent: Mapping[int, int]
    failures: list[str]


def follow_mailing(services: Services, orders: Followed, progress: Progress) -> Mailed:
    """Create clients, link and tag them through Dagster, and send a mailing to those with refunds.

    Raises `DemoError` if a service refuses a request, or the mailing does not finish in time.
    """
    warehouse = Warehouse()
    failures: list[str] = []
    progress.notify("creating clients")
    for client in _CLIENTS:
        _create_client(services.url, client)
    prepare_dagster_home()
    with dg.DagsterInstance.get() as instance:
        progress.notify("computing customer retention")
        failures += _make(instance, "make_customer_retention", _weeks(), progress)
        progress.notify("linking and tagging clients")
        failures += _make(instance, "fill_audience", {}, progress)
        progress.notify("sending a mailing")
        mailing_id = create_mailing(services.url)
        statistics = when_finished(services, mailing_id)
        progress.notify("loading its deliveries")
        days = _changed_days(warehouse)
        failures += _make(instance, "load_mailing_deliveries", days, progress) if days else []
    if set(statistics) != {"SENT"}:
        failures.append(f"not every message was sent: {statistics or 'there are none'}")
    return Mailed(
        mailing_id,
        warehouse.rows("mailings/demo", "weeks", limit=_WEEKS),
        warehouse.rows("mailings/client_customer", "summary")[0],
        warehouse.rows("mailings/client_tag", "summary")[0],
        statistics,
        warehouse.rows("mailings/demo", "followed", order_ids=orders.order_ids, mailing_id=mailing_id),
        dict(services.sender.sent),
        failures,
    )


def _request(url: str, method: str, path: str, **options: Any) -> Any:
    answer = requests.request(method, f"{url}/api/v1/{path}", timeout=30, **options)
    if not answer.ok:
        raise DemoError(f"{method} {url}/api/v1/{path} returned {answer.text}; see {log_path()}")
    return answer.json()


def _create_client(url: str, client: Mapping[str, Any]) -> None:
    """Create a client, unless an earlier demo has created it."""
    if not _request(url, "GET", "clients/list/", params={"phone": client["phone"], "limit": 1})["results"]:
        _request(url, "POST", "clients/", json=client)


def create_mailing(url: str) -> int:
    """Create a mailing to the customers with refunds, starting now; returns its id. Raises `DemoError`."""
    now = dt.datetime.now(dt.UTC)
    mailing = {
        "start_time": now.isoformat(),
        "text": _TEXT,
        "client_operator_code_filter": None,
        "client_tag_filter": TAG,
        "end_time": (now + dt.timedelta(hours=1)).isoformat(),
    }
    return int(_request(url, "POST", "mailings/", json=mailing)["id"])


def when_finished(services: Services, mailing_id: int) -> dict[str, int]:
    """Wait until the mailing is finished; returns {status: messages}. Raises `DemoError` if that takes too long."""
    deadline = time.monotonic() + _SENT_SECONDS
    while _request(services.url, "GET", f"mailings/{mailing_id}/detail/")["state"] != "finished":
        for ended in filter(None, (process.exit_reason for process in services.celery)):
            raise DemoError(ended)
        if time.monotonic() > deadline:
            logs = " and ".join(str(process.log) for process in services.celery)
            raise DemoError(f"the mailing was not finished in {_SENT_SECONDS:.0f} s; see {logs}")
        time.sleep(0.1)
    counts = _request(services.url, "GET", f"mailings/{mailing_id}")["message_data"]
    return {row["status"]: row["count"] for row in counts}


def _weeks() -> dict[str, str]:
    """Build the tags of a run over the weeks that the demo loads, the current one included."""
    today = dt.datetime.now(dt.UTC).date()
    return range_tags(key_of(monday_of(today - dt.timedelta(days=30))), key_of(monday_of(today)))


def _changed_days(warehouse: Warehouse) -> dict[str, str]:
    """Build the tags of a run over the days that the sensor would request."""
    changed = warehouse.rows("mart/f_mailing_deliveries", "changed_days", timezone=settings().sales_timezone)
    days = [key_of(day) for day in days_of({row["day"] for row in changed} & set(ORDER_DAYS.get_partition_keys()))]
    return range_tags(days[0], days[-1]) if days else {}


def _make(instance: dg.DagsterInstance, job: str, tags: dict[str, str], progress: Progress) -> list[str]:
    """Run a job; returns its failures. Warnings aren't failures: clients that a user added may be unlinked."""
    run = run_job(defs(), instance, job, tags, progress)
    red = [
        check.check_name
        for check in run.get_asset_check_evaluations()
        if not check.passed and check.severity is dg.AssetCheckSeverity.ERROR
    ]
    return [*failures_of(run), *(f"check {name} failed" for name in red)]
