"""Endpoints of clients."""

from collections.abc import Callable
from typing import Annotated, Any

import structlog
from fastapi import Query, Request, Response
from structlog.contextvars import bind_contextvars

from sales_assets.services.http.application import BothSlashes
from sales_assets.services.mailings.bodies import read_body
from sales_assets.services.mailings.endpoints import PREFIX
from sales_assets.services.mailings.errors import BODY_ERRORS, ERRORS, ID_ERRORS, PARAMETER_ERRORS
from sales_assets.services.mailings.repository import MailingsRepository, Row
from sales_assets.services.mailings.schemas import (
    Client,
    ClientBody,
    ClientDetail,
    ClientPatch,
    Cursor,
    CustomerBody,
    Filter,
    Id,
    Limit,
    LinkedCustomer,
    Page,
    page,
)
from sales_assets.services.mailings.windows import known_zone

_log = structlog.get_logger()


def clients_router(repository: MailingsRepository, *, on_unknown_zone: Callable[[], None]) -> BothSlashes:
    """Return the routes of clients; `on_unknown_zone` is called for each stored time zone that is not known."""
    routes = BothSlashes(prefix=f"{PREFIX}/clients", tags=["clients"], responses=ERRORS, head=True)

    def log(row: Row, event: str) -> None:
        bind_contextvars(client_id=row["id"])
        known = known_zone(row["timezone"]) is not None
        if not known:
            on_unknown_zone()
        _log.info(event, client_id=row["id"], known_zone=known)

    @routes.post("/", status_code=201, response_model=Client, openapi_extra=ClientBody.openapi(), responses=BODY_ERRORS)
    async def create_client(request: Request) -> Row:
        """Add a client. Phones may repeat; an id in the body is ignored."""
        row = await repository.create_client(ClientBody.values(await read_body(request)))
        log(row, "client created")
        return row

    @routes.get("/list/", response_model=Page[Client], responses=PARAMETER_ERRORS)
    async def list_clients(
        limit: Limit = 100,
        cursor: Cursor = 0,
        phone: Filter | None = None,
        operator_code: Filter | None = None,
        tag: Annotated[Filter | None, Query(description="The client's own tag")] = None,
    ) -> dict[str, Any]:
        """List clients in the order of their ids."""
        rows = await repository.clients(after=cursor, limit=limit, phone=phone, operator_code=operator_code, tag=tag)
        return page(rows, limit)

    @routes.put(
        "/{client_id}",
        response_model=Client,
        openapi_extra=ClientBody.openapi(),
        responses=BODY_ERRORS | ID_ERRORS,
    )
    async def replace_client(client_id: Id, request: Request) -> Row:
        """Change a client as a whole. An omitted tag stays, null clears it."""
        return await change(client_id, request, ClientBody)

    @routes.patch(
        "/{client_id}",
        response_model=Client,
        openapi_extra=ClientPatch.openapi(),
        responses=BODY_ERRORS | ID_ERRORS,
    )
    async def change_client(client_id: Id, request: Request) -> Row:
        """Change some fields of a client."""
        return await change(client_id, request, ClientPatch)

    async def change(client_id: int, request: Request, model: type[ClientPatch]) -> Row:
        bind_contextvars(client_id=client_id)
        await repository.require_client(client_id)
        row = await repository.update_client(client_id, model.values(await read_body(request)))
        log(row, "client changed")
        return row

    @routes.delete("/{client_id}", status_code=204, response_class=Response, responses=ID_ERRORS)
    async def delete_client(client_id: Id) -> None:
        """Delete a client. Its pending messages fail."""
        bind_contextvars(client_id=client_id)
        await repository.delete_client(client_id)
        _log.info("client deleted", client_id=client_id)

    @routes.get("/{client_id}/detail/", response_model=ClientDetail, responses=ID_ERRORS)
    async def client_detail(client_id: Id) -> Row:
        """Return a client with its customer of the mart, if it is linked to one, and the marts' tags."""
        return await repository.client(client_id)

    @routes.get("/{client_id}/customer/", response_model=LinkedCustomer, responses=ID_ERRORS)
    async def linked_customer(client_id: Id) -> Row:
        """Return the customer of the mart that a client is linked to."""
        return await repository.linked_customer(client_id)

    @routes.put(
        "/{client_id}/customer/",
        response_model=LinkedCustomer,
        openapi_extra=CustomerBody.openapi(),
        responses=BODY_ERRORS | ID_ERRORS,
    )
    async def link_customer(client_id: Id, request: Request) -> Row:
        """Link a client to a customer of the mart, which need not exist yet."""
        bind_contextvars(client_id=client_id)
        await repository.require_client(client_id)
        row = await repository.link_customer(client_id, **CustomerBody.values(await read_body(request)))
        _log.info("client linked", client_id=client_id)
        return row

    @routes.delete("/{client_id}/customer/", status_code=204, response_class=Response, responses=ID_ERRORS)
    async def unlink_customer(client_id: Id) -> None:
        """Remove the link to the customer."""
        await repository.unlink_customer(client_id)
        _log.info("client unlinked", client_id=client_id)

    return routes
