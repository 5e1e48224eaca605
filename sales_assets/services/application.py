"""The one HTTP application on port 8000: the routes of every service, and what they share.

Belongs here: both slashes, errors, health, readiness, metrics, the request log. Does not belong here: any service's
routes; a service brings a `Service`, and `application(...)` is called with all of them.
"""

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from typing import Any, Protocol

import structlog
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, ProcessCollector, generate_latest
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = structlog.get_logger()

_MOST_BODY_BYTES = 4 << 20
_QUIET_PATHS = frozenset(("/health", "/ready", "/metrics"))
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))

Check = Callable[[], Awaitable[None]]
ErrorAnswer = Callable[[Request, HTTPException | RequestValidationError], Response]


class Service(Protocol):
    """What a service adds to the application."""

    @property
    def routers(self) -> Sequence[APIRouter]:
        """Its routes; a `BothSlashes` answers each with and without the trailing slash."""

    @property
    def checks(self) -> Mapping[str, Check]:
        """By name, what must hold for it to be ready: an awaitable that raises when it does not."""

    @property
    def error_answers(self) -> Mapping[str, ErrorAnswer]:
        """By prefix of the path, such as `/api/v1`, how errors are told there; elsewhere it is done as FastAPI does."""

    @property
    def pages(self) -> Sequence[BaseRoute]:
        """What it has besides the routes of an API: pages for people, such as `/admin`."""

    def running(self) -> AbstractAsyncContextManager[None]:
        """Its life, from before the first request to after the last."""

    async def measure(self) -> None:
        """Bring the metrics up to date that no event does; before each answer of /metrics."""


class BothSlashes(APIRouter):
    """Every path with and without the trailing slash, without a redirect; the OpenAPI has it as it was written."""

    def add_api_route(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().add_api_route(path, endpoint, **options)
        twin = path.removesuffix("/") if path.endswith("/") else f"{path}/"
        super().add_api_route(twin, endpoint, **options | {"include_in_schema": False})


def application(*services: Service, registry: CollectorRegistry) -> FastAPI:
    """The application over some services, which count in `registry`."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for service in services:
                await stack.enter_async_context(service.running())
            yield

    app = FastAPI(
        title="sales_assets services",
        version=version("sales_assets"),
        description="Partner orders, versions 1 and 2, and mailings. "
        "Every path answers with and without a trailing slash.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        strict_content_type=False,
        max_body_size=_MOST_BODY_BYTES,
    )
    for service in services:
        for router in service.routers:
            app.include_router(router)
    app.include_router(_common(services, registry))
    for service in services:
        app.router.routes.extend(service.pages)
    answers = {prefix: answer for service in services for prefix, answer in service.error_answers.items()}
    app.add_exception_handler(RequestValidationError, _in_the_manner_of(answers, _malformed))
    app.add_exception_handler(HTTPException, _in_the_manner_of(answers, _http_error))
    app.add_middleware(_RequestLog, registry=registry)
    ProcessCollector(registry=registry)
    return app


def _common(services: Sequence[Service], registry: CollectorRegistry) -> APIRouter:
    router = BothSlashes(tags=["operation"])

    @router.get("/health")
    async def health() -> dict[str, str]:
        """The process is there and answers."""
        return {"status": "ok"}

    @router.get("/ready", responses={503: {"description": "Something that is needed is not there."}})
    async def ready() -> JSONResponse:
        """Everything that is needed is there, or which is not: `{"ready": false, "checks": {"broker": "..."}}`."""
        told = {}
        for service in services:
            for name, check in service.checks.items():
                try:
                    await check()
                except Exception as error:  # noqa: BLE001 - whatever it is, it is why we are not ready
                    # The type only: messages of drivers hold addresses and users.
                    told[name] = (
                        str(error) if type(error).__module__.startswith("sales_assets") else type(error).__name__
                    )
                else:
                    told[name] = "ok"
        good = all(state == "ok" for state in told.values())
        return JSONResponse({"ready": good, "checks": told}, status_code=200 if good else 503)

    @router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """For Prometheus."""
        for service in services:
            await service.measure()
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    @router.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        return get_swagger_ui_html(openapi_url=request.app.openapi_url, title=request.app.title)

    return router


def _in_the_manner_of(
    answers: Mapping[str, ErrorAnswer], otherwise: ErrorAnswer
) -> Callable[[Request, Exception], Awaitable[Response]]:
    """An error below a service's prefix is told by the service."""

    async def tell(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException | RequestValidationError)
        path = request.scope["path"]
        for prefix, answer in answers.items():
            if path == prefix or path.startswith(f"{prefix}/"):
                return answer(request, error)
        return otherwise(request, error)

    return tell


def _malformed(_request: Request, error: HTTPException | RequestValidationError) -> Response:
    assert isinstance(error, RequestValidationError)
    return _unprocessable(error.errors())


def _http_error(_request: Request, error: HTTPException | RequestValidationError) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 400:
        # FastAPI's own answer to bytes that are no UTF-8, numbers of 5000 digits and the like: no JSON either.
        return _unprocessable([{"type": "json_invalid", "loc": ["body"], "msg": "JSON decode error"}])
    return JSONResponse({"detail": error.detail}, status_code=error.status_code, headers=error.headers)


def _unprocessable(errors: Sequence[Any]) -> Response:
    told = []
    for error in errors:
        try:
            json.dumps(encoded := jsonable_encoder(error), allow_nan=False)
        except (ValueError, TypeError, RecursionError):  # the input is NaN, or nothing that JSON has
            encoded = {key: error[key] for key in ("type", "loc", "msg")}
        told.append(encoded)
    # ASCII: half a surrogate pair can be read from JSON, but not written as UTF-8.
    return Response(json.dumps({"detail": told}, separators=(",", ":")), status_code=422, media_type="application/json")


class _RequestLog:
    """A line per request: method, path without query, status, milliseconds; and a histogram by the route's path."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self._app = app
        self._seconds = Histogram(
            "http_request_seconds", "Requests that were answered.", ["method", "route", "status"], registry=registry
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].rstrip("/") in _QUIET_PATHS:
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            seconds = time.perf_counter() - began
            _log.info("request", method=scope["method"], path=scope["path"], status=status, ms=round(seconds * 1000, 1))
            # Anybody can make up methods and paths; labels are for ever.
            method = scope["method"] if scope["method"] in _METHODS else "other"
            route = getattr(scope.get("route"), "path_format", None) if status != 404 else None
            route = "" if route is None else f"{scope.get('root_path', '')}{route}"
            self._seconds.labels(method, route, status).observe(seconds)
