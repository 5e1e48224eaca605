"""Relay: publish events from the outbox to the broker, each at least once, and those of one order in sequence.

A row is marked only after the broker's confirm. A relay killed between the two publishes it again; the consumer
deduplicates by message id.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any

import aio_pika
import psycopg
import structlog
from aio_pika.abc import AbstractExchange
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, DeliveryError, PublishError

from sales_assets.postgres.connection import connect_async
from sales_assets.postgres.queries import statements
from sales_assets.schemas.partner_orders import OrderEvent
from sales_assets.services.partner_orders.broker import Broker
from sales_assets.services.partner_orders.metrics import Metrics

_log = structlog.get_logger()

# Published before the first confirm is awaited: the broker syncs its disk once for the whole batch.
_BATCH = 500
_IDLE_SECONDS = 0.2
_LONGEST_PAUSE = 60

Row = dict[str, Any]


class NotConfirmed(Exception):
    """Some events of a batch were returned or refused; their rows stay in the outbox."""


class Relay:
    """Relay with a leader: one process publishes; the others stand by until its database session ends."""

    def __init__(self, database_url: str, broker: Broker, metrics: Metrics, *, attempts: int, sleep: float) -> None:
        self._database_url = database_url
        self._broker = broker
        self._metrics = metrics
        self._attempts = attempts
        self._sleep = sleep

    async def run(self) -> None:
        """Run until cancelled. A cycle of failed attempts ends with an error in the log, and the next cycle begins."""
        failed, since = 0, time.monotonic()
        while True:
            delivered = [False]
            try:
                await self._deliver(delivered)
            except (*CONNECTION_EXCEPTIONS, NotConfirmed, psycopg.OperationalError) as error:
                if delivered[0]:
                    failed, since = 0, time.monotonic()
                failed += 1
                self._metrics.relay_failing(time.monotonic() - since)
                _log.warning("relay attempt failed", attempt=failed, error=type(error).__name__)
                if failed == max(self._attempts, 1) and self._attempts != -1:
                    _log.error("broker accepts no events, they stay in the outbox", attempts=failed)
                    failed = 0
            await asyncio.sleep(min(self._sleep, _LONGEST_PAUSE) * random.uniform(1, 1.25))  # noqa: S311

    async def _deliver(self, delivered: list[bool]) -> None:
        """Connect, and deliver until an error. `delivered[0]` becomes true at the first success."""
        async with AsyncExitStack() as stack:
            database = await stack.enter_async_context(await connect_async(self._database_url, "sales_assets relay"))
            await _run(database, "lead")
            connection = await stack.enter_async_context(await self._broker.connect("relay"))
            channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
            exchange = await self._broker.declare(channel)
            while True:
                waiting = await _rows(database, "waiting", limit=_BATCH)
                if not waiting:
                    # The connection may break unnoticed while nothing is published.
                    if connection.is_closed:
                        raise ConnectionError("connection closed by the broker")
                    delivered[0] = True
                    self._metrics.relay_failing(0)
                    await asyncio.sleep(_IDLE_SECONDS)
                    continue
                await self._publish(database, exchange, waiting)
                delivered[0] = True
                self._metrics.relay_failing(0)

    async def _publish(
        self, database: psycopg.AsyncConnection[Row], exchange: AbstractExchange, waiting: Sequence[Row]
    ) -> None:
        events = [OrderEvent.model_validate(row) for row in waiting]
        answers = await publish_all(exchange, events, self._broker.timeout)
        confirmed = [row["event_no"] for row, answer in zip(waiting, answers, strict=True) if answer is None]
        if confirmed:
            await _run(database, "mark", event_nos=confirmed)
            self._metrics.published(len(confirmed))
        failures = [answer for answer in answers if answer is not None]
        for failure in failures:
            self._metrics.publish_failed(_reason(failure))
        if failures:
            raise NotConfirmed(_reason(failures[0])) from failures[0]


async def publish_all(
    exchange: AbstractExchange, events: Sequence[OrderEvent], seconds: float
) -> list[BaseException | None]:
    """Publish events together, persistent and mandatory; return for each event None or its error."""

    async def publish(event: OrderEvent) -> None:
        message = aio_pika.Message(
            event.model_dump_json().encode(),
            content_type="application/json",
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            message_id=event.message_id,
            type=event.kind,
            app_id="sales_assets",
        )
        await exchange.publish(message, routing_key=event.kind, mandatory=True)

    tasks = [asyncio.create_task(publish(event)) for event in events]
    # One timeout for all of them: a timeout each takes longer than the publishing.
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.gather(*tasks, return_exceptions=True)
    return [TimeoutError() if task.cancelled() else task.exception() for task in tasks]


def _reason(failure: BaseException) -> str:
    match failure:
        case PublishError():
            return "returned"
        case DeliveryError():
            return "refused"
        case TimeoutError():
            return "timeout"
    return "connection"


async def _rows(database: psycopg.AsyncConnection[Row], name: str, **parameters: object) -> list[Row]:
    cursor = await database.execute(statements("orders/outbox")[name], parameters)
    return await cursor.fetchall()


async def _run(database: psycopg.AsyncConnection[Row], name: str, **parameters: object) -> None:
    await database.execute(statements("orders/outbox")[name], parameters)
