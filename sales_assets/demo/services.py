"""Services of the demo: simulators, the API on port 8000, Celery's processes, and orders followed to the mart.

The broker may be shared with others: queues and exchanges of the demo have unique names, are removed with the demo, and
expire after a day if it is killed.
"""

import asyncio
import csv
import datetime as dt
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import dagster as dg
import requests
import structlog
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from prometheus_client import CollectorRegistry

from sales_assets.dagster_internals import range_tags
from sales_assets.definitions import defs
from sales_assets.demo.celery_processes import CeleryProcess, celery_running
from sales_assets.deploy.instance import prepare_dagster_home
from sales_assets.deploy.runs import failures_of, run_job
from sales_assets.pipeline.progress import Progress
from sales_assets.postgres.database import warehouse_url
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.services.http.admin import AdminPages
from sales_assets.services.http.application import application
from sales_assets.services.http.logging import configure_logging
from sales_assets.services.http.server import running
from sales_assets.services.http.users import UsersFile
from sales_assets.services.mailings.bootstrap import Mailings
from sales_assets.services.partner_orders.bootstrap import PartnerOrders
from sales_assets.services.partner_orders.broker import Broker
from sales_assets.services.partner_orders.mapping import mappings_in, store
from sales_assets.services.steward.bootstrap import steward_templates, steward_views
from sales_assets.settings import settings
from sales_assets.simulators.partner_api import PartnerApi
from sales_assets.simulators.sender_api import SenderApi

_log = structlog.get_logger()

PORT = 8000
_ADMIN_USER = "demo"

_BROKER_SECONDS = 3.0
_STAGED_SECONDS = 60.0

# The partner's ids of items, pharmacy and customers. The phones are fictitious.
_THEIR_ITEMS = ("58", "21737", "40112")
_THEIR_PHARMACY = "1086"
PHONES = ("70000000000", "70000000001", "70000000002")

# The customer, (item, price, count) of each line, and whether the order is cancelled.
_ORDERS: tuple[tuple[int, tuple[tuple[int, str, int], ...], bool], ...] = (
    (0, ((0, "641.52", 1), (1, "99.90", 3)), False),
    (1, ((2, "1250.00", 2),), True),
    (0, ((1, "99.90", 1), (2, "1250.00", 1)), False),
    (2, ((0, "641.52", 2),), True),
)


class DemoError(Exception):
    """A step of the demo failed; the message has the step and the reason."""


@dataclass(frozen=True)
class Services:
    """The running services: their URL, a user of /admin, the simulated sender, and Celery's processes."""

    url: str
    admin_user: str
    admin_password: str
    sender: SenderApi
    sender_url: str
    celery: Sequence[CeleryProcess]

    @property
    def is_requested_port(self) -> bool:
        return urlsplit(self.url).port == PORT


@dataclass(frozen=True)
class Followed:
    """Result of the demo's orders: counts, rows of the mart, and failures of the run."""

    order_ids: list[int]
    cancelled: int
    mapped: int
    mapping_file: str
    days: list[str]
    lines: list[dict[str, Any]]
    failures: list[str]


def why_no_broker() -> str | None:
    """Explain what is skipped without RabbitMQ and how to get it; None if it is reachable."""
    url = urlsplit(settings().rabbitmq_url.get_secret_value())
    try:
        asyncio.run(_broker("ready?", _BROKER_SECONDS).ping())
    except (*CONNECTION_EXCEPTIONS, OSError, ValueError) as error:  # ValueError: a malformed URL
        return (
            f"Orders and mailings are skipped: they need RabbitMQ, and none runs at {url.hostname}:{url.port or 5672} "
            f"({type(error).__name__}). `apt-get install rabbitmq-server` or `docker run -d -p 5672:5672 rabbitmq:4` "
            "provides one; set RABBITMQ_URL to its address."
        )
    return None


@contextmanager
def services_running(progress: Progress) -> Iterator[Services]:
    """Run the simulators, the services on the demo's warehouse and Celery's processes within the block.

    Listens on port 8000 of the loopback, or on a free one if it is taken. The logs are SALES_HOME/services.log,
    worker.log and beat.log.
    """
    progress.notify("starting the simulators and the services")
    broker = _broker(f"sales_assets_demo_{secrets.token_hex(4)}", settings().partnerapi_rabbitmq_timeout)
    with ExitStack() as stack:
        log = stack.enter_context((settings().sales_home / "services.log").open("a", encoding="utf-8"))
        stack.callback(configure_logging)  # before the log file is closed
        configure_logging(to=log)
        stack.callback(_forget, broker)
        partner_url = stack.enter_context(running(PartnerApi()))
        token = secrets.token_hex(16)
        sender = SenderApi(token=token)
        sender_url = stack.enter_context(running(sender))
        # Start them now: they take seconds to start, and are needed once the orders are done.
        celery = stack.enter_context(celery_running(broker, sender_url=sender_url, sender_token=token))
        # Never send the demo's orders and messages to a real partner or sender in the settings.
        chosen = settings().model_copy(update={"partnerapi_url": partner_url, "sender_url": sender_url})
        registry = CollectorRegistry()
        orders = PartnerOrders(chosen, warehouse_url(), registry=registry, broker=broker)
        mailings = Mailings(chosen, warehouse_url(), registry=registry, enqueue_planner=_enqueue_nothing)
        password = secrets.token_urlsafe(12)
        UsersFile(chosen.users_file).add(_ADMIN_USER, password)
        admin = AdminPages(
            chosen,
            warehouse_url(),
            views=[*steward_views(warehouse_url()), *mailings.views],
            templates=[steward_templates()],
        )
        app = application(orders, mailings, admin, registry=registry)
        try:
            url = stack.enter_context(running(app, lifespan=True, port=PORT))
        except OSError:
            url = stack.enter_context(running(app, lifespan=True))
        _log.info("the demo's services are running", url=url, broker_name=broker.name)
        yield Services(url, _ADMIN_USER, password, sender, sender_url, celery)


def _enqueue_nothing() -> None:
    """Enqueue no planner task: the queues of the settings may be in use by others."""


def follow_orders(services: Services, progress: Progress) -> Followed:
    """Place orders, cancel some, wait for their events, map their ids, and load their days through Dagster.

    Raises `DemoError` if an order is refused, or its event is not staged in time.
    """
    warehouse = Warehouse()
    progress.notify("placing orders")
    first_id = int(time.time()) * 10  # different from those of an earlier demo
    placed = [
        _place(services.url, first_id + number, PHONES[customer], lines)
        for number, (customer, lines, _) in enumerate(_ORDERS)
    ]
    for (order_id, theirs), (_, _, is_cancelled) in zip(placed, _ORDERS, strict=True):
        if is_cancelled:
            _request(services.url, "DELETE", {"order_id": order_id, "their_order_id": theirs})
    cancelled = sum(is_cancelled for _, _, is_cancelled in _ORDERS)
    order_ids = [order_id for order_id, _ in placed]
    progress.notify("waiting for their events")
    _wait_until_staged(warehouse, order_ids, len(placed) + cancelled)
    progress.notify("mapping the partner's ids")
    mapping_file, mapped = _map(warehouse)
    progress.notify("loading the days of the orders")
    days, failures = _load(warehouse, progress)
    lines = warehouse.rows("orders/demo", "lines", order_ids=order_ids)
    return Followed(order_ids, cancelled, mapped, mapping_file, days, lines, failures)


def _broker(name: str, timeout: float) -> Broker:
    return Broker(settings().rabbitmq_url.get_secret_value(), timeout, name, fleeting=True)


def _forget(broker: Broker) -> None:
    # If the broker is gone, the queues expire.
    with suppress(*CONNECTION_EXCEPTIONS, OSError):
        asyncio.run(broker.remove())


def _place(url: str, order_id: int, phone: str, lines: tuple[tuple[int, str, int], ...]) -> tuple[int, str]:
    yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    answer = _request(
        url,
        "POST",
        {
            "order_id": order_id,
            "date": yesterday.isoformat(timespec="milliseconds"),
            "client": {"name": "Demo", "phone": phone, "email": "demo@example.com"},
            "their_pharmacy_id": _THEIR_PHARMACY,
            "order_type": 2,
            "items": [{"their_id": _THEIR_ITEMS[item], "price": price, "count": count} for item, price, count in lines],
            "comment": None,
            "extra": {},
        },
    )
    return order_id, str(answer["their_order_id"])


def _request(url: str, method: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = requests.request(method, f"{url}/v2/orders/", json=body, timeout=settings().partnerapi_deadline + 10)
    content: dict[str, Any] = answer.json()
    if content.get("result") != "success":
        raise DemoError(f"{method} {url}/v2/orders/ returned {answer.text}; see {log_path()}")
    return content


def _wait_until_staged(warehouse: Warehouse, order_ids: list[int], events: int) -> None:
    deadline = time.monotonic() + _STAGED_SECONDS
    while warehouse.rows("orders/demo", "staged", order_ids=order_ids)[0]["events"] < events:
        if time.monotonic() > deadline:
            raise DemoError(f"the orders' events were not staged in {_STAGED_SECONDS:.0f} s; see {log_path()}")
        time.sleep(0.1)


def log_path() -> str:
    """Return the path of the log that the demo's services write."""
    return str(settings().sales_home / "services.log")


def _map(warehouse: Warehouse) -> tuple[str, int]:
    """Write a mapping file as a user would, and apply it like `sales-assets orders map`."""
    known = warehouse.rows("orders/demo", "known", items=len(_THEIR_ITEMS), customers=len(PHONES))[0]
    rows = [("item", theirs, ours) for theirs, ours in zip(_THEIR_ITEMS, known["item_ids"], strict=True)]
    rows += [("pharmacy", _THEIR_PHARMACY, known["city_id"])]
    rows += [("customer", phone, ours) for phone, ours in zip(PHONES, known["customer_ids"], strict=True)]
    file = settings().sales_home / "partner_mapping.csv"
    with file.open("w", encoding="utf-8", newline="") as lines:
        csv.writer(lines).writerows([("kind", "theirs", "ours"), *rows])
    store(warehouse, mappings_in(file))
    return str(file), len(rows)


def _load(warehouse: Warehouse, progress: Progress) -> tuple[list[str], list[str]]:
    """Load the days that the sensor would request; return the days and the failures of the run."""
    changed = warehouse.rows("staging/partner_order_event", "new_days", timezone=settings().sales_timezone)
    days = [row["day"] for row in changed]
    prepare_dagster_home()
    with dg.DagsterInstance.get() as instance:
        run = run_job(defs(), instance, "load_partner_orders", range_tags(days[0], days[-1]), progress)
    red = [check.check_name for check in run.get_asset_check_evaluations() if not check.passed]
    return days, [*failures_of(run), *(f"check {name} failed" for name in red)]
