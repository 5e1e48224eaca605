"""Parts of the service as a separate process that can be killed: `python -m ... DATABASE_URL BROKER_NAME PART...`.

The part `http` serves on a free port and prints its URL. The settings come from the environment, as for `sales-assets
api`; only the names at the broker are specific to the test.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry

from sales_assets.services.http.application import application
from sales_assets.services.http.logging import configure_logging
from sales_assets.services.http.server import serve
from sales_assets.services.partner_orders.bootstrap import PARTS, PartnerOrders
from sales_assets.services.partner_orders.broker import Broker
from sales_assets.settings import Settings


class KillableProcess:
    """A subprocess; `kill` sends SIGKILL."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sales_assets_tests.services.partner_orders.process", *arguments],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdout is not None
        self.first_line = self._process.stdout.readline().decode().strip()
        assert self.first_line, "the process did not start"

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


@contextmanager
def process_running(database_url: str, broker: Broker, *parts: str, **settings: str) -> Iterator[KillableProcess]:
    """Run the parts in one process, which is killed at the end at the latest."""
    environment = {"RABBITMQ_URL": broker.url, "PARTNERAPI_RABBITMQ_RETRIES_SLEEP": "0.2"} | settings
    process = KillableProcess([database_url, broker.name, *parts], environment)
    try:
        yield process
    finally:
        process.kill()


@contextmanager
def http_running(
    database_url: str, broker: Broker, *parts: str, **settings: str
) -> Iterator[tuple[str, KillableProcess]]:
    """Run the HTTP part, and others if given; yield its URL and the process."""
    with process_running(database_url, broker, "http", *parts, **settings) as process:
        yield process.first_line, process


def _main(database_url: str, broker_name: str, *parts: str) -> None:
    configure_logging()  # to stderr: only the first line of stdout is read
    registry = CollectorRegistry()
    settings = Settings()
    orders = PartnerOrders(
        settings,
        database_url,
        registry=registry,
        parts=[part for part in PARTS if part in parts],
        broker=Broker(settings.rabbitmq_url.get_secret_value(), settings.partnerapi_rabbitmq_timeout, broker_name),
    )
    if "http" in parts:
        serve(application(orders, registry=registry), lifespan=True, on_ready=_print_line)
    else:
        asyncio.run(_run(orders))


async def _run(orders: PartnerOrders) -> None:
    async with orders.running():
        _print_line("running")
        await asyncio.Event().wait()


def _print_line(text: str) -> None:
    print(text, flush=True)  # noqa: T201  the parent process waits for this line


if __name__ == "__main__":
    _main(*sys.argv[1:])
