"""The door to the database: the stored orders, each operation one statement and so one commit.

Belongs here: running the statements of ``sql/orders``, and telling a database that is away from any other failure.
Does not belong here: deciding what to store (``ordering``).
"""

import asyncio
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
import structlog
from psycopg.types.json import Jsonb
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine

from sales_assets.postgres.connection import async_pool
from sales_assets.postgres.queries import statements
from sales_assets.schemas.partner_orders import Kind, message_id
from sales_assets.services.partner_orders.batches import Batches, Row, StatementRefused
from sales_assets.services.partner_orders.orders import CANCELLED, DONE, Order, Refused, ServiceError

_log = structlog.get_logger()

_POOL_SIZE = 16
_POOL_SECONDS = 5
# A server that hangs must not hold a request beyond what its caller waits for.
_STATEMENT_MS = 10_000
# Nor must a row that somebody has locked hold the rows that are stored with it.
_LOCK_MS = 2_000

# A claim is renewed three times before it lapses.
LEASE = dt.timedelta(seconds=15)
RENEW_SECONDS = 5


def engine_for(url: str) -> AsyncEngine:
    """Return a pool of connections in autocommit mode."""
    return async_pool(
        url,
        "sales_assets partner orders",
        size=_POOL_SIZE,
        wait_seconds=_POOL_SECONDS,
        statement_ms=_STATEMENT_MS,
        lock_ms=_LOCK_MS,
        pre_ping=False,  # every statement may be repeated, and is
    )


class Store:
    """The stored orders. Every method raises `ServiceError` when the database can't be used.

    `worker` names this process in its claims; `project_id` and `kodpost` go into every event.
    """

    def __init__(self, engine: AsyncEngine, *, worker: str, project_id: int, kodpost: int) -> None:
        self._engine = engine
        self._worker = worker
        self._project_id = project_id
        self._kodpost = kodpost
        self._claims = Batches(self._claim_all)
        self._accepts = Batches(self._accept_all)

    async def claim(self, order: Order, body_hash: str) -> bool | None:
        """Store the intent and take it on. None: it is stored already, and not ours to go on with.

        Otherwise whether a create of unknown outcome lies behind.
        """
        row = await self._claims.run(
            {
                "order_id": order.order_id,
                "body_hash": body_hash,
                "order_date": order.date.isoformat(),
                "order_type": order.order_type,
                "their_pharmacy_id": order.their_pharmacy_id,
                "phone": order.client.phone,
                "lines": [item.stored(number) for number, item in enumerate(order.items, start=1)],
            }
        )
        return None if row is None else bool(row["uncertain"])

    async def _claim_all(self, orders: Sequence[Row]) -> Sequence[Row]:
        return await self._rows("claim", orders=Jsonb(orders), claim=self._worker, lease=LEASE)

    async def find(self, order_id: int) -> Row | None:
        return await self._row("find", order_id=order_id)

    async def hold(self, order_ids: Sequence[int]) -> None:
        """Renew the claims on orders whose calls go on."""
        await self._run("hold", order_ids=list(order_ids), claim=self._worker, lease=LEASE)

    async def accept(self, order_id: int, their_order_id: str) -> bool:
        """The partner has the order. False: the claim was lost meanwhile."""
        event = message_id(self._project_id, order_id, "accepted")
        row = await self._accepts.run({"order_id": order_id, "their_order_id": their_order_id, "message_id": event})
        return row is not None

    async def _accept_all(self, orders: Sequence[Row]) -> Sequence[Row]:
        return await self._rows(
            "accept", orders=Jsonb(orders), claim=self._worker, project_id=self._project_id, kodpost=self._kodpost
        )

    async def refuse(self, order_id: int, state: str, refusal: Refused, pause: float) -> bool:
        """The partner has not, or nobody knows. False: the claim was lost meanwhile."""
        row = await self._row(
            "refuse",
            order_id=order_id,
            state=state,
            refusal=Jsonb(refusal.stored()),
            claim=self._worker,
            pause=dt.timedelta(seconds=pause),
        )
        return row is not None

    async def see_status(self, order_id: int, their_order_id: str, status_id: int) -> bool:
        """Note a status that the partner told; whether it is news."""
        kinds: dict[int, Kind] = {DONE: "done", CANCELLED: "cancelled"}
        kind = kinds.get(status_id)
        event = self._event(order_id, kind) if kind else dict.fromkeys(("message_id", "project_id", "kodpost"))
        row = await self._row(
            "see_status", order_id=order_id, their_order_id=their_order_id, status_id=status_id, kind=kind, **event
        )
        return row is not None

    async def ask_cancel(self, order_id: int, their_order_id: str, pause: float) -> None:
        """Store the intent of a cancel; after `pause` seconds without an outcome the reconciler looks."""
        await self._run(
            "ask_cancel", order_id=order_id, their_order_id=their_order_id, pause=dt.timedelta(seconds=pause)
        )

    async def cancel(self, order_id: int, their_order_id: str) -> bool:
        """The partner cancelled the order; whether that is news."""
        row = await self._row(
            "cancel", order_id=order_id, their_order_id=their_order_id, **self._event(order_id, "cancelled")
        )
        return row is not None

    async def keep_order(self, order_id: int) -> None:
        """The partner did not cancel the order."""
        await self._run("keep_order", order_id=order_id)

    async def due(self, limit: int, pause: float) -> Sequence[Row]:
        """Take on orders that are to be looked up; they come again after a pause that doubles."""
        return await self._rows("due", claim=self._worker, lease=LEASE, limit=limit, pause=dt.timedelta(seconds=pause))

    async def release(self, order_id: int) -> None:
        await self._run("release", order_id=order_id, claim=self._worker)

    async def give_up(self, order_id: int) -> None:
        """The order is not at the partner, whatever became of its create."""
        await self._run("give_up", order_id=order_id, claim=self._worker)

    async def unsettled(self) -> Row:
        return (await self._rows("unsettled"))[0]

    async def outbox_depth(self) -> Row:
        return (await self._execute_safely("orders/outbox", "depth", {}))[0]

    async def ping(self) -> None:
        await self._run("ping")

    def _event(self, order_id: int, kind: Kind) -> dict[str, Any]:
        return {
            "message_id": message_id(self._project_id, order_id, kind),
            "project_id": self._project_id,
            "kodpost": self._kodpost,
        }

    async def _row(self, name: str, **parameters: object) -> Row | None:
        rows = await self._rows(name, **parameters)
        return rows[0] if rows else None

    async def _run(self, name: str, **parameters: object) -> None:
        await self._rows(name, **parameters)

    async def _rows(self, name: str, **parameters: object) -> Sequence[Row]:
        return await self._execute_safely("orders/partner_order", name, parameters)

    async def _execute_safely(self, file: str, name: str, parameters: Mapping[str, object]) -> Sequence[Row]:
        statement = statements(file)[name]
        try:
            try:
                return await self._execute(statement, parameters)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
            # A restart of the server left dead connections in the pool, and SQLAlchemy has dropped them all. Every
            # statement may be run again: an intent, a claim, an outcome and an event are each stored once.
            return await self._execute(statement, parameters)
        except (DBAPIError, psycopg.Error, PoolTimeout, OSError) as error:
            # The text may repeat parameters: personal data.
            _log.error("database unavailable", statement=name, error=type(error).__name__)
            raise _kind(error)("the database is not available") from error

    async def _execute(self, statement: str, parameters: Mapping[str, object]) -> Sequence[Row]:
        async with asyncio.timeout(_STATEMENT_MS / 1000 + _POOL_SECONDS), self._engine.connect() as connection:
            result = await connection.exec_driver_sql(statement, dict(parameters))
            return [dict(row) for row in result.mappings()] if result.returns_rows else []


def _kind(error: Exception) -> type[ServiceError]:
    """Whether the server is there and it was the statement that failed: for its contents, a lock, a deadlock."""
    if not isinstance(error, DBAPIError) or error.connection_invalidated:
        return ServiceError
    return ServiceError if isinstance(error.orig, psycopg.errors.QueryCanceled) else StatementRefused
