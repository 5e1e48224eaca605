"""A part of the service as a process of its own, to be killed: `python -m ... DATABASE_URL BROKER_NAME PART...`.

The settings come from the environment, as for `sales-assets api`; only the names at the broker are the test's.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry

from sales_assets.services.partner_orders.broker import Broker
from sales_assets.services.partner_orders.service import PARTS, PartnerOrders
from sales_assets.settings import Settings


class Killable:
    """The process; `kill` is `kill -9`."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sales_assets_tests.services.partner_orders.process", *arguments],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"running\n"

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


@contextmanager
def process_running(database_url: str, broker: Broker, *parts: str, **settings: str) -> Iterator[Killable]:
    """The parts in one process, killed at the end at the latest."""
    environment = {"RABBITMQ_URL": broker.url, "PARTNERAPI_RABBITMQ_RETRIES_SLEEP": "0.2"} | settings
    process = Killable([database_url, broker.name, *parts], environment)
    try:
        yield process
    finally:
        process.kill()


async def _main(database_url: str, broker_name: str, *parts: str) -> None:
    orders = PartnerOrders(
        Settings(),
        database_url,
        registry=CollectorRegistry(),
        parts=[part for part in PARTS if part in parts],
        broker_name=broker_name,
    )
    async with orders.running():
        print("running", flush=True)  # noqa: T201  the test waits for it
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
