"""`sales-assets api`: the services of port 8000, whole or in parts, each part in as many processes as one likes.

Belongs here: settings, database and metrics port put together. Does not belong here: the services themselves.
"""

import asyncio
import signal
from collections.abc import Callable, Collection
from contextlib import AsyncExitStack

from prometheus_client import CollectorRegistry, start_http_server

from sales_assets.database import warehouse_url
from sales_assets.postgres import migrations
from sales_assets.postgres.connection import connect
from sales_assets.services.application import Service, application
from sales_assets.services.logging import configure_logging
from sales_assets.services.mailings.celery_app import kick
from sales_assets.services.mailings.service import Mailings
from sales_assets.services.partner_orders.service import PARTS, PartnerOrders
from sales_assets.services.server import serve
from sales_assets.settings import settings

HTTP = "http"
ALL_PARTS = (HTTP, *PARTS)


def run_services(parts: Collection[str], *, host: str, port: int, on_ready: Callable[[str], None]) -> None:
    """Run the parts until SIGINT or SIGTERM. Raises `MigrationError` for a database of another revision."""
    configure_logging()
    database_url = warehouse_url()
    _require_schema(database_url)
    registry = CollectorRegistry()
    orders = PartnerOrders(settings(), database_url, registry=registry, parts=[part for part in PARTS if part in parts])
    metrics_port = settings().partnerapi_metrics_port
    if metrics_port is not None:
        start_http_server(metrics_port, addr=host, registry=registry)
    if HTTP in parts:
        mailings = Mailings(settings(), database_url, registry=registry, kick=kick)
        serve(
            application(orders, mailings, registry=registry),
            host=host,
            port=port,
            lifespan=True,
            trusted_proxies=sorted(settings().sales_trusted_proxies),
            on_ready=on_ready,
        )
    else:
        asyncio.run(_until_told(orders, on_ready=lambda: on_ready(", ".join(sorted(parts)))))


def _require_schema(url: str) -> None:
    connect(url, "sales_assets api").close()  # raises where nothing could be written
    found, latest = migrations.current_revision(url), migrations.latest_revision()
    if found is None and settings().warehouse_url is None:
        migrations.migrate(url)  # a new embedded server holds nothing that could be harmed
    elif found != latest:
        raise migrations.MigrationError(
            f"the warehouse is at revision {found or 'none'}, this version needs {latest}: run `sales-assets migrate`"
        )


async def _until_told(*services: Service, on_ready: Callable[[], None]) -> None:
    told = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    async with AsyncExitStack() as stack:
        for service in services:
            await stack.enter_async_context(service.running())
        on_ready()
        await told.wait()
