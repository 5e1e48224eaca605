"""Wiring of the mailings' HTTP service: from settings to routes and the views of the admin pages."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import CollectorRegistry, Counter
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute
from starlette_admin.views import BaseView

from sales_assets.postgres.engines import async_engine
from sales_assets.schemas.pseudonyms import Pseudonyms
from sales_assets.services.http.application import ErrorHandler
from sales_assets.services.http.readiness import Check, NotConfiguredError, require_erasure_secret, require_writable
from sales_assets.services.mailings.admin import admin_views
from sales_assets.services.mailings.endpoints import PREFIX
from sales_assets.services.mailings.endpoints.clients import clients_router
from sales_assets.services.mailings.endpoints.mailings import mailings_router
from sales_assets.services.mailings.errors import Unavailable, error_response
from sales_assets.services.mailings.metrics import Queue
from sales_assets.services.mailings.repository import MailingsRepository
from sales_assets.services.mailings.unsubscribe import links_of, unsubscribe_routes
from sales_assets.settings import Settings


class Mailings:
    """The HTTP service of clients and mailings. `enqueue_planner` enqueues a planner task, and must return at once."""

    def __init__(
        self, settings: Settings, database_url: str, *, registry: CollectorRegistry, enqueue_planner: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._database_url = database_url
        # Test each connection before use: an insert on a dead connection can't be repeated blindly.
        self._engine = async_engine(database_url, "sales_assets mailings", pre_ping=True)
        self._pseudonyms = Pseudonyms(settings.sales_erasure_secret.get_secret_value())
        self._repository = MailingsRepository(self._engine, self._pseudonyms)
        self._queue = Queue(registry)
        unknown_zones = Counter(
            "mailings_clients_with_unknown_zone",
            "Clients stored with an unknown time zone, which counts as UTC.",
            registry=registry,
        )
        self._routers = (
            clients_router(self._repository, on_unknown_zone=unknown_zones.inc),
            mailings_router(self._repository, timezone=settings.sales_timezone, enqueue_planner=enqueue_planner),
        )
        self._views = admin_views(self._repository, enqueue_planner=enqueue_planner)
        links = links_of(settings)
        self._pages = unsubscribe_routes(self._repository, links) if links is not None else ()

    @property
    def routers(self) -> Sequence[APIRouter]:
        return self._routers

    @property
    def checks(self) -> Mapping[str, Check]:
        return {
            "mailings database": Check(partial(require_writable, self._database_url, "mailings.mailing")),
            "sender": Check(self._sender_is_set, optional=True),
            # With another secret, mailings are sent, and no client is stored.
            "erased phones": Check(
                partial(require_erasure_secret, self._database_url, self._pseudonyms), degrading=True
            ),
        }

    async def _sender_is_set(self) -> None:
        if not self._settings.sender_url:
            raise NotConfiguredError("SENDER_URL is not set")

    @property
    def error_handlers(self) -> Mapping[str, ErrorHandler]:
        return {PREFIX: self._answer}

    def _answer(self, request: Request, error: HTTPException | RequestValidationError) -> Response:
        return error_response(request, error, [route for router in self._routers for route in router.routes])

    @property
    def pages(self) -> Sequence[BaseRoute]:
        return self._pages

    @property
    def views(self) -> Sequence[BaseView]:
        """Views of the admin pages."""
        return self._views

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Close the pool of connections after the last request."""
        try:
            yield
        finally:
            await self._engine.dispose()

    async def measure(self) -> None:
        """Update the metrics of the message queue; no change while the database is unavailable."""
        with suppress(Unavailable):
            self._queue.update(*await self._repository.queue())
