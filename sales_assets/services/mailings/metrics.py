"""Prometheus metrics of the dispatch.

`Queue` holds the state of the database, for any process; `Sends` the work of one worker. No label holds a client, a
message or a mailing.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

STATUSES = ("Pending", "SENT", "FAILED", "TIMEOUT")


class Queue:
    """Metrics of all messages, from the statements `by_status` and `depth` of ``sql/mailings/message.sql``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        # If several processes serve the port: the value of the process that read the database last.
        gauge = partial(Gauge, registry=registry, multiprocess_mode="mostrecent")
        self._messages = gauge("mailings_messages", "Messages by status.", ["status"])
        for status in STATUSES:
            self._messages.labels(status)
        self._depth = gauge("mailings_queue_depth", "Due messages that no worker has claimed.")
        self._oldest = gauge("mailings_queue_oldest_seconds", "How late the oldest due message is.")

    def update(self, by_status: Iterable[Mapping[str, Any]], depth: Mapping[str, Any]) -> None:
        """Set the gauges from rows of `by_status` (status, count) and a row of `depth` (depth, oldest_seconds)."""
        counts = dict.fromkeys(STATUSES, 0) | {row["status"]: row["count"] for row in by_status}
        for status, count in counts.items():
            self._messages.labels(status).set(count)
        self._depth.set(depth["depth"])
        self._oldest.set(depth["oldest_seconds"])


class Sends:
    """Metrics of the sends of a worker process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._sends = Histogram(
            "mailings_send_seconds",
            "Requests to the sender, by outcome.",
            ["outcome"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=registry,
        )
        self._released = Counter(
            "mailings_settled", "Claimed messages that were released, by new status.", ["status"], registry=registry
        )
        self._late = Counter(
            "mailings_late_results", "Results of messages that another worker had claimed.", registry=registry
        )
        self._unknown_zones = Counter(
            "mailings_unknown_zones", "Messages to clients with an unknown time zone: UTC.", registry=registry
        )
        self._rate_waits = Counter(
            "mailings_rate_wait_seconds", "Seconds that sends waited for SENDER_RATE.", registry=registry
        )
        self._in_flight = Gauge("mailings_in_flight", "Sends in flight.", registry=registry)

    def sent(self, outcome: str, seconds: float) -> None:
        self._sends.labels(outcome).observe(seconds)

    def released(self, status: str) -> None:
        self._released.labels(status).inc()

    def late(self, results: int) -> None:
        self._late.inc(results)

    def unknown_zone(self) -> None:
        self._unknown_zones.inc()

    def rate_waited(self, seconds: float) -> None:
        self._rate_waits.inc(seconds)

    def in_flight(self, sends: int) -> None:
        self._in_flight.set(sends)
