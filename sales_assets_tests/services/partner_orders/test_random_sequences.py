"""Random sequences of actions by callers, partner, database and service processes, checked against a reference model.

The reference model is the simulated partner: it knows which orders it has, and their status. Two processes of the
service share one database; they receive requests, fail, die and reconcile. After each step no order of the partner may
be forgotten, and at the end each order and each cancellation must have exactly one event.
"""

import asyncio
import datetime as dt
import secrets
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any, TypeVar

import psycopg
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncEngine

from sales_assets.postgres.engines import async_engine
from sales_assets.services.http.server import running
from sales_assets.services.partner_orders.circuit_breaker import CircuitBreaker
from sales_assets.services.partner_orders.domain.orders import Accepted, Order, Refused
from sales_assets.services.partner_orders.domain.states import State
from sales_assets.services.partner_orders.errors import (
    CancelFailed,
    CancelRejected,
    ServiceError,
    StatusUnavailable,
)
from sales_assets.services.partner_orders.metrics import Metrics
from sales_assets.services.partner_orders.partner_client import Attempts, PartnerClient
from sales_assets.services.partner_orders.reconciler import Reconciler
from sales_assets.services.partner_orders.repository import OrderRepository
from sales_assets.services.partner_orders.schemas.v2 import OrderBody
from sales_assets.services.partner_orders.service import OrderService
from sales_assets.simulators.partner_api import Answer, PartnerApi
from sales_assets_tests.services.partner_orders.fixtures import order

T = TypeVar("T")

LOST = Answer(done=True, cut=True)
NOT_ALLOWED = {"status": "error", "errors": ["cancellation not allowed"]}
# Scripted responses that replace the true one. A response with the status "error" means that a create was not carried
# out; a cancel may have been carried out.
RESPONSES = {
    "find": [Answer(500), Answer(404), Answer(200, "<html>")],
    "create": [
        Answer(500, done=True),
        Answer(500),
        LOST,
        Answer(200, "<html>", done=True),
        Answer(429),
        Answer(404),
        Answer(200, {"status": "error", "errors": "no idea\x00"}),
        Answer(200, {"status": "error", "errors": {"58": "Wrong quantity"}}),
    ],
    "status": [Answer(500), Answer(404), Answer(200, {"status": "ok", "data": {"777": {"status": "\ud800"}}})],
    "cancel": [
        Answer(500, done=True),
        Answer(500),
        LOST,
        Answer(429),
        Answer(404),
        Answer(200, NOT_ALLOWED),
        Answer(200, {"status": "error", "errors": []}, done=True),
        Answer(200, {"status": "error", "errors": ["try later"]}),
        Answer(200, {"status": "error", "errors": ["already cancelled"]}, done=True),
    ],
}
SCRIPTED = [(operation, response) for operation, responses in RESPONSES.items() for response in responses]
CALLS = ["create", "cancel", "ask"]
Step = tuple[Any, ...]


def any_step(random: Random) -> Step:
    """Return a random step: the name of a method of `OrderScenario` and its arguments."""
    process, failing = random.randrange(2), random.random() < 0.3
    match random.choice(STEPS):
        case "partner_fails_next" as step:
            return (step, *random.choice(SCRIPTED))
        case "partner_changes_status" as step:
            return (step, random.choice(["in_shop", "done", "cancelled"]))
        case "caller_cancels_under_another_id" as step:
            return (step, process)
        case "concurrent_calls" as step:
            return (step, [(random.choice(CALLS), random.randrange(2)) for _ in range(random.randint(2, 4))])
        case "process_killed_in_call" as step:
            return (step, process, random.choice(CALLS[:2]), random.random() < 0.5)
        case step:
            return (step, process, failing)


STEPS = [
    "partner_fails_next",
    "partner_fails_next",
    "partner_changes_status",
    "caller_creates",
    "caller_cancels",
    "caller_cancels",
    "caller_cancels_under_another_id",
    "caller_reads",
    "concurrent_calls",
    "reconciler_runs",
    "process_killed_in_call",
]


class Harness:
    """Objects shared by all orders: the database, the partner, and an event loop for the service."""

    def __init__(self, url: str, runner: asyncio.Runner, partner: PartnerApi, partner_url: str) -> None:
        self.connection = psycopg.connect(url, autocommit=True)
        self.runner = runner
        self.partner = partner
        self.partner_url = partner_url
        self.engine: AsyncEngine = async_engine(url, "sales_assets partner orders", pre_ping=False)
        self.numbers = iter(range(1, 1_000_000))
        self.query("CREATE TABLE failing (on_commit boolean)")
        self.query("INSERT INTO failing VALUES (false)")
        self.query(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF NEW.claim IS NULL AND (SELECT on_commit FROM failing) THEN RAISE EXCEPTION 'disk full'; END IF; "
            "RETURN NEW; END $$"
        )
        self.query("CREATE TRIGGER fail BEFORE UPDATE ON orders.partner_order FOR EACH ROW EXECUTE FUNCTION fail()")

    @contextmanager
    def failing_commits(self, failing: bool) -> Iterator[None]:
        """Make every UPDATE that stores the outcome of a call fail."""
        if not failing:
            yield
            return
        self.query("UPDATE failing SET on_commit = true")
        try:
            yield
        finally:
            self.query("UPDATE failing SET on_commit = false")

    def query(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        cursor = self.connection.execute(statement.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)


class Process:
    """A process of the service, with separate claims and a separate memory of calls in progress."""

    def __init__(self, harness: Harness, partner: PartnerClient, metrics: Metrics) -> None:
        self.repository = OrderRepository(
            harness.engine,
            worker=secrets.token_hex(4),
            project_id=8,
            kodpost=1,
            pause=dt.timedelta(seconds=60),
            poll_open_for=dt.timedelta(days=1),
        )
        self.service = OrderService(self.repository, partner, metrics, deadline=10)
        self.reconciler = Reconciler(self.repository, self.service, metrics, seconds=60)


class OrderScenario:
    """The life of one order, with one of three beginnings."""

    def __init__(self, harness: Harness, attempts: int, first: str) -> None:
        self.harness = harness
        self.order: Order = OrderBody.model_validate(order(next(harness.numbers))).order()
        self.metrics = Metrics(CollectorRegistry())
        self.partner = PartnerClient(
            self.harness.partner_url,
            reads=Attempts(5, 1, 0),
            orders=Attempts(5, attempts, 0),
            breaker=CircuitBreaker(1_000_000, 1),
            metrics=self.metrics,
        )
        self.harness.run(self.partner.__aenter__())
        self.processes = [Process(self.harness, self.partner, self.metrics) for _ in range(2)]
        if first == "lost":
            self.harness.partner.answer("create", LOST)
        if first != "nothing":
            self.harness.run(self.create(0))
        self.harness.partner.forget_answers("create")

    # --- steps ----------------------------------------------------------------------------------------------------

    def partner_fails_next(self, operation: str, response: Answer) -> None:
        self.harness.partner.answer(operation, response)

    def partner_changes_status(self, status: str) -> None:
        if self.theirs and self.status not in ("done", "cancelled"):
            self.harness.partner.set_status(self.theirs, status)

    def caller_creates(self, process: int, failing: bool) -> None:
        with self.harness.failing_commits(failing):
            self.create_responded(self.harness.run(self.create(process)))

    def caller_cancels(self, process: int, failing: bool) -> None:
        with self.harness.failing_commits(failing):
            self.cancel_responded(self.harness.run(self.cancel(process)))

    def caller_cancels_under_another_id(self, process: int) -> None:
        self.harness.run(self.cancel(process, "1"))

    def caller_reads(self, process: int, failing: bool) -> None:
        with self.harness.failing_commits(failing):
            self.harness.run(self.read_order(process))

    def concurrent_calls(self, calls: Sequence[tuple[str, int]]) -> None:
        work: dict[str, Callable[[int], Coroutine[Any, Any, Any]]] = {
            "create": self.create,
            "cancel": self.cancel,
            "ask": self.read_order,
        }

        async def at_once() -> None:
            await asyncio.gather(*(work[call](process) for call, process in calls))

        self.harness.run(at_once())

    def reconciler_runs(self, process: int, failing: bool) -> None:
        self.reconcile(process, failing=failing)

    def process_killed_in_call(self, process: int, call: str, done: bool) -> None:
        self.harness.partner.forget_answers(call)
        self.harness.partner.answer(call, Answer(500, done=done, delay=0.3))
        work = self.create(process) if call == "create" else self.cancel(process)
        self.harness.run(self.killed(work, call))
        self.harness.partner.forget_answers(call)
        self.harness.query("UPDATE orders.partner_order SET claimed_until = now()")  # the lease lapses
        self.processes[process] = Process(self.harness, self.partner, self.metrics)

    async def killed(self, work: Coroutine[Any, Any, Any], call: str) -> None:
        """Run `work`; cancel all remaining tasks once the partner has received the call or `work` has ended."""
        before = self.harness.partner.seen[call]
        mine = asyncio.current_task()
        task = asyncio.create_task(work)
        while self.harness.partner.seen[call] == before and not task.done():
            await asyncio.wait([task], timeout=0.01)
        running = [other for other in asyncio.all_tasks() if other is not mine]
        for other in running:
            other.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    # --- invariants -----------------------------------------------------------------------------------------------

    def check_at_most_one_partner_order(self) -> None:
        assert len(self.harness.partner.orders_of(self.order.order_id)) <= 1

    def check_events_are_true(self) -> None:
        events = self.events()
        assert len(events) == len(set(events))
        if "accepted" in events:
            assert self.theirs
        if "cancelled" in events:
            assert self.status == "cancelled"
        if "done" in events:
            assert self.status == "done"

    def check_nothing_is_lost(self) -> None:
        for state, watched in self.harness.query(
            "SELECT state, next_check_at IS NOT NULL FROM orders.partner_order WHERE order_id = %s",
            self.order.order_id,
        ):
            if self.theirs:
                assert state not in (State.FAILED, State.REJECTED)
            final = state in (State.FAILED, State.REJECTED, State.DONE, State.CANCELLED)
            assert watched != final

    def run_steps(self, steps: Sequence[Step]) -> None:
        """Run the steps; check the invariants after each, and the final state at the end."""
        try:
            for name, *arguments in steps:
                getattr(self, name)(*arguments)
                self.check_at_most_one_partner_order()
                self.check_events_are_true()
                self.check_nothing_is_lost()
            self.check_final_state()
        finally:
            for operation in RESPONSES:
                self.harness.partner.forget_answers(operation)
            self.harness.query("TRUNCATE orders.outbox, orders.partner_order")
            self.harness.run(self.partner.__aexit__(None, None, None))

    def check_final_state(self) -> None:
        """Check that after all faults the order and its cancellation have exactly one event each."""
        for operation in RESPONSES:
            self.harness.partner.forget_answers(operation)
        self.harness.query("UPDATE orders.partner_order SET claimed_until = now() WHERE claim IS NOT NULL")
        for _ in range(3):
            self.reconcile(0)
        expected = ["accepted"] if self.theirs else []
        if self.status in ("done", "cancelled"):
            expected.append(self.status)
        assert self.events() == expected
        if self.theirs:
            # A day later no order is unresolved.
            self.harness.query("UPDATE orders.partner_order SET check_until = now()")
            self.reconcile(1)
            assert self.state() == (self.status if self.status in ("done", "cancelled") else "accepted")
        else:
            self.harness.query("UPDATE orders.partner_order SET check_until = now()")
            self.reconcile(1)
            assert self.state() in (None, "failed", "rejected")

    # --- calls ----------------------------------------------------------------------------------------------------

    @property
    def theirs(self) -> int | None:
        return next(iter(self.harness.partner.orders_of(self.order.order_id)), None)

    @property
    def status(self) -> str | None:
        return self.harness.partner.status_of(self.theirs) if self.theirs else None

    def events(self) -> list[str]:
        rows = self.harness.query(
            "SELECT kind FROM orders.outbox WHERE order_id = %s ORDER BY event_no", self.order.order_id
        )
        return [row[0] for row in rows]

    def state(self) -> str | None:
        rows = self.harness.query("SELECT state FROM orders.partner_order WHERE order_id = %s", self.order.order_id)
        return rows[0][0] if rows else None

    async def create(self, process: int) -> Accepted | Refused | None:
        try:
            return await self.processes[process].service.create(self.order)
        except ServiceError:
            return None

    def create_responded(self, response: Accepted | Refused | None) -> None:
        if isinstance(response, Accepted):
            assert response.their_order_id == str(self.theirs)

    async def cancel(self, process: int, theirs: str | None = None) -> str:
        try:
            await self.processes[process].service.cancel(self.order.order_id, theirs or str(self.theirs or 1))
        except (CancelRejected, CancelFailed, ServiceError) as error:
            return type(error).__name__
        return "cancelled"

    def cancel_responded(self, response: str) -> None:
        if response == "cancelled":
            assert self.status == "cancelled"
        if response == "CancelRejected":
            assert self.status != "cancelled"

    async def read_order(self, process: int) -> int | None:
        try:
            return (await self.processes[process].service.status(self.order.order_id, None)).status_id
        except (StatusUnavailable, ServiceError):
            return None

    def reconcile(self, process: int, *, failing: bool = False) -> None:
        self.harness.query("UPDATE orders.partner_order SET next_check_at = now() WHERE next_check_at IS NOT NULL")
        with self.harness.failing_commits(failing):
            self.harness.run(self.processes[process].reconciler.look_up_once())


@pytest.fixture
def harness(warehouse_url: str) -> Iterator[Harness]:
    partner = PartnerApi()
    with running(partner) as partner_url, asyncio.Runner() as runner:
        harness = Harness(warehouse_url, runner, partner, partner_url)
        yield harness
        runner.run(harness.engine.dispose())
        harness.connection.close()


def examine(harness: Harness, seeds: Iterable[int]) -> None:
    for seed in seeds:
        random = Random(seed)
        attempts, first = random.randint(1, 3), random.choice(["accepted", "accepted", "lost", "nothing"])
        steps = [any_step(random) for _ in range(random.randint(3, 12))]
        try:
            OrderScenario(harness, attempts, first).run_steps(steps)
        except AssertionError as error:
            described = "\n".join(map(repr, steps))
            raise AssertionError(f"seed {seed}, {attempts} attempts, at first {first}, then\n{described}") from error


def test_random_sequences_lose_no_order(harness: Harness) -> None:
    examine(harness, range(40))
