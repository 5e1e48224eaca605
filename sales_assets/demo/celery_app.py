"""Celery application of the demo: the mailings', with queues that expire and processes that end with the demo."""

import os
import signal
import threading
from typing import Any

from celery import signals
from kombu.entity import Exchange, Queue

from sales_assets.services.mailings.celery_app import app, dispatch_queue, plan_queue
from sales_assets.settings import settings

__all__ = ["app"]

_FLEETING_SECONDS = 24 * 3600
_SHUTDOWN_SECONDS = 15


def _configuration() -> dict[str, Any]:
    exchange = Exchange(settings().mailings_queue_prefix, type="direct", durable=True, auto_delete=True)
    return {
        "task_queues": [
            Queue(name, exchange, routing_key=name, expires=_FLEETING_SECONDS)
            for name in (plan_queue(), dispatch_queue())
        ],
        # Remote control would leave exchanges at the broker.
        "worker_enable_remote_control": False,
    }


# The step added last runs first.
app.add_defaults(_configuration)


def _end_with_the_demo() -> None:
    """End this process when stdin closes: the demo holds the other end, which closes even after `kill -9`."""
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(_SHUTDOWN_SECONDS)
    os._exit(1)


def _watch(**_sent: Any) -> None:
    threading.Thread(target=_end_with_the_demo, name="demo", daemon=True).start()


# weak=False: otherwise the function is garbage collected, since only the signals refer to it.
signals.worker_init.connect(_watch, weak=False)
signals.beat_init.connect(_watch, weak=False)
