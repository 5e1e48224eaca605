"""Celery's processes in the demo: start a worker and beat, detect their end, stop them, remove their queues.

Their configuration is in ``celery_app``.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from sales_assets.deploy.ui import end_groups
from sales_assets.postgres.database import warehouse_url
from sales_assets.services.partner_orders.broker import Broker
from sales_assets.settings import settings

# Rely on the planner's tick: the service enqueues to the queues of the settings, which may be in use by others.
_TICK_SECONDS = 0.5
_COMMANDS = {
    # Started first and ended last: an idle worker notices a shutdown only when a message arrives.
    "beat": [],
    # Without gossip and mingle, which would leave exchanges at the broker.
    "worker": ["-P", "threads", "--without-gossip", "--without-mingle", "--without-heartbeat"],
}


@dataclass(frozen=True)
class CeleryProcess:
    """A Celery process and its log."""

    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def exit_reason(self) -> str | None:
        """Return a message if the process ended unexpectedly; None while it runs."""
        code = self.process.poll()
        return None if code is None else f"the mailings' {self.log.stem} exited with code {code}; see {self.log}"


@contextmanager
def celery_running(broker: Broker, *, sender_url: str, sender_token: str) -> Iterator[Sequence[CeleryProcess]]:
    """Run beat and a worker on the demo's warehouse within the block, with queues named after the broker."""
    prefix = f"{broker.name}.mailings"
    # Don't inherit settings of a production worker, such as its metrics port.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAILINGS_", "SENDER_"))}
    environment |= {
        "SALES_HOME": str(settings().sales_home),
        "WAREHOUSE_URL": warehouse_url(),
        "RABBITMQ_URL": settings().rabbitmq_url.get_secret_value(),
        "SENDER_URL": sender_url,
        "SENDER_TOKEN": sender_token,
        "MAILINGS_QUEUE_PREFIX": prefix,
        "MAILINGS_TICK_SECONDS": str(_TICK_SECONDS),
    }
    with ExitStack() as stack:
        stack.callback(_forget, broker, prefix)
        yield [stack.enter_context(_running(name, arguments, environment)) for name, arguments in _COMMANDS.items()]


@contextmanager
def _running(name: str, arguments: Sequence[str], environment: dict[str, str]) -> Iterator[CeleryProcess]:
    home = settings().sales_home
    log = home / f"{name}.log"
    app = "sales_assets.demo.celery_app"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", app, name, *arguments],
            env=environment,
            cwd=home,  # don't read the .env file of the current folder
            stdin=subprocess.PIPE,  # never written to: it closes when the demo ends
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield CeleryProcess(process, log)
    finally:
        end_groups([process])
        assert process.stdin is not None
        process.stdin.close()


def _forget(broker: Broker, prefix: str) -> None:
    # If the broker is gone, the queues expire.
    with suppress(*CONNECTION_EXCEPTIONS, OSError):
        asyncio.run(_remove(broker, prefix))


async def _remove(broker: Broker, prefix: str) -> None:
    async with await broker.connect("remove") as connection:
        channel = await connection.channel()
        for queue in ("plan", "dispatch"):
            await channel.queue_delete(f"{prefix}.{queue}", timeout=broker.timeout)
        await channel.exchange_delete(prefix, timeout=broker.timeout)
