"""The admin pages at /admin: one login for the views of all services.

Routes, login, sessions and security headers. The services define the views (``mailings/admin.py``,
``steward/pages.py``).
"""

# ruff: noqa: ARG002 - the library defines the parameters of its methods

import asyncio
import datetime as dt
import hashlib
import hmac
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog
from fastapi import APIRouter
from jinja2 import BaseLoader, DictLoader
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette
from starlette.datastructures import URL, URLPath
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette_admin import BaseAdmin
from starlette_admin.auth import AdminUser, AuthProvider
from starlette_admin.exceptions import LoginFailed
from starlette_admin.routing import route
from starlette_admin.views import BaseView, CustomView

from sales_assets.postgres.engines import async_engine, fetch
from sales_assets.postgres.queries import statements
from sales_assets.services.http.application import ErrorHandler
from sales_assets.services.http.readiness import Check
from sales_assets.services.http.users import LONGEST_PASSWORD, UsersError, UsersFile
from sales_assets.settings import Settings

_log = structlog.get_logger()

PATH = "/admin"
_SESSION_SECONDS = 8 * 3600
_REFUSED_SECONDS = 1
# After this many wrong passwords within 15 minutes, further attempts of the user are refused without a check.
_MOST_REFUSALS = 10
# Each check needs 64 MiB for some 50 ms.
_CHECKS_AT_ONCE = 2
_OFF = "The admin pages are off: add a user with `sales-assets users add NAME`, and restart the service."

# Forbid content from other hosts, and frames in other sites.
_HEADERS = {
    b"content-security-policy": b"default-src 'self'; style-src 'self' 'unsafe-inline'; "
    b"script-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; form-action 'self'; "
    b"base-uri 'self'; frame-ancestors 'none'",
    b"referrer-policy": b"same-origin",
    b"cache-control": b"no-store",
}


class AdminPages:
    """The service of the admin pages. Without any user, /admin responds that they are disabled.

    Args:
        settings: Names the users file; MAILINGS_ADMIN_PASSWORD adds one more user.
        database_url: Database that records logins.
        views: Entries of the menu, in order.
        templates: Loaders of the views' templates.
    """

    def __init__(
        self,
        settings: Settings,
        database_url: str,
        *,
        views: Sequence[BaseView],
        templates: Sequence[BaseLoader] = (),
    ) -> None:
        self._engine = async_engine(database_url, "sales_assets admin", pre_ping=True)
        users = UsersFile(settings.users_file)
        password = settings.mailings_admin_password.get_secret_value()
        found = users.users()
        if password:
            _log.warning("MAILINGS_ADMIN_PASSWORD is deprecated: add named users with `sales-assets users add`")
        if not password and not found.hashes:
            self._pages: Sequence[BaseRoute] = [
                Route(f"{PATH}{rest}", _off, include_in_schema=False) for rest in ("", "/", "/{path:path}")
            ]
            return
        secret = settings.mailings_admin_secret.get_secret_value() or found.key or secrets.token_hex(32)
        key = hashlib.sha256(f"{secret}:{password}".encode()).hexdigest()
        admin = BaseAdmin(
            title="sales_assets",
            base_url=PATH,
            route_name="sales_admin",
            index_view=_Start(views[0]),
            auth_provider=_Login(_Logins(self._engine), users, settings.mailings_admin_user, password, key),
            secret_key=key,
            additional_loaders=[_TEMPLATES, *templates],
            favicon_url="data:,",
            middlewares=[
                Middleware(_Page),
                Middleware(
                    SessionMiddleware,
                    secret_key=key,
                    session_cookie="sales_admin",
                    max_age=_SESSION_SECONDS,
                    path=PATH,
                    same_site="strict",
                ),
            ],
        )
        for view in views:
            admin.add_view(view)
        holder = Starlette()
        admin.mount_to(holder)
        self._pages = [Route(PATH, _redirect_to_pages, include_in_schema=False), *holder.routes]

    @property
    def routers(self) -> Sequence[APIRouter]:
        return ()

    @property
    def checks(self) -> Mapping[str, Check]:
        return {}

    @property
    def error_handlers(self) -> Mapping[str, ErrorHandler]:
        return {}

    @property
    def pages(self) -> Sequence[BaseRoute]:
        return self._pages

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Close the pool of connections after the last request."""
        try:
            yield
        finally:
            await self._engine.dispose()

    async def measure(self) -> None:
        """Do nothing: the admin pages have no metrics."""


def user_of(request: Request) -> str:
    """Return the name of the user who is logged in."""
    return str(request.state.admin_user.username)


class _Start(CustomView):
    """Start page, which redirects to the first view of the menu."""

    add_to_menu = False

    def __init__(self, first: BaseView) -> None:
        super().__init__(menu_label="Start", path="/")
        self._first = first.path if isinstance(first, CustomView) else f"/{getattr(first, 'key', '')}/list"

    @route("")
    async def index(self, request: Request) -> Response:
        return RedirectResponse(f"{request.scope['root_path']}{self._first}", status_code=303)


# The library's templates load a font from another host, and offer a "remember me" that has no effect.
_TEMPLATES = DictLoader(
    {
        "base.html": "{% extends '@starlette-admin/base.html' %}{% block fonts %}{% endblock %}",
        "login.html": "{% extends '@starlette-admin/login.html' %}{% block login_form_footer %}"
        "<style>label:has([name=remember_me]) { display: none }</style>{{ super() }}{% endblock %}",
    }
)


class _PathOnly(URLPath):
    def make_absolute_url(self, base_url: str | URL) -> URL:
        return URL(URL(str(base_url)).path.rstrip("/") + str(self))


class _RelativeRouter:
    """Router for `request.url_for` that returns a path without scheme and host, which only the reverse proxy knows."""

    def __init__(self, router: Any) -> None:
        self._router = router

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        return _PathOnly(str(self._router.url_path_for(name, **path_params)))


async def _off(_request: Request) -> Response:
    return PlainTextResponse(_OFF, status_code=403)


async def _redirect_to_pages(_request: Request) -> Response:
    return RedirectResponse(f"{PATH}/")


class _Page:
    """Add security headers, make links relative, and respond to HTTP errors.

    Links would otherwise contain the scheme and host of the proxy's request, which may differ from the browser's. The
    library parses forms and authenticates users in middlewares, outside its own error handling.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        secure = scope.get("scheme") == "https"
        without_host = {
            **scope,
            "server": None,
            "headers": [(name, value) for name, value in scope["headers"] if name != b"host"],
            "router": _RelativeRouter(scope["router"]),
        }

        async def adding(message: Message) -> None:
            if message["type"] == "http.response.start":
                static = f"{PATH}/static/" in scope["path"]
                chosen = {name: value for name, value in _HEADERS.items() if not (static and name == b"cache-control")}
                given = [
                    (name, value + b"; secure" if secure and name.lower() == b"set-cookie" else value)
                    for name, value in message["headers"]
                ]
                message["headers"] = [*given, *chosen.items()]
            await send(message)

        try:
            await self._app(without_host, receive, adding)
        except HTTPException as error:
            await PlainTextResponse(error.detail, status_code=error.status_code)(scope, receive, adding)


class _Logins:
    """Store and look up admin logins and ended sessions."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def record(self, user: str, event: str) -> None:
        await self._run("ops/admin_login", "record", user_name=user, event=event)

    async def refusals(self, user: str) -> int:
        """Count the wrong passwords of a user in the last 15 minutes, since the last correct one."""
        rows = await self._run("ops/admin_login", "refusals", user_name=user)
        return int(rows[0]["refusals"])

    async def end_session(self, session_id: str, until: dt.datetime) -> None:
        await self._run("mailings/admin_session", "end", session_id=session_id, until=until)

    async def is_session_ended(self, session_id: str) -> bool:
        return bool((await self._run("mailings/admin_session", "is_ended", session_id=session_id))[0]["ended"])

    async def _run(self, file: str, name: str, **parameters: object) -> list[dict[str, Any]]:
        try:
            async with self._engine.connect() as connection:
                return await fetch(connection, statements(file)[name], parameters)
        except (InterfaceError, OperationalError, PoolTimeout) as error:
            _log.error("the database of the admin pages is unavailable", error=type(error).__name__)
            raise HTTPException(503, "The database is unavailable, try again later.") from None


class _Login(AuthProvider):
    """Login of named users. Failed attempts are delayed, one after the other, and recorded.

    A session ends at logout (in every process), when the user is removed, and when the password changes. The id of an
    ended session is stored until its cookie would expire, so that a copied cookie is useless.
    """

    def __init__(self, logins: _Logins, users: UsersFile, one_name: str, one_password: str, key: str) -> None:
        super().__init__()
        self._logins = logins
        self._users = users
        self._one_name = one_name if one_password else ""
        self._one_password = one_password
        self._key = key.encode()
        self._refusing = asyncio.Lock()
        self._checking = asyncio.Semaphore(_CHECKS_AT_ONCE)

    async def login(self, username: str, password: str, remember_me: bool, request: Request) -> Response | None:
        name = username.strip()
        # Attempts under unknown names are not recorded: anyone could add any number of rows.
        is_user = self._secret_of(name) is not None
        is_blocked = is_user and await self._logins.refusals(name) >= _MOST_REFUSALS
        if is_blocked or not await self._is_right(name, password):
            async with self._refusing:
                await asyncio.sleep(_REFUSED_SECONDS)
            if is_user and not is_blocked:
                await self._logins.record(name, "refused")
            _log.warning("admin login refused", blocked=is_blocked)
            raise LoginFailed("Wrong name or password. After too many attempts, wait 15 minutes.")
        await self._logins.record(name, "login")
        request.session.clear()
        request.session["user"] = name
        request.session["id"] = secrets.token_hex(16)
        request.session["of"] = self._mark(name)
        # Signing the cookie again must not extend the session.
        request.session["until"] = int(time.time()) + _SESSION_SECONDS
        _log.info("admin login", user=name)
        return None

    async def _is_right(self, name: str, password: str) -> bool:
        if len(password) > LONGEST_PASSWORD:
            return False
        async with self._checking:
            right = await asyncio.to_thread(self._users.verify, name, password)
        # Name and password are always both compared, in constant time, so that the duration reveals nothing.
        one = secrets.compare_digest(name.encode(errors="replace"), self._one_name.encode())
        one &= secrets.compare_digest(password.encode(errors="replace"), self._one_password.encode())
        return right or (one and bool(self._one_password))

    def _secret_of(self, name: str) -> str | None:
        """Return the password hash, or the password in the settings, that a user's sessions depend on; else None."""
        try:
            hashed = self._users.users().hashes.get(name)
        except UsersError as error:
            _log.error("the users can't be read", error=str(error))
            raise HTTPException(503, "The users can't be read; the log has the reason.") from None
        return hashed or (self._one_password if name and name == self._one_name else None)

    def _mark(self, name: str) -> str:
        secret = self._secret_of(name)
        return "" if secret is None else hmac.new(self._key, secret.encode(), "sha256").hexdigest()[:32]

    async def authenticate(self, request: Request) -> AdminUser | None:
        match request.session:
            case {"user": str(name), "id": str(session_id), "of": str(mark), "until": int(until)} if (
                until > time.time()
            ):
                known = self._mark(name)
                is_same = bool(known) and secrets.compare_digest(mark, known)
                if is_same and not await self._logins.is_session_ended(session_id):
                    return AdminUser(username=name)
        return None

    async def logout(self, request: Request) -> Response | None:
        match request.session:
            case {"user": str(name), "id": str(session_id), "until": int(until)}:
                await self._logins.end_session(session_id, dt.datetime.fromtimestamp(until, dt.UTC))
                await self._logins.record(name, "logout")
        request.session.clear()
        _log.info("admin logout")
        return None
