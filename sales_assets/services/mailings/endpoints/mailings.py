"""Endpoints of mailings, their messages and statistics."""

import datetime as dt
import itertools
from collections.abc import Callable, Sequence
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import structlog
from fastapi import Query, Request, Response
from structlog.contextvars import bind_contextvars

from sales_assets.services.http.application import BothSlashes
from sales_assets.services.mailings.bodies import read_body
from sales_assets.services.mailings.endpoints import PREFIX
from sales_assets.services.mailings.errors import BODY_ERRORS, ERRORS, ID_ERRORS, PARAMETER_ERRORS, Invalid
from sales_assets.services.mailings.repository import MailingsRepository, Row
from sales_assets.services.mailings.schemas import (
    Cursor,
    DailyStatistics,
    Day,
    Filter,
    Id,
    Limit,
    ListedMailing,
    Mailing,
    MailingBody,
    MailingDetail,
    MailingPatch,
    MailingState,
    MailingStatistics,
    Message,
    MessageStatus,
    Page,
    Recipients,
    Statistics,
    page,
)

_log = structlog.get_logger()

_MAX_DAYS = 366


def mailings_router(
    repository: MailingsRepository, *, timezone: str, enqueue_planner: Callable[[], None]
) -> BothSlashes:
    """Return the routes of mailings; `enqueue_planner` enqueues a planner task, and must return at once."""
    routes = BothSlashes(prefix=f"{PREFIX}/mailings", tags=["mailings"], responses=ERRORS, head=True)

    @routes.post(
        "/", status_code=201, response_model=Mailing, openapi_extra=MailingBody.openapi(), responses=BODY_ERRORS
    )
    async def create_mailing(request: Request) -> Row:
        """Add a mailing. With a start in the past it starts at once."""
        row = await repository.create_mailing(MailingBody.values(await read_body(request)))
        bind_contextvars(mailing_id=row["id"])
        _log.info("mailing created", mailing_id=row["id"])
        enqueue_planner()
        return row

    @routes.get("/", response_model=Statistics)
    async def statistics() -> dict[str, Any]:
        """Count the messages of all mailings by status, and the mailings."""
        counts, mailings = await repository.statistics()
        return {"message_data": counts, "total_mailings": mailings}

    @routes.get("/list/", response_model=Page[ListedMailing], responses=PARAMETER_ERRORS)
    async def list_mailings(
        limit: Limit = 100, cursor: Cursor = 0, state: MailingState | None = None
    ) -> dict[str, Any]:
        """List mailings in the order of their ids."""
        return page(await repository.mailings(after=cursor, limit=limit, state=state), limit)

    @routes.get("/daily/", response_model=DailyStatistics, responses=PARAMETER_ERRORS)
    async def daily_statistics(
        since: Annotated[Day | None, Query(alias="from", description="Default: 30 days before `to`")] = None,
        until: Annotated[Day | None, Query(alias="to", description="Included; default: today")] = None,
    ) -> dict[str, Any]:
        """Count messages by status and the day, in SALES_TIMEZONE, on which their mailing started; 366 days at most."""
        last = until or dt.datetime.now(ZoneInfo(timezone)).date()
        first = since or dt.date.fromordinal(max(1, last.toordinal() - 30))
        if not 0 <= (last - first).days < _MAX_DAYS or last == dt.date.max:
            raise Invalid({"to": [f"The range must have 1 to {_MAX_DAYS} days."]})
        rows = await repository.daily_statistics(first, last, timezone)
        days = itertools.groupby(rows, key=lambda row: row["day"])
        return {"days": [{"day": day, "message_data": list(group)} for day, group in days]}

    @routes.get("/preview/", response_model=Recipients, responses=PARAMETER_ERRORS)
    async def preview(
        client_operator_code_filter: Filter | None = None,
        client_tag_filter: Filter | None = None,
        limit: Limit = 100,
        cursor: Cursor = 0,
    ) -> dict[str, Any]:
        """List the clients that would receive a mailing with these filters if it started now."""
        count, ids = await repository.preview(client_operator_code_filter, client_tag_filter, after=cursor, limit=limit)
        return _recipients(count, ids, limit)

    @routes.get("/{mailing_id}", response_model=MailingStatistics, responses=ID_ERRORS)
    async def mailing_statistics(mailing_id: Id) -> dict[str, Any]:
        """Count the messages of a mailing by status."""
        await repository.require_mailing(mailing_id)
        return {"message_data": await repository.mailing_statistics(mailing_id)}

    @routes.put(
        "/{mailing_id}",
        response_model=Mailing,
        openapi_extra=MailingBody.openapi(),
        responses=BODY_ERRORS | ID_ERRORS,
    )
    async def replace_mailing(mailing_id: Id, request: Request) -> Row:
        """Change a mailing that has not started. An omitted filter stays, null clears it."""
        return await change(mailing_id, request, MailingBody)

    @routes.patch(
        "/{mailing_id}",
        response_model=Mailing,
        openapi_extra=MailingPatch.openapi(),
        responses=BODY_ERRORS | ID_ERRORS,
    )
    async def change_mailing(mailing_id: Id, request: Request) -> Row:
        """Change some fields of a mailing that has not started."""
        return await change(mailing_id, request, MailingPatch)

    async def change(mailing_id: int, request: Request, model: type[MailingPatch]) -> Row:
        bind_contextvars(mailing_id=mailing_id)
        await repository.require_mailing(mailing_id)
        row = await repository.update_mailing(mailing_id, model.values(await read_body(request)))
        _log.info("mailing changed", mailing_id=mailing_id)
        enqueue_planner()
        return row

    @routes.delete("/{mailing_id}", status_code=204, response_class=Response, responses=ID_ERRORS)
    async def delete_mailing(mailing_id: Id) -> None:
        """Delete a mailing, even a running one: at most the messages in flight are sent."""
        bind_contextvars(mailing_id=mailing_id)
        await repository.delete_mailing(mailing_id)
        _log.info("mailing deleted", mailing_id=mailing_id)
        enqueue_planner()

    @routes.get("/{mailing_id}/detail/", response_model=MailingDetail, responses=ID_ERRORS)
    async def mailing_detail(mailing_id: Id) -> dict[str, Any]:
        """Return a mailing with its filters, window, state, times and counts."""
        return await detail(mailing_id)

    @routes.post("/{mailing_id}/pause/", response_model=MailingDetail, responses=ID_ERRORS)
    async def pause_mailing(mailing_id: Id) -> dict[str, Any]:
        """Stop sending until the mailing is resumed. No effect on a paused or finished mailing."""
        bind_contextvars(mailing_id=mailing_id)
        await repository.pause_mailing(mailing_id)
        paused = await detail(mailing_id)
        _log.info("mailing paused", mailing_id=mailing_id)
        return paused

    @routes.post("/{mailing_id}/resume/", response_model=MailingDetail, responses=ID_ERRORS)
    async def resume_mailing(mailing_id: Id) -> dict[str, Any]:
        """Continue sending. No effect on a mailing that is not paused."""
        bind_contextvars(mailing_id=mailing_id)
        await repository.resume_mailing(mailing_id)
        resumed = await detail(mailing_id)
        _log.info("mailing resumed", mailing_id=mailing_id)
        enqueue_planner()
        return resumed

    async def detail(mailing_id: int) -> dict[str, Any]:
        mailing = await repository.mailing(mailing_id)
        return {**mailing, "message_data": await repository.mailing_statistics(mailing_id)}

    @routes.get("/{mailing_id}/messages/", response_model=Page[Message], responses=PARAMETER_ERRORS | ID_ERRORS)
    async def messages(
        mailing_id: Id, status: MessageStatus | None = None, limit: Limit = 100, cursor: Cursor = 0
    ) -> dict[str, Any]:
        """List the messages of a started mailing in the order of its clients."""
        await repository.require_mailing(mailing_id)
        rows = await repository.messages(mailing_id, after=cursor, limit=limit, status=status)
        return page(rows, limit, key="client_id")

    @routes.get("/{mailing_id}/recipients/", response_model=Recipients, responses=PARAMETER_ERRORS | ID_ERRORS)
    async def recipients(mailing_id: Id, limit: Limit = 100, cursor: Cursor = 0) -> dict[str, Any]:
        """List the clients that receive a mailing: fixed once it has started, a preview until then."""
        mailing = await repository.mailing(mailing_id)
        if mailing["state"] == "scheduled":
            count, ids = await repository.preview(
                mailing["client_operator_code_filter"], mailing["client_tag_filter"], after=cursor, limit=limit
            )
        else:
            count, ids = await repository.recipients(mailing_id, after=cursor, limit=limit)
        return _recipients(count, ids, limit)

    return routes


def _recipients(count: int, ids: Sequence[int], limit: int) -> dict[str, Any]:
    return {"count": count, "client_ids": ids, "next": ids[-1] if len(ids) == limit else None}
