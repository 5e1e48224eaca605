"""The admin page at /admin: clients, mailings and messages, behind a login.

Views and login only: input is validated and stored as in the API, through ``schemas`` and the ``repository``.
"""

# ruff: noqa: ARG002 - the library says which parameters its methods have

import asyncio
import datetime as dt
import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import structlog
from jinja2 import DictLoader
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
from starlette_admin.actions import row_action
from starlette_admin.auth import AdminUser, AuthProvider
from starlette_admin.exceptions import FormValidationError, LoginFailed
from starlette_admin.fields import BaseField, BooleanField, DateTimeField, IntegerField, StringField, TextAreaField
from starlette_admin.flash import flash
from starlette_admin.views import BaseModelView

from sales_assets.services.http.numbers import parse_integer
from sales_assets.services.mailings.errors import NON_FIELD, Invalid, NotFound
from sales_assets.services.mailings.repository import MailingsRepository, Row
from sales_assets.services.mailings.schemas import INT64, ClientBody, ClientPatch, FormData, MailingBody, MailingPatch

_log = structlog.get_logger()

PATH = "/admin"
_SESSION_SECONDS = 8 * 3600
_REFUSED_SECONDS = 1
_OFF = "The admin page is off: set MAILINGS_ADMIN_PASSWORD to switch it on."

# Loads nothing from other hosts, and is never shown in a frame of another site.
_HEADERS = {
    b"content-security-policy": b"default-src 'self'; style-src 'self' 'unsafe-inline'; "
    b"script-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; form-action 'self'; "
    b"base-uri 'self'; frame-ancestors 'none'",
    b"referrer-policy": b"same-origin",
    b"cache-control": b"no-store",
}

Wanted = Callable[[], None]


def admin_routes(
    repository: MailingsRepository, *, user: str, password: str, secret: str, kick: Wanted
) -> Sequence[BaseRoute]:
    """Return the routes of /admin; without a password, one that says that the page is disabled.

    Args:
        repository: Repository of clients, mailings and messages.
        user: Name of the only user.
        password: Password of the user.
        secret: Signs the sessions, together with the password; empty: a random one per process.
        kick: Enqueues a planner task; must return at once.
    """
    if not password:
        return [Route(f"{PATH}{rest}", _off, include_in_schema=False) for rest in ("", "/", "/{path:path}")]
    key = hashlib.sha256(f"{secret or secrets.token_hex(32)}:{password}".encode()).hexdigest()
    admin = BaseAdmin(
        title="Mailings",
        base_url=PATH,
        route_name="mailings_admin",
        auth_provider=_Login(repository, user, password),
        secret_key=key,
        additional_loaders=[_TEMPLATES],
        favicon_url="data:,",
        middlewares=[
            Middleware(_Page),
            Middleware(
                SessionMiddleware,
                secret_key=key,
                session_cookie="mailings_admin",
                max_age=_SESSION_SECONDS,
                path=PATH,
                same_site="strict",
            ),
        ],
    )
    for view in (_Clients(repository), _Mailings(repository, kick), _Messages(repository)):
        admin.add_view(view)
    holder = Starlette()
    admin.mount_to(holder)
    return [Route(PATH, _to_the_page, include_in_schema=False), *holder.routes]


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
    """Make `request.url_for` return a path without scheme and host, which only the proxy in front knows."""

    def __init__(self, router: Any) -> None:
        self._router = router

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        return _PathOnly(str(self._router.url_path_for(name, **path_params)))


async def _off(_request: Request) -> Response:
    return PlainTextResponse(_OFF, status_code=403)


async def _to_the_page(_request: Request) -> Response:
    return RedirectResponse(f"{PATH}/")


class _Page:
    """Add security headers, make links relative, and respond to HTTP errors.

    Links would otherwise name the scheme and host that a proxy asked for, which need not be the browser's. The library
    parses forms and asks for the user in middlewares, outside its own error handling.
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


class _Login(AuthProvider):
    """A login with one user and password. Failed attempts are delayed, one after the other.

    A logout ends the session for every process: its id is kept until the cookie would expire, so that a copy of the
    cookie opens nothing.
    """

    def __init__(self, repository: MailingsRepository, user: str, password: str) -> None:
        super().__init__()
        self._repository = repository
        self._user = user.encode()
        self._password = password.encode()
        self._name = user
        self._refusing = asyncio.Lock()

    async def login(self, username: str, password: str, remember_me: bool, request: Request) -> Response | None:
        # Both are always compared, in constant time: the duration reveals nothing.
        right = secrets.compare_digest(username.encode(errors="replace"), self._user)
        right &= secrets.compare_digest(password.encode(errors="replace"), self._password)
        if not right:
            async with self._refusing:
                await asyncio.sleep(_REFUSED_SECONDS)
            _log.warning("admin login refused")
            raise LoginFailed("Wrong name or password")
        request.session.clear()
        request.session["user"] = self._name
        request.session["id"] = secrets.token_hex(16)
        # Signing the cookie anew must not prolong it.
        request.session["until"] = int(time.time()) + _SESSION_SECONDS
        _log.info("admin login")
        return None

    async def authenticate(self, request: Request) -> AdminUser | None:
        match request.session:
            case {"user": self._name, "id": str(session_id), "until": int(until)} if until > time.time():
                if not await self._repository.is_session_ended(session_id):
                    return AdminUser(username=self._name)
        return None

    async def logout(self, request: Request) -> Response | None:
        match request.session:
            case {"id": str(session_id), "until": int(until)}:
                await self._repository.end_session(session_id, dt.datetime.fromtimestamp(until, dt.UTC))
        request.session.clear()
        _log.info("admin logout")
        return None


class _View(BaseModelView):
    """Base of the three list views: rows of the repository, in its order."""

    pk_attr = "id"
    sortable_fields: Sequence[str] = []
    exporters: Sequence[Any] = []
    importers: Sequence[Any] = []
    page_size = 25
    page_size_options = (25, 50, 100)

    def __init__(self, repository: MailingsRepository) -> None:
        self._repository = repository
        super().__init__()

    def can_export(self, request: Request) -> bool:  # bulk export is the API's
        return False

    def can_import(self, request: Request) -> bool:
        return False

    async def _found(self, *, words: str | None, ids: list[int] | None, limit: int, offset: int) -> list[Row]:
        raise NotImplementedError

    async def find_all(
        self,
        request: Request,
        skip: int = 0,
        limit: int = 100,
        q: str | None = None,
        sorts: Any = None,  # nothing is sortable
        filters: Any = None,  # nor filtered by other means than words
    ) -> Sequence[Any]:
        rows = await self._found(words=q, ids=None, limit=limit if limit > 0 else 1000, offset=skip)
        return [SimpleNamespace(**row) for row in rows]

    async def find_by_pk(self, request: Request, pk: Any) -> Any:
        found = await self.find_by_pks(request, [pk])
        return found[0] if found else None

    async def find_by_pks(self, request: Request, pks: list[Any]) -> Sequence[Any]:
        ids = [_id(pk) for pk in pks]
        rows = await self._found(words=None, ids=ids, limit=len(ids), offset=0)
        return [SimpleNamespace(**row) for row in rows]

    async def _obeying(self, writing: Awaitable[Row]) -> Any:
        """Show the errors of a rejected form beside its fields."""
        try:
            return SimpleNamespace(**await writing)
        except Invalid as invalid:
            told: dict[str | int, Any] = {field: " ".join(texts) for field, texts in invalid.errors.items()}
            if NON_FIELD in told:
                told.setdefault("send_until", told.pop(NON_FIELD))
            raise FormValidationError(told) from None

    async def delete(self, request: Request, pks: list[Any]) -> int | None:
        gone = 0
        for pk in pks:
            try:
                await self._delete(_id(pk))
                gone += 1
            except NotFound:  # deleted meanwhile
                continue
        return gone

    async def _delete(self, number: int) -> None:
        raise NotImplementedError


class _Clients(_View):
    key = "clients"
    menu_label = "Clients"
    display_name = "Client"
    icon = "fa fa-address-book"
    searchable_fields = ("phone", "operator_code", "tag", "timezone")
    fields: Sequence[BaseField] = (
        IntegerField("id", exclude_from_create=True, exclude_from_edit=True),
        StringField("phone", required=True, maxlength=11, placeholder="7XXXXXXXXXX"),
        StringField("operator_code", required=True, maxlength=10),
        StringField("tag", maxlength=50, help_text="The client's own; the marts' tags stand beside it"),
        StringField("timezone", required=True, maxlength=64, placeholder="Europe/Moscow",
                    help_text="Anything that is no zone of the IANA database counts as UTC"),
        DateTimeField("updated_at", label="Changed (UTC)", exclude_from_create=True, exclude_from_edit=True),
    )  # fmt: skip

    async def _found(self, *, words: str | None, ids: list[int] | None, limit: int, offset: int) -> list[Row]:
        return await self._repository.search_clients(words=words, ids=ids, limit=limit, offset=offset)

    async def count(self, request: Request, q: str | None = None, filters: Any = None) -> int:
        return await self._repository.count_clients(q)

    async def create(self, request: Request, data: dict[str, Any]) -> Any:
        return await self._obeying(self._create(data))

    async def _create(self, data: Mapping[str, Any]) -> Row:
        return await self._repository.create_client(ClientBody.values(_typed(data)))

    async def edit(self, request: Request, pk: Any, data: dict[str, Any]) -> Any:
        return await self._obeying(self._edit(_id(pk), data))

    async def _edit(self, number: int, data: Mapping[str, Any]) -> Row:
        return await self._repository.update_client(number, ClientPatch.values(_typed(data)))

    async def _delete(self, number: int) -> None:
        await self._repository.delete_client(number)


class _Mailings(_View):
    key = "mailings"
    menu_label = "Mailings"
    display_name = "Mailing"
    icon = "fa fa-envelope"
    searchable_fields = ("text", "client_operator_code_filter", "client_tag_filter")
    row_actions = ("view", "edit", "delete", "pause", "resume")
    fields: Sequence[BaseField] = (
        IntegerField("id", exclude_from_create=True, exclude_from_edit=True),
        StringField("state", exclude_from_create=True, exclude_from_edit=True),
        BooleanField("paused", exclude_from_create=True, exclude_from_edit=True),
        StringField("start_time", label="Start", required=True, placeholder="2028-11-20T16:50Z",
                    help_text="ISO 8601; UTC where no zone is given"),
        TextAreaField("text", required=True),
        StringField("client_operator_code_filter", label="Operator code", maxlength=10, help_text="Empty: all"),
        StringField("client_tag_filter", label="Tag", maxlength=50, help_text="Own tags and the marts'. Empty: all"),
        StringField("end_time", label="End", required=True, placeholder="2028-11-21",
                    help_text="Nothing is sent after it"),
        StringField("send_from", label="Send from", placeholder="09:00", exclude_from_list=True,
                    help_text="The window of a day, in each client's own zone; both or none"),
        StringField("send_until", label="Send until", placeholder="21:00", exclude_from_list=True),
        DateTimeField("started_at", label="Started (UTC)", exclude_from_create=True, exclude_from_edit=True),
        DateTimeField("finished_at", label="Finished (UTC)", exclude_from_create=True, exclude_from_edit=True),
    )  # fmt: skip

    def __init__(self, repository: MailingsRepository, kick: Wanted) -> None:
        self._kick = kick
        super().__init__(repository)

    async def _found(self, *, words: str | None, ids: list[int] | None, limit: int, offset: int) -> list[Row]:
        return [
            {**row, "start_time": _iso(row["start_time"]), "end_time": _iso(row["end_time"])}
            for row in await self._repository.search_mailings(words=words, ids=ids, limit=limit, offset=offset)
        ]

    async def count(self, request: Request, q: str | None = None, filters: Any = None) -> int:
        return await self._repository.count_mailings(q)

    async def create(self, request: Request, data: dict[str, Any]) -> Any:
        return await self._obeying(self._create(data))

    async def _create(self, data: Mapping[str, Any]) -> Row:
        row = await self._repository.create_mailing(MailingBody.values(_typed(data)))
        self._kick()
        return row

    async def edit(self, request: Request, pk: Any, data: dict[str, Any]) -> Any:
        return await self._obeying(self._edit(_id(pk), data))

    async def _edit(self, number: int, data: Mapping[str, Any]) -> Row:
        row = await self._repository.update_mailing(number, MailingPatch.values(_typed(data)))
        self._kick()
        return row

    async def _delete(self, number: int) -> None:
        await self._repository.delete_mailing(number)

    @row_action(name="pause", text="Pause", icon_class="fa fa-pause", confirmation="Send nothing more of it for now?")
    async def pause_action(self, request: Request, pk: Any) -> None:
        await self._repository.pause_mailing(_id(pk))
        flash(request, "Nothing more is sent until it is resumed", "success")

    @row_action(name="resume", text="Resume", icon_class="fa fa-play", confirmation="Go on with it?")
    async def resume_action(self, request: Request, pk: Any) -> None:
        await self._repository.resume_mailing(_id(pk))
        self._kick()
        flash(request, "It goes on", "success")


class _Messages(_View):
    key = "messages"
    menu_label = "Messages"
    display_name = "Message"
    icon = "fa fa-paper-plane"
    row_actions = ("view",)
    actions: Sequence[str] = ()
    searchable_fields = ("mailing_id",)
    fields: Sequence[BaseField] = (
        IntegerField("id"),
        IntegerField("mailing_id", label="Mailing", help_text="Search for its number"),
        IntegerField("client_id", label="Client"),
        StringField("status"),
        IntegerField("attempts"),
        StringField("reason"),
        DateTimeField("created_at", label="Made (UTC)"),
        DateTimeField("finished_at", label="Ended (UTC)"),
    )

    def can_create(self, request: Request) -> bool:
        return False

    def can_edit(self, request: Request) -> bool:
        return False

    def can_delete(self, request: Request) -> bool:
        return False

    async def _found(self, *, words: str | None, ids: list[int] | None, limit: int, offset: int) -> list[Row]:
        if ids is not None:
            return [await self._repository.message(number) for number in ids]
        mailing_id = _number(words) if words else None
        if words and mailing_id is None:
            return []
        return await self._repository.browse_messages(mailing_id, limit=limit, offset=offset)

    async def count(self, request: Request, q: str | None = None, filters: Any = None) -> int:
        mailing_id = _number(q) if q else None
        return 0 if q and mailing_id is None else await self._repository.count_messages(mailing_id)

    async def create(self, request: Request, data: dict[str, Any]) -> Any:
        raise HTTPException(403)

    async def edit(self, request: Request, pk: Any, data: dict[str, Any]) -> Any:
        raise HTTPException(403)


def _typed(data: Mapping[str, Any]) -> FormData:
    """Return the submitted fields as the API reads them from a form."""
    return FormData({name: "" if value is None else value for name, value in data.items()})


def _number(text: str) -> int | None:
    try:
        number = parse_integer(text)
    except ValueError:
        return None
    return number if number <= INT64 else None


def _id(pk: Any) -> int:
    number = _number(str(pk))
    if number is None:
        raise NotFound
    return number


def _iso(moment: Any) -> str:
    return str(moment.isoformat()).replace("+00:00", "Z")
