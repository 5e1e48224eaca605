"""Views of clients, mailings and messages on the admin pages.

Views only: input is validated and stored as in the API, through ``schemas`` and the ``repository``, with an entry of
the audit trail. The login is in ``http/admin.py``.
"""

# ruff: noqa: ARG002 - the library defines the parameters of its methods

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette_admin.actions import row_action
from starlette_admin.exceptions import FormValidationError
from starlette_admin.fields import BaseField, BooleanField, DateTimeField, IntegerField, StringField, TextAreaField
from starlette_admin.flash import flash
from starlette_admin.views import BaseModelView, BaseView

from sales_assets.services.http.admin import user_of
from sales_assets.services.http.numbers import parse_integer
from sales_assets.services.mailings.errors import ERASED, NON_FIELD, Invalid, NotFound
from sales_assets.services.mailings.repository import MailingsRepository, Row
from sales_assets.services.mailings.schemas import (
    INT64,
    ClientBody,
    ClientPatch,
    FormData,
    MailingBody,
    MailingPatch,
    SuppressionBody,
)

Wanted = Callable[[], None]


def admin_views(repository: MailingsRepository, *, enqueue_planner: Wanted) -> Sequence[BaseView]:
    """Return the views of clients, mailings and messages.

    Args:
        repository: Repository of clients, mailings and messages.
        enqueue_planner: Enqueues a planner task; must return at once.
    """
    return (
        _Clients(repository),
        _Mailings(repository, enqueue_planner),
        _Messages(repository),
        _Suppressions(repository),
    )


class _View(BaseModelView):
    """Base class of the list views: rows of the repository, in its order."""

    pk_attr = "id"
    sortable_fields: Sequence[str] = []
    exporters: Sequence[Any] = []
    importers: Sequence[Any] = []
    page_size = 25
    page_size_options = (25, 50, 100)

    def __init__(self, repository: MailingsRepository) -> None:
        self._repository = repository
        super().__init__()

    def can_export(self, request: Request) -> bool:  # the API is for bulk export
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
        filters: Any = None,  # and the search text is the only filter
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

    async def _validating(self, writing: Awaitable[Row]) -> Any:
        """Show the errors of a rejected form next to its fields."""
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
                await self._delete(_id(pk), user_of(request))
                gone += 1
            except NotFound:  # deleted meanwhile
                continue
        return gone

    async def _delete(self, number: int, by: str) -> None:
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
        StringField("tag", maxlength=50, help_text="The client's own tag; tags from the marts are kept apart"),
        StringField("timezone", required=True, maxlength=64, placeholder="Europe/Moscow",
                    help_text="Any text that is not a zone of the IANA database counts as UTC"),
        DateTimeField("updated_at", label="Changed (UTC)", exclude_from_create=True, exclude_from_edit=True),
    )  # fmt: skip

    async def _found(self, *, words: str | None, ids: list[int] | None, limit: int, offset: int) -> list[Row]:
        return await self._repository.search_clients(words=words, ids=ids, limit=limit, offset=offset)

    async def count(self, request: Request, q: str | None = None, filters: Any = None) -> int:
        return await self._repository.count_clients(q)

    async def create(self, request: Request, data: dict[str, Any]) -> Any:
        return await self._validating(self._create(data, user_of(request)))

    async def _create(self, data: Mapping[str, Any], by: str) -> Row:
        return await self._repository.create_client(ClientBody.values(_typed(data)), by=by)

    async def edit(self, request: Request, pk: Any, data: dict[str, Any]) -> Any:
        return await self._validating(self._edit(_id(pk), data, user_of(request)))

    async def _edit(self, number: int, data: Mapping[str, Any], by: str) -> Row:
        return await self._repository.update_client(number, ClientPatch.values(_typed(data)), by=by)

    async def _delete(self, number: int, by: str) -> None:
        await self._repository.delete_client(number, by=by)


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
                    help_text="ISO 8601; UTC if no zone is given"),
        TextAreaField("text", required=True),
        StringField("client_operator_code_filter", label="Operator code", maxlength=10, help_text="Empty: all"),
        StringField("client_tag_filter", label="Tag", maxlength=50,
                    help_text="The client's own tag or one from the marts. Empty: all"),
        StringField("end_time", label="End", required=True, placeholder="2028-11-21",
                    help_text="Nothing is sent after it"),
        StringField("send_from", label="Send from", placeholder="09:00", exclude_from_list=True,
                    help_text="Daily window in each client's time zone; set both or neither"),
        StringField("send_until", label="Send until", placeholder="21:00", exclude_from_list=True),
        DateTimeField("started_at", label="Started (UTC)", exclude_from_create=True, exclude_from_edit=True),
        DateTimeField("finished_at", label="Finished (UTC)", exclude_from_create=True, exclude_from_edit=True),
    )  # fmt: skip

    def __init__(self, repository: MailingsRepository, enqueue_planner: Wanted) -> None:
        self._enqueue_planner = enqueue_planner
        super().__init__(repository)

    async def _found(self, *, words: str | None, ids: list[int] | None, limit: int, offset: int) -> list[Row]:
        return [
            {**row, "start_time": _iso(row["start_time"]), "end_time": _iso(row["end_time"])}
            for row in await self._repository.search_mailings(words=words, ids=ids, limit=limit, offset=offset)
        ]

    async def count(self, request: Request, q: str | None = None, filters: Any = None) -> int:
        return await self._repository.count_mailings(q)

    async def create(self, request: Request, data: dict[str, Any]) -> Any:
        return await self._validating(self._create(data, user_of(request)))

    async def _create(self, data: Mapping[str, Any], by: str) -> Row:
        row = await self._repository.create_mailing(MailingBody.values(_typed(data)), by=by)
        self._enqueue_planner()
        return row

    async def edit(self, request: Request, pk: Any, data: dict[str, Any]) -> Any:
        return await self._validating(self._edit(_id(pk), data, user_of(request)))

    async def _edit(self, number: int, data: Mapping[str, Any], by: str) -> Row:
        row = await self._repository.update_mailing(number, MailingPatch.values(_typed(data)), by=by)
        self._enqueue_planner()
        return row

    async def _delete(self, number: int, by: str) -> None:
        await self._repository.delete_mailing(number, by=by)

    @row_action(name="pause", text="Pause", icon_class="fa fa-pause", confirmation="Pause this mailing?")
    async def pause_action(self, request: Request, pk: Any) -> None:
        await self._repository.pause_mailing(_id(pk), by=user_of(request))
        flash(request, "The mailing is paused", "success")

    @row_action(name="resume", text="Resume", icon_class="fa fa-play", confirmation="Resume this mailing?")
    async def resume_action(self, request: Request, pk: Any) -> None:
        await self._repository.resume_mailing(_id(pk), by=user_of(request))
        self._enqueue_planner()
        flash(request, "The mailing is resumed", "success")


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
        DateTimeField("created_at", label="Created (UTC)"),
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


class _Suppressions(_View):
    key = "suppressions"
    menu_label = "Suppressed phones"
    display_name = "Suppressed phone"
    icon = "fa fa-ban"
    row_actions = ("view", "delete")
    searchable_fields = ("phone",)
    fields: Sequence[BaseField] = (
        IntegerField("id", exclude_from_create=True),
        StringField("phone", required=True, maxlength=11, placeholder="7XXXXXXXXXX",
                    help_text="No mailing is sent to this phone, even if a client with it is added later"),
        StringField("source", exclude_from_create=True, help_text="link, import or admin"),
        DateTimeField("suppressed_at", label="Since (UTC)", exclude_from_create=True),
    )  # fmt: skip

    def can_edit(self, request: Request) -> bool:
        return False

    async def _found(self, *, words: str | None, ids: list[int] | None, limit: int, offset: int) -> list[Row]:
        return await self._repository.search_suppressions(words=words, ids=ids, limit=limit, offset=offset)

    async def count(self, request: Request, q: str | None = None, filters: Any = None) -> int:
        return await self._repository.count_suppressions(q)

    async def create(self, request: Request, data: dict[str, Any]) -> Any:
        return await self._validating(self._create(data, user_of(request)))

    async def _create(self, data: Mapping[str, Any], by: str) -> Row:
        phone = SuppressionBody.values(_typed(data))["phone"]
        await self._repository.suppress(phone, "admin", by=by)
        rows = await self._repository.search_suppressions(words=phone, ids=None, limit=1, offset=0)
        if not rows:
            raise Invalid({"phone": [ERASED]})
        return rows[0]

    async def edit(self, request: Request, pk: Any, data: dict[str, Any]) -> Any:
        raise HTTPException(403)

    async def _delete(self, number: int, by: str) -> None:
        await self._repository.lift_suppression(number, by=by)


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
