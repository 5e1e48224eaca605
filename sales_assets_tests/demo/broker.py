"""Broker of the demo: the message if RabbitMQ is missing, and checks that the demo leaves nothing there."""

import json
from functools import partial
from pathlib import Path

import pytest
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelNotFoundEntity

from sales_assets import settings as settings_module
from sales_assets.services.mailings.celery_app import dispatch_queue, plan_queue
from sales_assets.services.partner_orders.broker import Broker
from sales_assets_tests.services.partner_orders.fixtures import BROKER_URL, queued, with_channel

UNKNOWN_USER_URL = "amqp://guest:hush@127.0.0.1:9//"
NO_BROKER = (
    "Orders and mailings are skipped: they need RabbitMQ, and none runs at 127.0.0.1:9 (AMQPConnectionError). "
    "`apt-get install rabbitmq-server` or `docker run -d -p 5672:5672 rabbitmq:4` provides one; "
    "set RABBITMQ_URL to its address."
)


def assert_broker_is_clean(home: Path) -> None:
    """Check that the last demo of this home left nothing at the broker; its log contains the names that it used."""
    lines = [json.loads(line) for line in (home / "services.log").read_text().splitlines()]
    broker = Broker(BROKER_URL, 10, [line["broker_name"] for line in lines if "broker_name" in line][-1])
    assert broker.name.startswith("sales_assets_demo_")
    assert_names_unused(broker)


def assert_names_unused(broker: Broker) -> None:
    for queue in (broker.events_queue, broker.retry_queue, broker.dead_queue, *mailings_queues(broker)):
        with pytest.raises(ChannelNotFoundEntity):
            queued(broker, queue)
    prefix = f"{broker.name}.mailings"
    celerys_own = (prefix, f"{prefix}.control.pidbox", f"reply.{prefix}.control.pidbox", f"{prefix}.events")
    for exchange in (broker.name, *celerys_own):
        with pytest.raises(ChannelNotFoundEntity):
            with_channel(broker, partial(_find_exchange, exchange))


def mailings_queues(broker: Broker) -> list[str]:
    """Return the queue names that the mailings service uses with this broker name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAILINGS_QUEUE_PREFIX", f"{broker.name}.mailings")
        settings_module.settings.cache_clear()
        queues = [plan_queue(), dispatch_queue()]
    settings_module.settings.cache_clear()
    assert all(queue.startswith(f"{broker.name}.mailings.") for queue in queues)
    return queues


async def _find_exchange(name: str, channel: AbstractChannel) -> None:
    await channel.get_exchange(name, ensure=True)
