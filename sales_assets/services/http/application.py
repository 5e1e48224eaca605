"""The HTTP application on port 8000: the routes of all services, and their common behavior.

The common part handles trailing slashes, errors, health, readiness, metrics and the request log. Each service
implements `Service`, and `application(...)` combines them.
"""

import json
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from typing import Any, Protocol

import structlog
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, ProcessCollector, generate_latest
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sales_assets.services.http.bodies import MAX_BODY_TEXT, TooComplex, content_type, parse_json
from sales_assets.services.http.limits import RequestLimits
from sales_assets.services.http.numbers import LiteralFloat
from sales_assets.services.http.readiness import Check, Readiness

_log = structlog.get_logger()

_MAX_ERRORS = 100
_MAX_SHOWN = 256
_ASSETS = "/docs/assets"
_QUIET_PATHS = frozenset(("/health", "/ready", "/metrics"))
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))

ErrorHandler = Callable[[Request, HTTPException | RequestValidationError], Response]

# Responses of the middleware to any route that reads a body.
BODY_RESPONSES: dict[int | str, dict[str, Any]] = {
    413: {"description": f"The body is larger than {MAX_BODY_TEXT}."},
    415: {"description": "The body's charset is none of UTF-8, UTF-16, UTF-32, Latin-1, CP1251 and KOI8-R."},
}


class Service(Protocol):
    """The parts that a service adds to the application."""

    @property
    def routers(self) -> Sequence[APIRouter]:
        """Routes; a `BothSlashes` serves each with and without the trailing slash."""

    @property
    def checks(self) -> Mapping[str, Check]:
        """Readiness checks, by name."""

    @property
    def error_handlers(self) -> Mapping[str, ErrorHandler]:
        """Error responses by prefix of the path, such as `/api/v1`; other paths use FastAPI's."""

    @property
    def pages(self) -> Sequence[BaseRoute]:
        """Routes outside the API: pages for people, such as `/admin`."""

    def running(self) -> AbstractAsyncContextManager[None]:
        """Run the service's resources and background tasks, from before the first request to after the last."""

    async def measure(self) -> None:
        """Update the metrics that no event updates; called before each response of /metrics."""


class _SpelledJsonRequest(Request):
    """A request whose JSON keeps the spelling of numbers and is bounded in depth."""

    async def json(self) -> Any:
        codec = content_type(self.headers.get("content-type", "")).codec
        try:
            return parse_json(await self.body(), codec)
        except TooComplex as error:
            raise HTTPException(422, str(error)) from None


class _SpelledJsonRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_spelled(request: Request) -> Response:
            return await handle(_SpelledJsonRequest(request.scope, request.receive))

        return handle_spelled


class BothSlashes(APIRouter):
    """Serve every path with and without the trailing slash, without a redirect; the OpenAPI lists one of them.

    With `head` every GET also answers HEAD.
    """

    def __init__(self, *, head: bool = False, **options: Any) -> None:
        super().__init__(route_class=_SpelledJsonRoute, **options)
        self._head = head

    def add_api_route(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().add_api_route(path, endpoint, **options)
        unlisted = options | {"include_in_schema": False}
        twin = path.removesuffix("/") if path.endswith("/") else f"{path}/"
        super().add_api_route(twin, endpoint, **unlisted)
        if self._head and options.get("methods") == ["GET"]:
            for spelled in (path, twin):
                super().add_api_route(spelled, endpoint, **unlisted | {"methods": ["HEAD"]})


def application(
    *services: Service, registry: CollectorRegistry, reported: Callable[[], CollectorRegistry] | None = None
) -> FastAPI:
    """Build the application that serves the given services; their metrics are in `registry`.

    reported: Returns the registry for `/metrics` if several processes serve the port; default: `registry`.
    """

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
    )
    for service in services:
        for router in service.routers:
            app.include_router(router)
    app.include_router(_common(services, reported or (lambda: registry)))
    # Served locally: the page works without access to other hosts.
    app.mount(_ASSETS, StaticFiles(packages=[("fastapi_offline", "static")]), name="docs_assets")
    for service in services:
        app.router.routes.extend(service.pages)
    handlers = {prefix: handler for service in services for prefix, handler in service.error_handlers.items()}
    app.add_exception_handler(RequestValidationError, _by_prefix(handlers, _malformed))
    app.add_exception_handler(HTTPException, _by_prefix(handlers, _http_error))

    def openapi() -> dict[str, Any]:
        """Return FastAPI's document, without its 422 where a service responds to invalid requests itself."""
        document = FastAPI.openapi(app)
        for path, operations in document["paths"].items():
            if path.startswith(tuple(handlers)):
                for operation in operations.values():
                    operation["responses"].pop("422", None)
        return document

    app.openapi = openapi  # type: ignore[method-assign]
    app.add_middleware(RequestLimits)
    app.add_middleware(_RequestLog, registry=registry)
    ProcessCollector(registry=registry)
    return app


def _common(services: Sequence[Service], reported: Callable[[], CollectorRegistry]) -> APIRouter:
    router = BothSlashes(tags=["operation"])

    @router.get("/health")
    async def health() -> dict[str, str]:
        """Report that the process is alive."""
        return {"status": "ok"}

    readiness = Readiness({name: check for service in services for name, check in service.checks.items()})

    @router.get("/ready", responses={503: {"description": "A dependency is missing."}})
    async def ready() -> JSONResponse:
        """Report within 3 seconds whether every configured dependency is available.

        Lists what is missing: `{"ready": true, "degraded": ["broker"], "checks": {"broker": "...", ...}}`.
        """
        is_ready, body = await readiness.report()
        return JSONResponse(body, status_code=200 if is_ready else 503)

    @router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Return the metrics in Prometheus format."""
        for service in services:
            await service.measure()
        return Response(
            generate_latest(reported()),
            headers={"Content-Type": CONTENT_TYPE_LATEST},
        )

    @router.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        # Links start at the application's root, so that they work with and without the trailing slash.
        root = request.scope.get("root_path", "").rstrip("/")
        return get_swagger_ui_html(
            openapi_url=f"{root}{request.app.openapi_url}",
            title=request.app.title,
            swagger_js_url=f"{root}{_ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{root}{_ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{root}{_ASSETS}/favicon.png",
        )

    return router


def _by_prefix(
    handlers: Mapping[str, ErrorHandler], default: ErrorHandler
) -> Callable[[Request, Exception], Awaitable[Response]]:
    """Let a service respond to errors below its prefix."""

    async def handle(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException | RequestValidationError)
        path = request.scope["path"]
        for prefix, handler in handlers.items():
            if path == prefix or path.startswith(f"{prefix}/"):
                return handler(request, error)
        return default(request, error)

    return handle


def _malformed(_request: Request, error: HTTPException | RequestValidationError) -> Response:
    assert isinstance(error, RequestValidationError)
    return _unprocessable(error.errors())


def _http_error(_request: Request, error: HTTPException | RequestValidationError) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code in (400, 422):
        # FastAPI itself responds 400 to bytes that are not UTF-8, numbers of 5000 digits and the like: malformed JSON
        # too.
        message = error.detail if error.status_code == 422 else "JSON decode error"
        return _unprocessable([{"type": "json_invalid", "loc": ["body"], "msg": message}])
    return JSONResponse({"detail": error.detail}, status_code=error.status_code, headers=error.headers)


def _unprocessable(errors: Sequence[Any]) -> Response:
    # Each error contains its input, which may be the whole body: return only short values, of the first errors.
    told = [
        {key: error[key] for key in ("type", "loc", "msg")}
        | _short({"input": error.get("input", ())})
        | _short(error.get("ctx", {}), "ctx")
        for error in errors[:_MAX_ERRORS]
    ]
    # ASCII: JSON can spell lone surrogates, which UTF-8 cannot encode.
    body = json.dumps({"detail": told}, separators=(",", ":"), allow_nan=False)
    return Response(body, status_code=422, media_type="application/json")


def _short(values: Mapping[str, Any], key: str = "") -> dict[str, Any]:
    """Return the short values that JSON can express, nested under `key` if it is given."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        match value:
            case None | bool():
                found[name] = value
            case LiteralFloat():
                found[name] = value.spelling[:_MAX_SHOWN]
            case str() if len(value) <= _MAX_SHOWN:
                found[name] = value
            case int() if value.bit_length() <= _MAX_SHOWN:
                found[name] = value
            case float() if math.isfinite(value):
                found[name] = value
    return {key: found} if key and found else found


class _RequestLog:
    """Middleware that logs each request (method, path without query, status, milliseconds) and counts it by route."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self._app = app
        self._seconds = Histogram(
            "http_request_seconds", "Answered requests.", ["method", "route", "status"], registry=registry
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
            # The parameter token is part of a signed link, which a reader of the log could use.
            token = scope.get("path_params", {}).get("token")
            path = scope["path"].replace(token, "...") if token else scope["path"]
            _log.info("request", method=scope["method"], path=path, status=status, ms=round(seconds * 1000, 1))
            # Callers can invent methods and paths, and labels are never removed.
            method = scope["method"] if scope["method"] in _METHODS else "other"
            route = getattr(scope.get("route"), "path_format", None) if status != 404 else None
            route = "" if route is None else f"{scope.get('root_path', '')}{route}"
            self._seconds.labels(method, route, status).observe(seconds)
