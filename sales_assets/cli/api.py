"""`sales-assets api`: serve the HTTP API and run the background tasks of the services, together or separately."""

import asyncio
import signal
from collections.abc import Callable, Collection
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from sales_assets.cli.console import out

if TYPE_CHECKING:
    from fastapi import FastAPI
    from prometheus_client import CollectorRegistry

    from sales_assets.services.http.application import Service
    from sales_assets.services.partner_orders.bootstrap import PartnerOrders

HTTP = "http"


def api(
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    part: Annotated[
        list[str] | None,
        typer.Option(help="Run only this part: http, relay, consumer or reconciler. Repeatable; default: all."),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, max=64, help="Processes that serve the port together, each with all chosen parts.")
    ] = 1,
) -> None:
    """Serve partner orders and mailings (/docs, /admin, /health, /ready, /metrics) on port 8000 until Ctrl-C.

    One process runs all parts: the HTTP API, the relay (outbox to RabbitMQ), the consumer (RabbitMQ to staging) and the
    reconciler (resolves unknown outcomes). To run them separately: `api --part http`, `api --part relay`, and so on.
    With --workers, several processes share the port, and /metrics has the sums over all of them.
    Requires PARTNERAPI_URL (try `sales-assets partner-api`) and RabbitMQ at RABBITMQ_URL. Celery sends the mailings:
    celery -A sales_assets.services.mailings.celery_app worker, and ... beat.
    """
    from sales_assets.services.partner_orders.bootstrap import PARTS

    all_parts = (HTTP, *PARTS)
    unknown = set(part or ()) - set(all_parts)
    if unknown:
        raise typer.BadParameter(f"unknown part {', '.join(sorted(unknown))}; choose from {', '.join(all_parts)}")
    parts = part or all_parts
    if workers > 1 and HTTP not in parts:
        raise typer.BadParameter("--workers requires the part http; start the command several times for other parts")
    run_services(parts, host=host, port=port, workers=workers, on_ready=lambda where: out.print(f"services: {where}"))


def run_services(
    parts: Collection[str], *, host: str, port: int, on_ready: Callable[[str], None], workers: int = 1
) -> None:
    """Run the parts until SIGINT or SIGTERM. Raises `MigrationError` if the database has another revision."""
    from sales_assets.postgres.database import warehouse_url
    from sales_assets.services.http.logging import configure_logging

    configure_logging()
    _require_schema(warehouse_url())
    if workers > 1:
        _run_processes(parts, workers, host=host, port=port, on_ready=on_ready)
    else:
        _run_process(parts, host=host, port=port, on_ready=on_ready)


def _run_process(parts: Collection[str], *, host: str, port: int, on_ready: Callable[[str], None]) -> None:
    from prometheus_client import CollectorRegistry, start_http_server

    from sales_assets.services.http.server import serve
    from sales_assets.settings import settings

    registry = CollectorRegistry()
    metrics_port = settings().partnerapi_metrics_port
    if metrics_port is not None:
        start_http_server(metrics_port, addr=host, registry=registry)
    if HTTP in parts:
        serve(
            _application(parts, registry),
            host=host,
            port=port,
            lifespan=True,
            trusted_proxies=sorted(settings().sales_trusted_proxies),
            on_ready=on_ready,
        )
    else:
        asyncio.run(_until_signal(_orders(parts, registry), on_ready=lambda: on_ready(", ".join(sorted(parts)))))


def _run_processes(
    parts: Collection[str], workers: int, *, host: str, port: int, on_ready: Callable[[str], None]
) -> None:
    from functools import partial

    from prometheus_client import start_http_server

    from sales_assets.services.http.workers import serve_by_processes, shared_metrics, shared_registry
    from sales_assets.settings import settings

    with shared_metrics() as folder:
        metrics_port = settings().partnerapi_metrics_port
        if metrics_port is not None:
            start_http_server(metrics_port, addr=host, registry=shared_registry())
        serve_by_processes(
            partial(_application_of_worker, tuple(parts)),
            workers,
            host=host,
            port=port,
            trusted_proxies=sorted(settings().sales_trusted_proxies),
            metrics=folder,
            on_ready=on_ready,
        )


def _application_of_worker(parts: Collection[str]) -> "FastAPI":
    from prometheus_client import CollectorRegistry

    from sales_assets.services.http.logging import configure_logging
    from sales_assets.services.http.workers import shared_registry

    configure_logging()
    return _application(parts, CollectorRegistry(), shared_registry)


def _application(
    parts: Collection[str], registry: "CollectorRegistry", reported: "Callable[[], CollectorRegistry] | None" = None
) -> "FastAPI":
    from sales_assets.postgres.database import warehouse_url
    from sales_assets.services.http.admin import AdminPages
    from sales_assets.services.http.application import application
    from sales_assets.services.mailings.bootstrap import Mailings
    from sales_assets.services.mailings.celery_app import enqueue_planner
    from sales_assets.services.steward.bootstrap import steward_templates, steward_views
    from sales_assets.settings import settings

    mailings = Mailings(settings(), warehouse_url(), registry=registry, enqueue_planner=enqueue_planner)
    admin = AdminPages(
        settings(),
        warehouse_url(),
        views=[*steward_views(warehouse_url()), *mailings.views],
        templates=[steward_templates()],
    )
    return application(_orders(parts, registry), mailings, admin, registry=registry, reported=reported)


def _orders(parts: Collection[str], registry: "CollectorRegistry") -> "PartnerOrders":
    from sales_assets.postgres.database import warehouse_url
    from sales_assets.services.partner_orders.bootstrap import PARTS, PartnerOrders
    from sales_assets.settings import settings

    chosen = [part for part in PARTS if part in parts]
    return PartnerOrders(settings(), warehouse_url(), registry=registry, parts=chosen)


def _require_schema(url: str) -> None:
    from sales_assets.postgres import migrations
    from sales_assets.postgres.connection import connect
    from sales_assets.settings import settings

    connect(url, "sales_assets api").close()  # raises if the database is read-only
    found, latest = migrations.current_revision(url), migrations.latest_revision()
    if found is None and settings().warehouse_url is None:
        migrations.migrate(url)  # a new embedded server has no data to lose
    elif found != latest:
        raise migrations.MigrationError(
            f"the warehouse is at revision {found or 'none'}, this version needs {latest}: run `sales-assets migrate`"
        )


async def _until_signal(*services: "Service", on_ready: Callable[[], None]) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with AsyncExitStack() as stack:
        for service in services:
            await stack.enter_async_context(service.running())
        on_ready()
        await stopped.wait()
