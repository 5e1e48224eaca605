"""The HTTP interface of clients and mailings: the paths of docs/data-contracts/mailings.md, and separate paths for what
goes beyond it.

Does not belong here: which values are valid (``domain``), what is stored (``repository``), what the OpenAPI says
(``documents``).
"""

import datetime as dt
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import structlog
from fastapi import Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError
from structlog.contextvars import bind_contextvars

from sales_assets.services.http.application import BothSlashes
from sales_assets.services.http.numbers import Integer
from sales_assets.services.mailings import documents
from sales_assets.services.mailings.bodies import read_body
from sales_assets.services.mailings.documents import answers
from sales_assets.services.mailings.domain import INT64, client_values, customer_id, mailing_values
from sales_assets.services.mailings.errors import Invalid
from sales_assets.services.mailings.repository import MailingsRepository, Row
from sales_assets.services.mailings.windows import known_zone

_log = structlog.get_logger()

PREFIX = "/api/v1"

_CLIENT = ("id", "phone", "operator_code", "tag", "timezone")
_MAILING = ("id", "start_time", "text", "client_operator_code_filter", "client_tag_filter", "end_time")
_LISTED = (*_MAILING, "send_from", "send_until", "state", "paused")
_MOST_DAYS = 366


def _calendar_day(value: object) -> object:
    # pydantic also reads digits as seconds since 1970.
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", str(value)):
        raise PydanticCustomError("date_parsing", "Input should be a date, YYYY-MM-DD")
    return value


Id = Annotated[Integer, Path(ge=0, le=INT64)]
Limit = Annotated[Integer, Query(ge=1, le=1000, description="Most entries of a page")]
Cursor = Annotated[Integer, Query(ge=0, le=INT64, description="`next` of the page before")]
Day = Annotated[dt.date, BeforeValidator(_calendar_day)]
Exactly = Annotated[str | None, Query(max_length=100)]


class _Routes(BothSlashes):
    """HEAD wherever there is GET, as the framework has it."""

    def add_api_route(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().add_api_route(path, endpoint, **options)
        if options.get("methods") == ["GET"]:
            super().add_api_route(path, endpoint, **options | {"methods": ["HEAD"], "include_in_schema": False})


def clients_router(repository: MailingsRepository, *, on_unknown_zone: Callable[[], None]) -> BothSlashes:
    """The routes of clients."""
    routes = _Routes(prefix=f"{PREFIX}/clients", tags=["clients"])

    def note(row: Row, what: str) -> None:
        bind_contextvars(client_id=row["id"])
        known = known_zone(row["timezone"]) is not None
        if not known:
            on_unknown_zone()
        _log.info(what, client_id=row["id"], known_zone=known)

    @routes.post(
        "/",
        status_code=201,
        openapi_extra=documents.CLIENT_BODY,
        responses=answers(201, documents.CLIENT, body=documents.CLIENT_ERRORS, found=False),
    )
    async def create_client(request: Request) -> Response:
        """Add a client. A phone may be given more than once; an id of the body is ignored."""
        row = await repository.create_client(client_values(await read_body(request)))
        note(row, "client created")
        return JSONResponse(_pick(row, _CLIENT), status_code=201)

    @routes.get(
        "/list/",
        responses=answers(200, documents.page_of(documents.CLIENT), parameters=True, found=False),
    )
    async def list_clients(
        limit: Limit = 100,
        cursor: Cursor = 0,
        phone: Exactly = None,
        operator_code: Exactly = None,
        tag: Annotated[str | None, Query(max_length=100, description="The client's own")] = None,
    ) -> Response:
        """Clients in the order of their ids."""
        filters = {"phone": phone, "operator_code": operator_code, "tag": tag}
        _require_storable(filters)
        rows = await repository.clients(after=cursor, limit=limit, **filters)
        return JSONResponse(_page(rows, limit, _CLIENT))

    @routes.put(
        "/{client_id}",
        openapi_extra=documents.CLIENT_BODY,
        responses=answers(200, documents.CLIENT, body=documents.CLIENT_ERRORS),
    )
    async def replace_client(client_id: Id, request: Request) -> Response:
        """Change a client as a whole. An omitted tag stays, null clears it."""
        return await change(client_id, request, partial=False)

    @routes.patch(
        "/{client_id}",
        openapi_extra=documents.CLIENT_PATCH,
        responses=answers(200, documents.CLIENT, body=documents.CLIENT_ERRORS),
    )
    async def change_client(client_id: Id, request: Request) -> Response:
        """Change what is given of a client."""
        return await change(client_id, request, partial=True)

    async def change(client_id: int, request: Request, *, partial: bool) -> Response:
        bind_contextvars(client_id=client_id)
        await repository.require_client(client_id)
        row = await repository.update_client(client_id, client_values(await read_body(request), partial=partial))
        note(row, "client changed")
        return JSONResponse(_pick(row, _CLIENT))

    @routes.delete("/{client_id}", status_code=204, responses=answers(204, None))
    async def delete_client(client_id: Id) -> Response:
        """Remove a client. What waits to be sent to it fails."""
        bind_contextvars(client_id=client_id)
        await repository.delete_client(client_id)
        _log.info("client deleted", client_id=client_id)
        return Response(status_code=204)

    @routes.get("/{client_id}/detail/", responses=answers(200, documents.CLIENT_DETAIL))
    async def client_detail(client_id: Id) -> Response:
        """A client with its customer of the mart, if it is linked to one, and the marts' tags."""
        return JSONResponse(_told(await repository.client(client_id)))

    @routes.get("/{client_id}/customer/", responses=answers(200, documents.CUSTOMER))
    async def linked_customer(client_id: Id) -> Response:
        """Which customer of the mart a client is."""
        return JSONResponse(_told(await repository.linked_customer(client_id)))

    @routes.put(
        "/{client_id}/customer/",
        openapi_extra=documents.CUSTOMER_BODY,
        responses=answers(200, documents.CUSTOMER, body={"number": {"customer_id": ["A valid integer is required."]}}),
    )
    async def link_customer(client_id: Id, request: Request) -> Response:
        """Say which customer of the mart a client is; the customer may be one that is yet to come."""
        bind_contextvars(client_id=client_id)
        await repository.require_client(client_id)
        row = await repository.link_customer(client_id, customer_id(await read_body(request)))
        _log.info("client linked", client_id=client_id)
        return JSONResponse(_told(row))

    @routes.delete("/{client_id}/customer/", status_code=204, responses=answers(204, None))
    async def unlink_customer(client_id: Id) -> Response:
        """Take the link back."""
        await repository.unlink_customer(client_id)
        _log.info("client unlinked", client_id=client_id)
        return Response(status_code=204)

    return routes


def mailings_router(repository: MailingsRepository, *, timezone: str, kick: Callable[[], None]) -> BothSlashes:
    """The routes of mailings; `kick` asks the planner to look now, and must return at once."""
    routes = _Routes(prefix=f"{PREFIX}/mailings", tags=["mailings"])

    @routes.post(
        "/",
        status_code=201,
        openapi_extra=documents.MAILING_BODY,
        responses=answers(201, documents.MAILING, body=documents.MAILING_ERRORS, found=False),
    )
    async def create_mailing(request: Request) -> Response:
        """Add a mailing. With a start in the past it starts at once."""
        row = await repository.create_mailing(mailing_values(await read_body(request)))
        bind_contextvars(mailing_id=row["id"])
        _log.info("mailing created", mailing_id=row["id"])
        kick()
        return JSONResponse(_pick(row, _MAILING), status_code=201)

    @routes.get("/", responses=answers(200, documents.STATISTICS, found=False))
    async def statistics() -> Response:
        """Messages of all mailings by status, and how many mailings there are."""
        counts, mailings = await repository.statistics()
        return JSONResponse({"message_data": _told_all(counts), "total_mailings": mailings})

    @routes.get(
        "/list/",
        responses=answers(200, documents.page_of(documents.MAILING_LISTED), parameters=True, found=False),
    )
    async def list_mailings(
        limit: Limit = 100, cursor: Cursor = 0, state: Literal["scheduled", "running", "finished"] | None = None
    ) -> Response:
        """Mailings in the order of their ids."""
        return JSONResponse(_page(await repository.mailings(after=cursor, limit=limit, state=state), limit, _LISTED))

    @routes.get("/daily/", responses=answers(200, documents.DAILY, parameters=True, found=False))
    async def daily_statistics(
        since: Annotated[Day | None, Query(alias="from", description="Else 30 days before `to`")] = None,
        until: Annotated[Day | None, Query(alias="to", description="Included; else today")] = None,
    ) -> Response:
        """Messages by status and the day, in SALES_TIMEZONE, on which their mailing started; at most 366 days."""
        last = until or dt.datetime.now(ZoneInfo(timezone)).date()
        first = since or _days_before(last, 30)
        if not 0 <= (last - first).days < _MOST_DAYS or last == dt.date.max:
            raise Invalid({"to": [f"The range must have 1 to {_MOST_DAYS} days."]})
        rows = await repository.daily_statistics(first, last, timezone)
        days = [
            {"day": day.isoformat(), "message_data": [_pick(row, ("status", "count")) for row in group]}
            for day, group in itertools.groupby(rows, key=lambda row: row["day"])
        ]
        return JSONResponse({"days": days})

    @routes.get("/preview/", responses=answers(200, documents.RECIPIENTS, parameters=True, found=False))
    async def preview(
        client_operator_code_filter: Exactly = None,
        client_tag_filter: Exactly = None,
        limit: Limit = 100,
        cursor: Cursor = 0,
    ) -> Response:
        """Who would receive a mailing with these filters if it started now."""
        _require_storable(
            {"client_operator_code_filter": client_operator_code_filter, "client_tag_filter": client_tag_filter}
        )
        count, ids = await repository.preview(client_operator_code_filter, client_tag_filter, after=cursor, limit=limit)
        return JSONResponse(_recipients(count, ids, limit))

    @routes.get("/{mailing_id}", responses=answers(200, documents.MAILING_STATISTICS))
    async def mailing_statistics(mailing_id: Id) -> Response:
        """Messages of a mailing by status."""
        await repository.require_mailing(mailing_id)
        return JSONResponse({"message_data": _told_all(await repository.mailing_statistics(mailing_id))})

    @routes.put(
        "/{mailing_id}",
        openapi_extra=documents.MAILING_BODY,
        responses=answers(200, documents.MAILING, body=documents.MAILING_ERRORS),
    )
    async def replace_mailing(mailing_id: Id, request: Request) -> Response:
        """Change a mailing that has not started. An omitted filter stays, null clears it."""
        return await change(mailing_id, request, partial=False)

    @routes.patch(
        "/{mailing_id}",
        openapi_extra=documents.MAILING_PATCH,
        responses=answers(200, documents.MAILING, body=documents.MAILING_ERRORS),
    )
    async def change_mailing(mailing_id: Id, request: Request) -> Response:
        """Change what is given of a mailing that has not started."""
        return await change(mailing_id, request, partial=True)

    async def change(mailing_id: int, request: Request, *, partial: bool) -> Response:
        bind_contextvars(mailing_id=mailing_id)
        await repository.require_mailing(mailing_id)
        row = await repository.update_mailing(mailing_id, mailing_values(await read_body(request), partial=partial))
        _log.info("mailing changed", mailing_id=mailing_id)
        kick()
        return JSONResponse(_pick(row, _MAILING))

    @routes.delete("/{mailing_id}", status_code=204, responses=answers(204, None))
    async def delete_mailing(mailing_id: Id) -> Response:
        """Remove a mailing, also a running one: at most what is being sent at the moment goes out."""
        bind_contextvars(mailing_id=mailing_id)
        await repository.delete_mailing(mailing_id)
        _log.info("mailing deleted", mailing_id=mailing_id)
        kick()
        return Response(status_code=204)

    @routes.get("/{mailing_id}/detail/", responses=answers(200, documents.MAILING_DETAIL))
    async def mailing_detail(mailing_id: Id) -> Response:
        """A mailing as it stands: filters, window, state, times and counts."""
        return await told(mailing_id)

    @routes.post("/{mailing_id}/pause/", responses=answers(200, documents.MAILING_DETAIL))
    async def pause_mailing(mailing_id: Id) -> Response:
        """Send nothing more until it is resumed. A second time, or once finished, changes nothing."""
        bind_contextvars(mailing_id=mailing_id)
        await repository.pause_mailing(mailing_id)
        answer = await told(mailing_id)
        _log.info("mailing paused", mailing_id=mailing_id)
        return answer

    @routes.post("/{mailing_id}/resume/", responses=answers(200, documents.MAILING_DETAIL))
    async def resume_mailing(mailing_id: Id) -> Response:
        """Go on. A second time changes nothing."""
        bind_contextvars(mailing_id=mailing_id)
        await repository.resume_mailing(mailing_id)
        answer = await told(mailing_id)
        _log.info("mailing resumed", mailing_id=mailing_id)
        kick()
        return answer

    async def told(mailing_id: int) -> Response:
        mailing = await repository.mailing(mailing_id)
        counts = await repository.mailing_statistics(mailing_id)
        return JSONResponse({**_told(mailing), "message_data": _told_all(counts)})

    @routes.get(
        "/{mailing_id}/messages/",
        responses=answers(200, documents.page_of(documents.MESSAGE), parameters=True),
    )
    async def messages(
        mailing_id: Id,
        status: Literal["Pending", "SENT", "FAILED", "TIMEOUT"] | None = None,
        limit: Limit = 100,
        cursor: Cursor = 0,
    ) -> Response:
        """A started mailing's messages in the order of its clients."""
        await repository.require_mailing(mailing_id)
        rows = await repository.messages(mailing_id, after=cursor, limit=limit, status=status)
        return JSONResponse(_page(rows, limit, key="client_id"))

    @routes.get("/{mailing_id}/recipients/", responses=answers(200, documents.RECIPIENTS, parameters=True))
    async def recipients(mailing_id: Id, limit: Limit = 100, cursor: Cursor = 0) -> Response:
        """Who receives a mailing: fixed once it has started, until then who would if it started now."""
        mailing = await repository.mailing(mailing_id)
        if mailing["state"] == "scheduled":
            count, ids = await repository.preview(
                mailing["client_operator_code_filter"], mailing["client_tag_filter"], after=cursor, limit=limit
            )
        else:
            count, ids = await repository.recipients(mailing_id, after=cursor, limit=limit)
        return JSONResponse(_recipients(count, ids, limit))

    return routes


def _json(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, dt.time):
        return value.isoformat() if value.second or value.microsecond else value.isoformat("minutes")
    return value


def _pick(row: Row, keys: Iterable[str]) -> dict[str, Any]:
    return {key: _json(row[key]) for key in keys}


def _told(row: Row) -> dict[str, Any]:
    return _pick(row, row)


def _told_all(rows: Iterable[Row]) -> list[dict[str, Any]]:
    return [_told(row) for row in rows]


def _page(rows: Sequence[Row], limit: int, keys: Iterable[str] | None = None, *, key: str = "id") -> dict[str, Any]:
    return {
        "results": [_pick(row, keys or row) for row in rows],
        "next": rows[-1][key] if len(rows) == limit else None,
    }


def _recipients(count: int, ids: Sequence[int], limit: int) -> dict[str, Any]:
    return {"count": count, "client_ids": list(ids), "next": ids[-1] if len(ids) == limit else None}


def _require_storable(filters: Mapping[str, str | None]) -> None:
    errors = {name: ["Null characters are not allowed."] for name, text in filters.items() if "\x00" in (text or "")}
    if errors:
        raise Invalid(errors)


def _days_before(day: dt.date, days: int) -> dt.date:
    return dt.date.fromordinal(max(1, day.toordinal() - days))
