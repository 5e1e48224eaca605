"""Fixtures of the partner orders service, without a broker unless a test uses the `broker` fixture."""

import itertools
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from sales_assets.postgres import migrations
from sales_assets.postgres.embedded import EmbeddedPostgres
from sales_assets.services.http.server import running
from sales_assets.services.partner_orders.broker import Broker
from sales_assets.simulators.partner_api import PartnerApi
from sales_assets_tests.conftest import copy_database
from sales_assets_tests.services.partner_orders.fixtures import Service, need_broker, service_running, unique_names

Start = Callable[..., Service]
NO_BROKER = Broker("amqp://guest:guest@127.0.0.1:9//", 1)

_ids = itertools.count(1000)


@pytest.fixture
def broker() -> Iterator[Broker]:
    """RabbitMQ, with names of queues and exchanges that only this test uses."""
    need_broker()
    with unique_names() as broker:
        yield broker


@pytest.fixture
def start(warehouse_url: str) -> Iterator[Start]:
    """Return a function that starts the service with the test's warehouse and a new or given simulated partner."""
    with ExitStack() as stack:

        def start_one(
            *,
            partner: PartnerApi | None = None,
            broker: Broker | None = None,
            database_url: str = warehouse_url,
            **chosen: Any,
        ) -> Service:
            partner = partner or PartnerApi()
            partner_url = stack.enter_context(running(partner))
            return stack.enter_context(
                service_running(
                    database_url,
                    partner,
                    partner_url,
                    broker=broker or NO_BROKER,
                    **chosen,
                )
            )

        yield start_one


@pytest.fixture
def own_server(tmp_path_factory: pytest.TempPathFactory) -> EmbeddedPostgres:
    """A separate database server that the test may stop and start."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("stopped"))
    server.ensure_running()
    migrations.migrate(server.url("sales"))
    return server


@pytest.fixture
def service(start: Start) -> Service:
    return start()


@pytest.fixture(scope="module")
def shared(server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service shared by the tests of a module; each test places its own order (`new_id`)."""
    with ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setenv("SALES_HOME", str(tmp_path_factory.mktemp("home")))
        database_url = copy_database(server, "migrated_template", f"shared_{secrets.token_hex(6)}")
        partner = PartnerApi()
        url = stack.enter_context(running(partner))
        yield stack.enter_context(service_running(database_url, partner, url, broker=NO_BROKER))


@pytest.fixture
def new_id(shared: Service) -> int:
    """Return an order_id that no other test uses, after resetting the partner's scripted responses and call counts."""
    for operation in ("find", "create", "status", "cancel"):
        shared.partner.forget_answers(operation)
    shared.partner.seen.clear()
    return next(_ids)
