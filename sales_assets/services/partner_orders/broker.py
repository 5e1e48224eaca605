"""RabbitMQ: connections, and the exchange and queues of the order events.

    exchange NAME (direct) --accepted, done, cancelled--> queue NAME.events --rejected--> queue NAME.retry
                                                              ^                               |
                                                              +------------ after a pause ----+
    messages that could not be read TRIES times are moved to the queue NAME.dead

The queues are durable classic queues: a message and its confirm survive a killed broker, and a redelivery after a
killed consumer does not count towards dead-lettering (a quorum queue's delivery limit would count it).
"""

import logging
from dataclasses import dataclass
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange

from sales_assets.schemas.partner_orders import Kind

TRIES = 3
_RETRY_MS = 1000
_FLEETING_MS = 24 * 3600 * 1000
# Failures of aiormq also reach the caller as exceptions. Without a configured log, as in `sales-assets doctor`, Python
# would print "error when creating transport" in addition to the command's message.
logging.getLogger("aiormq").addHandler(logging.NullHandler())

_KINDS: tuple[Kind, ...] = ("accepted", "done", "cancelled")


@dataclass(frozen=True)
class Broker:
    """A broker, with the prefix of exchange and queues; `timeout` in seconds for each operation.

    `fleeting`: for a demo. The broker deletes exchange and queues after a day without use, if `remove` was not called.
    """

    url: str
    timeout: float
    name: str = "partner_orders"
    fleeting: bool = False

    @property
    def events_queue(self) -> str:
        return f"{self.name}.events"

    @property
    def retry_queue(self) -> str:
        return f"{self.name}.retry"

    @property
    def dead_queue(self) -> str:
        return f"{self.name}.dead"

    async def connect(self, purpose: str) -> AbstractConnection:
        """Open a connection that does not reconnect by itself: the caller counts attempts."""
        properties: Any = {"connection_name": f"sales_assets {purpose}"}
        return await aio_pika.connect(self.url, timeout=self.timeout, client_properties=properties)

    async def declare(self, channel: AbstractChannel) -> AbstractExchange:
        """Declare the exchange and the queues; return the exchange."""
        going: Any = {"x-expires": _FLEETING_MS} if self.fleeting else {}
        exchange = await channel.declare_exchange(
            self.name, aio_pika.ExchangeType.DIRECT, durable=True, auto_delete=self.fleeting, timeout=self.timeout
        )
        events = await channel.declare_queue(
            self.events_queue,
            durable=True,
            arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": self.retry_queue} | going,
            timeout=self.timeout,
        )
        await channel.declare_queue(
            self.retry_queue,
            durable=True,
            arguments={
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": self.events_queue,
                "x-message-ttl": _RETRY_MS,
            }
            | going,
            timeout=self.timeout,
        )
        await channel.declare_queue(self.dead_queue, durable=True, arguments=going, timeout=self.timeout)
        for kind in _KINDS:
            await events.bind(exchange, routing_key=kind, timeout=self.timeout)
        return exchange

    async def ping(self) -> None:
        """Connect and disconnect. Raises what `connect` raises when the broker can't be reached."""
        connection = await self.connect("ready?")
        await connection.close()

    async def remove(self) -> None:
        """Delete the exchange and the queues with their messages; missing ones are ignored."""
        async with await self.connect("remove") as connection:
            channel = await connection.channel()
            for queue in (self.events_queue, self.retry_queue, self.dead_queue):
                await channel.queue_delete(queue, timeout=self.timeout)
            await channel.exchange_delete(self.name, timeout=self.timeout)
