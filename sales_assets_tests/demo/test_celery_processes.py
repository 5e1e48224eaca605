"""Celery processes of the demo: they end with the demo, which detects if one of them ends."""

from functools import partial

import pytest
from aio_pika.abc import AbstractChannel

from sales_assets import settings as settings_module
from sales_assets.demo.celery_processes import celery_running
from sales_assets.demo.mailings import create_mailing, when_finished
from sales_assets.demo.services import DemoError, Services
from sales_assets.simulators.sender_api import SenderApi
from sales_assets_tests.demo.broker import assert_names_unused, mailings_queues
from sales_assets_tests.services.mailings.fixtures import api_running
from sales_assets_tests.services.partner_orders.fixtures import (
    BROKER_URL,
    need_broker,
    unique_names,
    until,
    with_channel,
)


async def _declare_fleeting(queue: str, channel: AbstractChannel) -> None:
    """Declare a queue with the demo's arguments; the broker refuses if it exists with other arguments."""
    await channel.declare_queue(queue, durable=True, arguments={"x-expires": 24 * 3600 * 1000})


@pytest.mark.broker
def test_celery_ends_with_the_killed_demo_and_its_own_end_is_detected(
    warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_broker()
    monkeypatch.setenv("RABBITMQ_URL", BROKER_URL)
    settings_module.settings.cache_clear()
    settings_module.settings().sales_home.mkdir()
    with (
        unique_names() as broker,
        api_running(warehouse_url) as api,
        celery_running(broker, sender_url="http://127.0.0.1:9", sender_token="t") as (beat, worker),
    ):
        until(lambda: "worker ready" in worker.log.read_text() and beat.log.stat().st_size, seconds=90)
        for queue in mailings_queues(broker):
            with_channel(broker, partial(_declare_fleeting, queue))
        for one in (worker, beat):
            assert one.exit_reason is None
            assert one.process.stdin is not None
            one.process.stdin.close()  # the kernel does the same when the demo is killed
            one.process.wait(30)
        with pytest.raises(DemoError, match=r"the mailings' worker exited with code -?\d+; see .*/worker\.log"):
            when_finished(Services(api.url, "", "", SenderApi(), "", [worker]), create_mailing(api.url))
    assert_names_unused(broker)
