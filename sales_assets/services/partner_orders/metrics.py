"""Prometheus metrics of the partner orders.

Kept in a separate registry. No label holds an order or a client.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SERVICE = "PartnerAPI"


class Metrics:
    """The service's metrics. The four counters and their label are those of docs/data-contracts/partner-orders.md."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry

        def contract(name: str, meaning: str) -> Counter:
            counter = Counter(name, meaning, ["service"], registry=registry)
            counter.labels(_SERVICE)  # there from the start, as 0
            return counter

        self._created = contract("orders_created_counter", "Orders that the partner accepted.")
        self._create_errors = contract("orders_creating_errors_counter", "Creations that ended in an error.")
        self._changed = contract("order_changing_status_counter", "Changes of status that were seen.")
        self._unmapped = contract("order_status_mapping_error", "Status words of the partner that are not known.")
        self._calls = Histogram(
            "partner_call_seconds",
            "Attempts at the partner's API.",
            ["operation", "outcome"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=registry,
        )
        self._retries = Counter("partner_retries", "Attempts beyond the first.", ["operation"], registry=registry)
        self._circuit = Gauge(
            "partner_circuit_open",
            "1 while the circuit breaker is open.",
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._not_understood = Counter(
            "partner_errors_not_understood", "Refusals with an unknown reason.", registry=registry
        )
        self._outbox_depth = Gauge(
            "orders_outbox_depth", "Events in the outbox.", multiprocess_mode="mostrecent", registry=registry
        )
        self._outbox_age = Gauge(
            "orders_outbox_oldest_seconds",
            "Age of the oldest event in the outbox.",
            multiprocess_mode="mostrecent",
            registry=registry,
        )
        self._unresolved = Gauge(
            "orders_unknown",
            "Orders whose outcome at the partner is unknown.",
            ["what"],
            multiprocess_mode="mostrecent",
            registry=registry,
        )
        self._published = Counter("orders_events_published", "Events confirmed by the broker.", registry=registry)
        self._publish_failures = Counter(
            "orders_confirm_failures", "Publishes that were not confirmed.", ["reason"], registry=registry
        )
        self._relay_retries = Counter("orders_relay_retries", "Attempts of the relay that failed.", registry=registry)
        self._relay_failing = Gauge(
            "orders_relay_failing_seconds",
            "How long the relay has been failing; 0 while it delivers.",
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._consumed = Counter(
            "orders_events_consumed", "Consumed messages, by outcome.", ["outcome"], registry=registry
        )
        self._reconciled = Counter(
            "orders_reconciled", "Lookups of orders with an unknown outcome, by result.", ["result"], registry=registry
        )

    def created(self) -> None:
        self._created.labels(_SERVICE).inc()

    def creating_error(self) -> None:
        self._create_errors.labels(_SERVICE).inc()

    def status_changed(self) -> None:
        self._changed.labels(_SERVICE).inc()

    def status_unknown(self) -> None:
        self._unmapped.labels(_SERVICE).inc()

    def partner_call(self, operation: str, outcome: str, seconds: float) -> None:
        self._calls.labels(operation, outcome).observe(seconds)

    def retry(self, operation: str) -> None:
        self._retries.labels(operation).inc()

    def circuit_open(self, is_open: bool) -> None:
        self._circuit.set(is_open)

    def not_understood(self) -> None:
        self._not_understood.inc()

    def outbox(self, depth: int, oldest_seconds: float) -> None:
        self._outbox_depth.set(depth)
        self._outbox_age.set(oldest_seconds)

    def unresolved(self, orders: int, cancels: int) -> None:
        self._unresolved.labels("create").set(orders)
        self._unresolved.labels("cancel").set(cancels)

    def published(self, events: int) -> None:
        self._published.inc(events)

    def publish_failed(self, reason: str) -> None:
        self._publish_failures.labels(reason).inc()

    def relay_failing(self, seconds: float) -> None:
        """Set the seconds for which the relay has been failing; 0 after a successful attempt."""
        self._relay_failing.set(seconds)
        if seconds:
            self._relay_retries.inc()

    def consumed(self, outcome: str, messages: int = 1) -> None:
        self._consumed.labels(outcome).inc(messages)

    def reconciled(self, result: str) -> None:
        self._reconciled.labels(result).inc()
