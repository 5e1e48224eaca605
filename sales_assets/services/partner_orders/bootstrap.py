"""Wiring of the partner orders service: from settings to routes and background tasks."""

import asyncio
import datetime as dt
import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Literal, get_args

import structlog
from fastapi import APIRouter
from prometheus_client import CollectorRegistry
from starlette.routing import BaseRoute

from sales_assets.postgres.engines import async_engine
from sales_assets.schemas.pseudonyms import Pseudonyms
from sales_assets.services.http.application import ErrorHandler
from sales_assets.services.http.readiness import Check, NotConfiguredError, require_writable
from sales_assets.services.partner_orders.broker import Broker
from sales_assets.services.partner_orders.circuit_breaker import CircuitBreaker
from sales_assets.services.partner_orders.consumer import Consumer
from sales_assets.services.partner_orders.endpoints import v1, v2
from sales_assets.services.partner_orders.errors import ServiceError
from sales_assets.services.partner_orders.metrics import Metrics
from sales_assets.services.partner_orders.partner_client import Attempts, PartnerClient
from sales_assets.services.partner_orders.reconciler import Reconciler
from sales_assets.services.partner_orders.relay import Relay
from sales_assets.services.partner_orders.repository import OrderRepository
from sales_assets.services.partner_orders.service import OrderService
from sales_assets.settings import Settings

_log = structlog.get_logger()

_MEASURE_SECONDS = 5
_RESTART_SECONDS = 5
_CANCEL_SECONDS = 1
# A locked row must not delay the rows stored in the same statement.
_LOCK_MS = 2_000

Part = Literal["relay", "consumer", "reconciler"]
PARTS: tuple[Part, ...] = get_args(Part)


class PartnerOrders:
    """The service of one process: its routes and background tasks."""

    def __init__(
        self,
        settings: Settings,
        database_url: str,
        *,
        registry: CollectorRegistry,
        parts: Collection[Part] = PARTS,
        broker: Broker | None = None,
    ) -> None:
        """`broker`: broker and queue names to use instead of those of the settings."""
        self._settings = settings
        self._database_url = database_url
        self._metrics = Metrics(registry)
        # No test of a connection before use: every statement can be repeated, and is repeated after a broken
        # connection.
        self._engine = async_engine(database_url, "sales_assets partner orders", pre_ping=False, lock_ms=_LOCK_MS)
        self._repository = OrderRepository(
            self._engine,
            worker=f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}",
            project_id=settings.partnerapi_source_project_id,
            kodpost=settings.partnerapi_kodpost,
            pause=dt.timedelta(seconds=settings.partnerapi_reconcile_seconds),
            poll_open_for=dt.timedelta(days=settings.partnerapi_poll_days),
        )
        self._broker = broker or Broker(settings.rabbitmq_url.get_secret_value(), settings.partnerapi_rabbitmq_timeout)
        self._partner = self._make_partner() if settings.partnerapi_url else None
        self._service = OrderService(
            self._repository, self._partner, self._metrics, deadline=settings.partnerapi_deadline
        )
        sleep = settings.partnerapi_rabbitmq_retries_sleep
        pseudonyms = Pseudonyms(settings.sales_erasure_secret.get_secret_value())
        runs: dict[Part, Callable[[], Awaitable[None]]] = {
            "relay": Relay(
                database_url,
                self._broker,
                self._metrics,
                attempts=settings.partnerapi_rabbitmq_retries_count,
                sleep=sleep,
            ).run,
            "consumer": Consumer(database_url, self._broker, self._metrics, pseudonyms, sleep=sleep).run,
            "reconciler": Reconciler(
                self._repository, self._service, self._metrics, seconds=settings.partnerapi_reconcile_seconds
            ).run,
        }
        self._runs: dict[str, Callable[[], Awaitable[None]]] = {
            "claims": self._service.renew_claims,
            "measures": self._measure_periodically,
        }
        self._runs.update((part, runs[part]) for part in PARTS if part in parts)

    def _make_partner(self) -> PartnerClient:
        chosen = self._settings
        return PartnerClient(
            chosen.partnerapi_url,
            reads=Attempts(
                chosen.partnerapi_http_timeout,
                chosen.partnerapi_http_retries_count,
                chosen.partnerapi_http_retries_sleep,
            ),
            orders=Attempts(
                chosen.partnerapi_http_timeout_order,
                chosen.partnerapi_http_retries_count_order,
                chosen.partnerapi_http_retries_sleep_order,
            ),
            breaker=CircuitBreaker(chosen.partnerapi_breaker_failures, chosen.partnerapi_breaker_seconds),
            metrics=self._metrics,
        )

    @property
    def routers(self) -> Sequence[APIRouter]:
        return (v2.router(self._service), v1.router(self._service))

    @property
    def checks(self) -> Mapping[str, Check]:
        return {
            "database": Check(partial(require_writable, self._database_url, "orders.partner_order")),
            # Orders are accepted without it: their events wait in the outbox.
            "broker": Check(self._broker.ping, degrading=True),
            "partner": Check(self._partner_is_set, optional=True),
        }

    async def _partner_is_set(self) -> None:
        if self._partner is None:
            raise NotConfiguredError("PARTNERAPI_URL is not set")

    @property
    def error_handlers(self) -> Mapping[str, ErrorHandler]:
        return {}

    @property
    def pages(self) -> Sequence[BaseRoute]:
        return ()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the partner's connections and the background tasks, from before the first request to after the last."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._engine.dispose)
            if self._partner is not None:
                await stack.enter_async_context(self._partner)
            tasks = [asyncio.create_task(_for_ever(name, run)) for name, run in self._runs.items()]
            try:
                yield
            finally:
                await _cancel(tasks)

    async def measure(self) -> None:
        """Update the metrics of the outbox and of unresolved calls; no change while the database is unavailable."""
        with suppress(ServiceError):
            waiting = await self._repository.outbox_depth()
            self._metrics.outbox(waiting["depth"], waiting["oldest_seconds"])
            unresolved = await self._repository.unresolved()
            self._metrics.unresolved(unresolved["orders"], unresolved["cancels"])

    async def _measure_periodically(self) -> None:
        # The port PARTNERAPI_METRICS_PORT serves the values that were measured last.
        while True:
            await self.measure()
            await asyncio.sleep(_MEASURE_SECONDS)


async def _cancel(tasks: Collection["asyncio.Task[None]"]) -> None:
    """Cancel the tasks until all have ended.

    Once is not enough: aiormq waits with `asyncio.wait_for`, which before Python 3.12 drops a cancellation that arrives
    together with the result. The relay then continued, and about one in 600 stops while it was connecting never ended.
    """
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=_CANCEL_SECONDS)


async def _for_ever(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run a background task; log an unexpected error and restart the task, without affecting the others."""
    while True:
        try:
            await run()
        except Exception:  # noqa: BLE001 - the task must restart after any error
            _log.exception("background task failed, restarting", part=name)
        await asyncio.sleep(_RESTART_SECONDS)
