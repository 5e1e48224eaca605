"""Consumer: store events from the queue in ``staging.partner_order_event``, each once.

Messages are acknowledged after the commit; unreadable ones are retried and then dead-lettered. The mart is loaded from
the staged events by `sales_assets.defs.load_partner_orders`.
"""

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any

import aio_pika
import psycopg
import structlog
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from psycopg.types.json import Jsonb
from pydantic import ValidationError

from sales_assets.postgres.connection import connect_async
from sales_assets.postgres.errors import fault_of_setting
from sales_assets.postgres.queries import statements
from sales_assets.schemas.partner_orders import OrderEvent
from sales_assets.schemas.pseudonyms import Pseudonyms
from sales_assets.services.partner_orders.broker import TRIES, Broker
from sales_assets.services.partner_orders.metrics import Metrics

_log = structlog.get_logger()

_BATCH = 200
_PREFETCH = 2 * _BATCH
_LONGEST_PAUSE = 60
_QUIET_SECONDS = 1

Row = dict[str, Any]


class Consumer:
    """The consumer. Any number may run at once: staging stores a message id once."""

    def __init__(
        self, database_url: str, broker: Broker, metrics: Metrics, pseudonyms: Pseudonyms, *, sleep: float
    ) -> None:
        self._database_url = database_url
        self._broker = broker
        self._metrics = metrics
        self._pseudonyms = pseudonyms
        self._sleep = sleep

    async def run(self) -> None:
        """Run until cancelled; reconnect after a pause."""
        while True:
            try:
                await self._consume()
            except (*CONNECTION_EXCEPTIONS, psycopg.OperationalError) as error:
                # Unacknowledged messages are redelivered.
                reason = {"reason": fault} if (fault := fault_of_setting(error)) else {}
                _log.warning("consumer attempt failed", error=type(error).__name__, **reason)
            await asyncio.sleep(min(self._sleep, _LONGEST_PAUSE) * random.uniform(1, 1.25))  # noqa: S311

    async def _consume(self) -> None:
        async with AsyncExitStack() as stack:
            database = await stack.enter_async_context(await connect_async(self._database_url, "sales_assets consumer"))
            connection = await stack.enter_async_context(await self._broker.connect("consumer"))
            channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
            await channel.set_qos(prefetch_count=_PREFETCH)
            await self._broker.declare(channel)
            queue = await channel.get_queue(self._broker.events_queue, ensure=False)
            arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
            tag = await queue.consume(arrived.put)
            underlay: Any = await channel.get_underlay_channel()  # its abstract type lacks the consumers
            while True:
                batch = await _next_batch(arrived)
                if batch:
                    await self._take(database, channel, batch)
                elif connection.is_closed or channel.is_closed or tag not in underlay.consumers:
                    # The last condition: a deleted queue cancels the consumer, and leaves its channel open.
                    raise ConnectionError("consumer cancelled by the broker")

    async def _take(
        self,
        database: "psycopg.AsyncConnection[dict[str, object]]",
        channel: AbstractChannel,
        batch: Sequence[AbstractIncomingMessage],
    ) -> None:
        readable: list[tuple[AbstractIncomingMessage, Row]] = []
        for message in batch:
            try:
                readable.append((message, OrderEvent.model_validate_json(message.body).model_dump(mode="json")))
            except ValidationError:
                await self._dead_letter(channel, message)
        try:
            await self._stage(database, readable)
        except psycopg.DataError:
            # One event can't be stored; the others must not wait for it.
            for one in readable:
                try:
                    await self._stage(database, [one])
                except psycopg.DataError:
                    await self._dead_letter(channel, one[0])

    async def _stage(
        self,
        database: "psycopg.AsyncConnection[dict[str, object]]",
        readable: Sequence[tuple[AbstractIncomingMessage, Row]],
    ) -> None:
        if not readable:
            return
        phones = [event["phone"] for _, event in readable]
        found = await database.execute(statements("mailings/erased_phone")["phone_keys"], {"phones": phones})
        pseudonyms = self._pseudonyms.of([row["key"] async for row in found])  # type: ignore[misc]
        events = [{**event, "pseudonym": one} for (_, event), one in zip(readable, pseudonyms, strict=True)]
        parameters = {"events": Jsonb(events), "key_id": self._pseudonyms.key_id}
        cursor = await database.execute(statements("staging/partner_order_event")["stage"], parameters)
        # Acknowledged after the commit: after a kill in between, redelivered messages are duplicates by id.
        for message, _ in readable:
            await message.ack()
        self._metrics.consumed("staged", cursor.rowcount)
        self._metrics.consumed("repeated", len(readable) - cursor.rowcount)

    async def _dead_letter(self, channel: AbstractChannel, message: AbstractIncomingMessage) -> None:
        """Retry an unreadable message later, and after TRIES move it to the dead-letter queue."""
        tries = _rejections(message, self._broker.events_queue) + 1
        if tries < TRIES:
            await message.reject(requeue=False)
            self._metrics.consumed("retried")
            return
        _log.error(
            "unreadable message moved to dead-letter queue",
            message_id=message.message_id,
            tries=tries,
            queue=self._broker.dead_queue,
        )
        await channel.default_exchange.publish(
            aio_pika.Message(
                message.body,
                message_id=message.message_id,
                content_type=message.content_type,
                headers=message.headers,
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            ),
            routing_key=self._broker.dead_queue,
            timeout=self._broker.timeout,
        )
        await message.ack()
        self._metrics.consumed("dead")


async def _next_batch(arrived: asyncio.Queue[AbstractIncomingMessage]) -> list[AbstractIncomingMessage]:
    """Return the messages that arrived, at most a batch; none after a second without messages."""
    batch: list[AbstractIncomingMessage] = []
    with suppress(TimeoutError):
        async with asyncio.timeout(_QUIET_SECONDS):
            batch.append(await arrived.get())
    while len(batch) < _BATCH and not arrived.empty():
        batch.append(arrived.get_nowait())
    return batch


def _rejections(message: AbstractIncomingMessage, queue: str) -> int:
    """Return how often the message was rejected from the queue, according to its x-death header."""
    deaths = message.headers.get("x-death")
    if not isinstance(deaths, list):
        return 0
    counts = [
        death.get("count")
        for death in deaths
        if isinstance(death, dict) and (death.get("queue"), death.get("reason")) == (queue, "rejected")
    ]
    return sum(count for count in counts if isinstance(count, int))
