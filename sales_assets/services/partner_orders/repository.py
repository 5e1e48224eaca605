"""The repository of orders: each operation is one statement, and so one commit.

Runs the statements of ``sql/orders`` with the transitions of ``domain.states``, and distinguishes an unavailable
database from a failed statement. ``service`` decides which evidence to store.
"""

import asyncio
import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import psycopg
import structlog
from psycopg.types.json import Jsonb
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine

from sales_assets.postgres.engines import STATEMENT_SECONDS, fetch
from sales_assets.postgres.queries import statements
from sales_assets.schemas.partner_orders import message_id
from sales_assets.services.http.micro_batch import MicroBatch
from sales_assets.services.partner_orders.domain.orders import CancelAnswer, Order, Refused
from sales_assets.services.partner_orders.domain.states import (
    AFTER_WATCH,
    ANNOUNCED,
    AT_PARTNER,
    FROM_CLAIM_HOLDER,
    INITIAL,
    RESOLVE_FOR,
    TRANSITIONS,
    Evidence,
    State,
    watch_periods,
)
from sales_assets.services.partner_orders.errors import ServiceError

_log = structlog.get_logger()

Row = Mapping[str, Any]

_MOST_TOGETHER = 200
# A claim is renewed three times before it lapses.
LEASE = dt.timedelta(seconds=15)
RENEW_SECONDS = 5


class StatementRefused(ServiceError):
    """The database is available, but a row prevented the statement."""


class OrderRepository:
    """Repository of orders; states change only by the transitions of `domain.states`.

    Every method raises `ServiceError` when the database can't be used.

    `worker` names this process in its claims; `project_id` and `kodpost` go into every event. `pause`: time from
    entering a watched state to the reconciler's first lookup. `poll_open_for`: how long open orders are polled.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        worker: str,
        project_id: int,
        kodpost: int,
        pause: dt.timedelta,
        poll_open_for: dt.timedelta,
    ) -> None:
        self._engine = engine
        self._worker = worker
        self._project_id = project_id
        self._kodpost = kodpost
        self._pause = pause
        self._watch = {state: period.total_seconds() for state, period in watch_periods(poll_open_for).items()}
        self._begun = MicroBatch(self._begin_creates, most=_MOST_TOGETHER, key=_order_id, alone_after=StatementRefused)
        self._evidence = MicroBatch(
            self._add_all_evidence, most=_MOST_TOGETHER, key=_order_id, alone_after=StatementRefused
        )

    async def begin_create(self, order: Order, body_hash: str) -> State | None:
        """Store the intent and claim the order; return its state, or None if the order must not be created now.

        It is not created while another process may be calling the partner, if the stored order has another body, or if
        its state needs no create.
        """
        row = await self._begun(
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
        return State(row["state"]) if row else None

    async def _begin_creates(self, orders: Sequence[Row]) -> Sequence[Row | None]:
        rows = await self._rows(
            "begin_create",
            orders=Jsonb(orders),
            initial=INITIAL,
            moves=Jsonb(TRANSITIONS[Evidence.CREATE_BEGUN]),
            claim=self._worker,
            lease=LEASE,
            watch=RESOLVE_FOR,
        )
        return _in_order(orders, rows)

    async def begin_cancel(self, order_id: int, their_order_id: str) -> State | None:
        """Store the intent to cancel and claim the order; return its state, or None if it must not be cancelled now.

        It is not cancelled while another process may be calling the partner, if the partner's id differs, or if nothing
        is to be cancelled.
        """
        row = await self._row(
            "begin_cancel",
            order_id=order_id,
            their_order_id=their_order_id,
            moves=Jsonb(TRANSITIONS[Evidence.CANCEL_BEGUN]),
            claim=self._worker,
            lease=LEASE,
            watch=RESOLVE_FOR,
        )
        return State(row["state"]) if row else None

    async def find(self, order_id: int) -> Row | None:
        return await self._row("find", order_id=order_id)

    async def hold(self, order_ids: Sequence[int]) -> None:
        """Renew the claims on orders whose calls are in progress."""
        await self._run("hold", order_ids=list(order_ids), claim=self._worker, lease=LEASE)

    async def add_evidence(
        self,
        order_id: int,
        evidence: Evidence,
        *,
        their_order_id: str | None = None,
        status_id: int | None = None,
        refusal: Refused | None = None,
        cancel_answer: CancelAnswer | None = None,
    ) -> Row | None:
        """Apply evidence to the order, and store the event of the state that the order enters.

        Returns `state` and `status_changed`, or None if the evidence does not apply: there is no transition from the
        order's state, the partner's id differs, or the claim was lost.
        """
        guard = "claim" if evidence in FROM_CLAIM_HOLDER else "watch" if evidence in AFTER_WATCH else None
        return await self._evidence(
            {
                "order_id": order_id,
                "moves": TRANSITIONS[evidence],
                "guard": guard,
                "their_order_id": their_order_id,
                "status_id": status_id,
                "refusal": refusal.stored() if refusal else None,
                "cancel_answer": cancel_answer.stored() if cancel_answer else None,
                "message_ids": {kind: message_id(self._project_id, order_id, kind) for kind in ANNOUNCED},
            }
        )

    async def _add_all_evidence(self, evidence: Sequence[Row]) -> Sequence[Row | None]:
        rows = await self._rows(
            "add_evidence",
            evidence=Jsonb(evidence),
            claim=self._worker,
            at_partner=sorted(AT_PARTNER),
            watch=Jsonb(self._watch),
            pause=self._pause,
            project_id=self._project_id,
            kodpost=self._kodpost,
        )
        return _in_order(evidence, rows)

    async def due(
        self, states: Collection[State], limit: int, *, longest_pause: dt.timedelta, ends: bool
    ) -> Sequence[Row]:
        """Return orders in these states that are due for a lookup; each is due again after a pause that doubles.

        `ends`: an order that is returned after the end of its watch period is not due again.
        """
        return await self._rows(
            "due",
            states=sorted(states),
            moves=Jsonb(TRANSITIONS[Evidence.CALL_ABANDONED]),
            limit=limit,
            pause=self._pause,
            longest_pause=longest_pause,
            ends=ends,
        )

    async def unresolved(self) -> Row:
        return (await self._rows("unresolved"))[0]

    async def outbox_depth(self) -> Row:
        return (await self._execute_safely("orders/outbox", "depth", {}))[0]

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
            # statement may be run again. If the first run was committed and only its answer was lost, an intent is
            # returned like that of a call in progress (unresolved), and an outcome like one stored before.
            return await self._execute(statement, parameters)
        except (DBAPIError, psycopg.Error, PoolTimeout, OSError) as error:
            # The error's text may contain parameters, which are personal data.
            _log.error("database unavailable", statement=name, error=type(error).__name__)
            raise _error_type(error)("the database is not available") from error

    async def _execute(self, statement: str, parameters: Mapping[str, object]) -> Sequence[Row]:
        async with asyncio.timeout(STATEMENT_SECONDS), self._engine.connect() as connection:
            return await fetch(connection, statement, parameters)


def _order_id(row: Row) -> int:
    return int(row["order_id"])


def _in_order(asked: Sequence[Row], rows: Sequence[Row]) -> Sequence[Row | None]:
    """Return the row of each requested order, or None."""
    found = {row["order_id"]: row for row in rows}
    return [found.get(one["order_id"]) for one in asked]


def _error_type(error: Exception) -> type[ServiceError]:
    """Distinguish a failed statement (contents, a lock, a deadlock) from an unavailable database."""
    if not isinstance(error, DBAPIError) or error.connection_invalidated:
        return ServiceError
    return ServiceError if isinstance(error.orig, psycopg.errors.QueryCanceled) else StatementRefused
