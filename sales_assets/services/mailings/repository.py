"""The repository of clients, mailings and their messages, for the API and the admin page.

Runs the statements of ``sql/mailings`` and distinguishes an unavailable database from other failures. The workers use
``message_repository``.
"""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
import structlog
from psycopg.types.json import Jsonb
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sales_assets.postgres.engines import STATEMENT_SECONDS, fetch
from sales_assets.postgres.errors import fault_of_setting
from sales_assets.postgres.queries import statements
from sales_assets.schemas.pseudonyms import Pseudonyms
from sales_assets.services.mailings.domain import check_change, check_mailing
from sales_assets.services.mailings.errors import ERASED, Invalid, NotFound, Unavailable

_log = structlog.get_logger()

Row = Mapping[str, Any]

# Columns of a mailing that the audit trail records.
_AUDITED = (
    *("start_time", "end_time", "text", "client_operator_code_filter", "client_tag_filter", "send_from", "send_until"),
)


@dataclass(frozen=True)
class _Change:
    """An entry of the audit trail. detail: never a phone, which may have to be erased."""

    action: Literal["create", "edit", "delete", "pause", "resume"]
    object: Literal["client", "mailing", "suppressed phone"]
    detail: Mapping[str, Any] | None = None


class MailingsRepository:
    """Repository of clients and mailings. Every method raises `Unavailable` when the database can't be used.

    Methods that write take `by`, the user of the admin pages for the audit trail; None: a caller of the API, who has no
    name.
    """

    def __init__(self, engine: AsyncEngine, pseudonyms: Pseudonyms) -> None:
        self._engine = engine
        self._pseudonyms = pseudonyms

    # --- clients --------------------------------------------------------------------------------------------------

    async def create_client(self, values: Mapping[str, Any], *, by: str | None = None) -> Row:
        """Add a client. Raises `Invalid` for a phone that was erased."""
        return await self._write_client("create", {"tag": None, **values}, by)

    async def update_client(self, client_id: int, values: Mapping[str, Any], *, by: str | None = None) -> Row:
        """Change the given fields. Raises `NotFound`, and `Invalid` for a phone that was erased."""
        absent = dict.fromkeys(("phone", "operator_code", "tag", "timezone"))
        asked = {**absent, **values, "with_tag": "tag" in values, "client_id": client_id}
        return await self._write_client("update", asked, by)

    async def delete_client(self, client_id: int, *, by: str | None = None) -> None:
        """Delete a client and fail its pending messages. Raises `NotFound`."""
        await self._write("client", "delete", {"client_id": client_id}, by, _Change("delete", "client"))

    async def client(self, client_id: int) -> Row:
        """Return a client with its customer and the marts' tags. Raises `NotFound`."""
        return await self._one("client", "detail", {"client_id": client_id})

    async def require_client(self, client_id: int) -> None:
        """Raise `NotFound` for an unknown client."""
        await self._one("client", "exists", {"client_id": client_id})

    async def clients(self, *, after: int, limit: int, **filters: str | None) -> Sequence[Row]:
        """Return clients with exactly this phone, operator_code and tag, in the order of their ids."""
        return await self._rows("client", "page", {"after": after, "limit": limit, **filters})

    async def search_clients(
        self, *, words: str | None, ids: Sequence[int] | None, limit: int, offset: int
    ) -> list[Row]:
        """Search clients for the admin page, latest first."""
        found = {"words": _pattern(words), "ids": ids, "limit": limit, "offset": offset}
        return list(await self._rows("client", "search", found))

    async def count_clients(self, words: str | None) -> int:
        """Count the results of `search_clients`."""
        return int((await self._one("client", "count_found", {"words": _pattern(words)}))["count"])

    async def link_customer(self, client_id: int, customer_id: int) -> Row:
        """Link a client to a customer of the mart. Raises `NotFound`."""
        return await self._one("client", "link", {"client_id": client_id, "customer_id": customer_id})

    async def linked_customer(self, client_id: int) -> Row:
        """Return the customer of a client. Raises `NotFound` for an unknown or unlinked client."""
        return await self._one("client", "linked", {"client_id": client_id})

    async def unlink_customer(self, client_id: int) -> None:
        """Remove the link of a client. Raises `NotFound` for an unknown or unlinked client."""
        await self._one("client", "unlink", {"client_id": client_id})

    # --- mailings -------------------------------------------------------------------------------------------------

    async def create_mailing(self, values: Mapping[str, Any], *, by: str | None = None) -> Row:
        """Store a mailing. Raises `Invalid` for an end before the start or in the past."""
        check_mailing(values, dt.datetime.now(dt.UTC))
        optional = dict.fromkeys(("client_operator_code_filter", "client_tag_filter", "send_from", "send_until"))
        made = {**optional, **values}
        return await self._write("mailing", "create", made, by, _Change("create", "mailing", _shown(made)))

    async def update_mailing(self, mailing_id: int, values: Mapping[str, Any], *, by: str | None = None) -> Row:
        """Change the given fields of a mailing that has not started. Raises `NotFound`, and `Invalid` once it has.

        The row is locked from read to write: a concurrent start comes entirely before or after the change.
        """
        async with self._transaction() as connection:
            stored = _first(await _execute(connection, "mailing", "lock", {"mailing_id": mailing_id}))
            now = _first(await _execute(connection, "mailing", "clock", {}))["now"]
            changed = {**stored, **values}
            check_change(stored, changed, now)
            row = _first(await _execute(connection, "mailing", "update", {**changed, "mailing_id": mailing_id}))
            before, after = _shown(stored), _shown(changed)
            detail = {name: [before[name], after[name]] for name in _AUDITED if before[name] != after[name]}
            if detail:
                await _audit(connection, by, _Change("edit", "mailing", detail), row)
            return row

    async def delete_mailing(self, mailing_id: int, *, by: str | None = None) -> None:
        """Delete a mailing: workers stop sending it, and the planner fails pending messages. Raises `NotFound`."""
        await self._write("mailing", "delete", {"mailing_id": mailing_id}, by, _Change("delete", "mailing"))

    async def pause_mailing(self, mailing_id: int, *, by: str | None = None) -> None:
        """Stop sending until the mailing is resumed. No effect on a paused or finished mailing."""
        with suppress(NotFound):
            await self._write("mailing", "pause", {"mailing_id": mailing_id}, by, _Change("pause", "mailing"))

    async def resume_mailing(self, mailing_id: int, *, by: str | None = None) -> None:
        """Continue sending. No effect on a mailing that is not paused."""
        with suppress(NotFound):
            await self._write("mailing", "resume", {"mailing_id": mailing_id}, by, _Change("resume", "mailing"))

    async def mailing(self, mailing_id: int) -> Row:
        """Return a mailing with its state and times. Raises `NotFound`."""
        return await self._one("mailing", "detail", {"mailing_id": mailing_id})

    async def require_mailing(self, mailing_id: int) -> str:
        """Return a mailing's state. Raises `NotFound`."""
        return str((await self._one("mailing", "exists", {"mailing_id": mailing_id}))["state"])

    async def mailings(self, *, after: int, limit: int, state: str | None) -> Sequence[Row]:
        """Return mailings in the order of their ids."""
        return await self._rows("mailing", "page", {"after": after, "limit": limit, "state": state})

    async def search_mailings(
        self, *, words: str | None, ids: Sequence[int] | None, limit: int, offset: int
    ) -> list[Row]:
        """Search mailings for the admin page, latest first."""
        found = {"words": _pattern(words), "ids": ids, "limit": limit, "offset": offset}
        return list(await self._rows("mailing", "search", found))

    async def count_mailings(self, words: str | None) -> int:
        """Count the results of `search_mailings`."""
        return int((await self._one("mailing", "count_found", {"words": _pattern(words)}))["count"])

    async def preview(
        self, operator_code: str | None, tag: str | None, *, after: int, limit: int
    ) -> tuple[int, Sequence[int]]:
        """Return the number of clients that match these filters now, and a page of their ids."""
        filters = {"client_operator_code_filter": operator_code, "client_tag_filter": tag}
        count = (await self._rows("mailing", "preview", filters))[0]["count"]
        rows = await self._rows("mailing", "preview_page", {**filters, "after": after, "limit": limit})
        return count, [row["client_id"] for row in rows]

    async def recipients(self, mailing_id: int, *, after: int, limit: int) -> tuple[int, Sequence[int]]:
        """Return the number of recipients of a started mailing, and a page of their client ids."""
        count = await self.count_messages(mailing_id)
        rows = await self.messages(mailing_id, after=after, limit=limit, status=None)
        return count, [row["client_id"] for row in rows]

    async def messages(self, mailing_id: int, *, after: int, limit: int, status: str | None) -> Sequence[Row]:
        """Return a mailing's messages by client id, from the first above `after`."""
        return await self._rows(
            "mailing", "messages", {"mailing_id": mailing_id, "after": after, "limit": limit, "status": status}
        )

    async def count_messages(self, mailing_id: int | None) -> int:
        """Count the messages of a mailing, or of all mailings including deleted ones."""
        return int((await self._one("mailing", "count_messages", {"mailing_id": mailing_id}))["count"])

    async def browse_messages(self, mailing_id: int | None, *, limit: int, offset: int) -> list[Row]:
        """Return a page for the admin page: a mailing's messages, or the latest of all."""
        name = "latest_messages" if mailing_id is None else "messages_of"
        return list(await self._rows("mailing", name, {"mailing_id": mailing_id, "limit": limit, "offset": offset}))

    async def message(self, message_id: int) -> Row:
        """Return a message. Raises `NotFound`."""
        return await self._one("mailing", "message", {"message_id": message_id})

    # --- statistics -----------------------------------------------------------------------------------------------

    async def statistics(self) -> tuple[Sequence[Row], int]:
        """Count the messages of all mailings by status, and the mailings."""
        return await self._rows("statistics", "overall", {}), (await self._rows("statistics", "mailings", {}))[0][
            "count"
        ]

    async def mailing_statistics(self, mailing_id: int) -> Sequence[Row]:
        """Count the messages of a mailing by status."""
        return await self._rows("statistics", "of_mailing", {"mailing_id": mailing_id})

    async def daily_statistics(self, first: dt.date, last: dt.date, timezone: str) -> Sequence[Row]:
        """Count messages by status and by the day, in a time zone, on which their mailing started; `last` included."""
        return await self._rows("statistics", "daily", {"first": first, "last": last, "timezone": timezone})

    async def queue(self) -> tuple[Sequence[Row], Row]:
        """Return the messages by status, and the depth of the queue, for the metrics."""
        return await self._rows("message", "by_status", {}), await self._one("message", "depth", {})

    # --- suppressed phones ------------------------------------------------------------------------------------------

    async def recipient(self, message_id: int) -> Row:
        """Return the phone of a message's client. Raises `NotFound` for an unknown message or a deleted client."""
        return await self._one("suppression", "recipient", {"message_id": message_id})

    async def suppress(self, phone: str, source: str, *, by: str | None = None) -> None:
        """Suppress a phone (7XXXXXXXXXX). No effect on a phone that is already suppressed or was erased."""
        given = {"phones": [phone], "times": [None], "source": source}
        erased = {"pseudonyms": self._pseudonyms.of([phone]), "key_id": self._pseudonyms.key_id}
        with suppress(NotFound):
            await self._write("suppression", "add", given | erased, by, _Change("create", "suppressed phone"))

    async def lift_suppression(self, suppression_id: int, *, by: str | None = None) -> None:
        """Allow mailings to a phone again. Raises `NotFound`."""
        lifted = {"suppression_id": suppression_id}
        await self._write("suppression", "lift", lifted, by, _Change("delete", "suppressed phone"))

    async def search_suppressions(
        self, *, words: str | None, ids: Sequence[int] | None, limit: int, offset: int
    ) -> list[Row]:
        """Search suppressed phones for the admin page, latest first."""
        found = {"words": _pattern(words), "ids": ids, "limit": limit, "offset": offset}
        return list(await self._rows("suppression", "search", found))

    async def count_suppressions(self, words: str | None) -> int:
        """Count the results of `search_suppressions`."""
        return int((await self._one("suppression", "count_found", {"words": _pattern(words)}))["count"])

    # --- internal -------------------------------------------------------------------------------------------------

    async def _write_client(self, name: str, parameters: Mapping[str, Any], by: str | None) -> Row:
        (pseudonym,) = self._pseudonyms.of([parameters["phone"]])
        asked = {**parameters, "pseudonym": pseudonym, "key_id": self._pseudonyms.key_id}
        async with self._transaction() as connection:
            stored = None
            if by is not None and name == "update":
                stored = _first(await _execute(connection, "client", "lock", parameters))
            row = _first(await _execute(connection, "client", name, asked))
            if row["erased"]:
                raise Invalid({"phone": [ERASED]})
            if stored is None:
                await _audit(connection, by, _Change("create", "client"), row)
            elif changed := sorted(column for column in stored if stored[column] != row[column]):
                await _audit(connection, by, _Change("edit", "client", {"fields": changed}), row)
            return row

    async def _write(
        self, file: str, name: str, parameters: Mapping[str, object], by: str | None, change: _Change
    ) -> Row:
        """Run a statement that changes one object, together with its entry of the audit trail if a user made it."""
        if by is None:
            return await self._one(file, name, parameters)
        async with self._transaction() as connection:
            row = _first(await _execute(connection, file, name, parameters))
            await _audit(connection, by, change, row)
            return row

    async def _one(self, file: str, name: str, parameters: Mapping[str, object]) -> Row:
        return _first(await self._rows(file, name, parameters))

    async def _rows(self, file: str, name: str, parameters: Mapping[str, object]) -> Sequence[Row]:
        async with self._connection(name) as connection:
            return await _execute(connection, file, name, parameters)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        async with self._connection("transaction") as connection:
            await connection.execution_options(isolation_level="READ COMMITTED")
            async with connection.begin():
                yield connection

    @asynccontextmanager
    async def _connection(self, name: str) -> AsyncIterator[AsyncConnection]:
        try:
            async with asyncio.timeout(STATEMENT_SECONDS), self._engine.connect() as connection:
                yield connection
        except (OperationalError, InterfaceError, psycopg.OperationalError, PoolTimeout, OSError) as error:
            # The error's text may contain parameters, which are personal data.
            if fault := fault_of_setting(error):
                _log.error("phone not stored", statement=name, reason=fault)
            else:
                _log.error("database unavailable", statement=name, error=type(error).__name__)
            raise Unavailable from error


async def _execute(
    connection: AsyncConnection, file: str, name: str, parameters: Mapping[str, object]
) -> Sequence[Row]:
    return await fetch(connection, statements(f"mailings/{file}")[name], parameters)


async def _audit(connection: AsyncConnection, by: str | None, change: _Change, row: Row) -> None:
    if by is None:
        return
    entry = {
        "user_name": by,
        "action": change.action,
        "object": change.object,
        "object_id": row["id"],
        "detail": None if change.detail is None else Jsonb(change.detail),
    }
    await fetch(connection, statements("ops/admin_change")["record"], entry)


def _shown(mailing: Row) -> dict[str, Any]:
    """Return the audited columns of a mailing as JSON values."""
    values = {name: mailing[name] for name in _AUDITED}
    return {
        name: value.isoformat() if isinstance(value, dt.datetime | dt.time) else value for name, value in values.items()
    }


def _first(rows: Sequence[Row]) -> Row:
    if not rows:
        raise NotFound
    return rows[0]


def _pattern(words: str | None) -> str | None:
    """Return a LIKE pattern for texts that contain the words, with % and _ escaped."""
    if not words or "\x00" in words:
        return None
    escaped = words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
