"""Random sequences of what callers, the partner, the database and our processes do, held to the partner's own truth.

The reference model is the simulated partner: it knows which order it has, and in which status. Two processes of the
service, on one database, are asked, fail, die and reconcile; after each step nothing that the partner has may be
forgotten, and in the end each order and each cancellation has exactly one event.
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
# What a call may be answered instead of the truth. A partner that says error has not carried out a create; of a cancel
# it may have.
ANSWERS = {
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
SCRIPTED = [(operation, answer) for operation, answers in ANSWERS.items() for answer in answers]
CALLS = ["create", "cancel", "ask"]
Step = tuple[Any, ...]


def any_step(random: Random) -> Step:
    """One thing that happens: a method of `OneOrder` and its arguments."""
    process, failing = random.randrange(2), random.random() < 0.3
    match random.choice(STEPS):
        case "partner_misbehaves_next" as step:
            return (step, *random.choice(SCRIPTED))
        case "partner_moves_the_order" as step:
            return (step, random.choice(["in_shop", "done", "cancelled"]))
        case "caller_cancels_under_another_id" as step:
            return (step, process)
        case "callers_call_at_once" as step:
            return (step, [(random.choice(CALLS), random.randrange(2)) for _ in range(random.randint(2, 4))])
        case "process_dies_over_a_call" as step:
            return (step, process, random.choice(CALLS[:2]), random.random() < 0.5)
        case step:
            return (step, process, failing)


STEPS = [
    "partner_misbehaves_next",
    "partner_misbehaves_next",
    "partner_moves_the_order",
    "caller_creates",
    "caller_cancels",
    "caller_cancels",
    "caller_cancels_under_another_id",
    "caller_asks",
    "callers_call_at_once",
    "reconciler_looks",
    "process_dies_over_a_call",
]


class World:
    """What outlives an order: the database, the partner, and a loop to run the service's parts in."""

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
        """No outcome of a call can be stored."""
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
    """A process of the service: its own claims, and its own memory of what is under way."""

    def __init__(self, world: World, partner: PartnerClient, metrics: Metrics) -> None:
        self.repository = OrderRepository(
            world.engine,
            worker=secrets.token_hex(4),
            project_id=8,
            kodpost=1,
            pause=dt.timedelta(seconds=60),
            poll_open_for=dt.timedelta(days=1),
        )
        self.service = OrderService(self.repository, partner, metrics, deadline=10)
        self.reconciler = Reconciler(self.repository, self.service, metrics, seconds=60)


class OneOrder:
    """The life of one order, from one of three beginnings."""

    def __init__(self, world: World, attempts: int, first: str) -> None:
        self.world = world
        self.order: Order = OrderBody.model_validate(order(next(world.numbers))).order()
        self.metrics = Metrics(CollectorRegistry())
        self.partner = PartnerClient(
            self.world.partner_url,
            reads=Attempts(5, 1, 0),
            orders=Attempts(5, attempts, 0),
            breaker=CircuitBreaker(1_000_000, 1),
            metrics=self.metrics,
        )
        self.world.run(self.partner.__aenter__())
        self.processes = [Process(self.world, self.partner, self.metrics) for _ in range(2)]
        if first == "lost":
            self.world.partner.answer("create", LOST)
        if first != "nothing":
            self.world.run(self.create(0))
        self.world.partner.forget_answers("create")

    # --- what happens ---------------------------------------------------------------------------------------------

    def partner_misbehaves_next(self, operation: str, answer: Answer) -> None:
        self.world.partner.answer(operation, answer)

    def partner_moves_the_order(self, status: str) -> None:
        if self.theirs and self.status not in ("done", "cancelled"):
            self.world.partner.set_status(self.theirs, status)

    def caller_creates(self, process: int, failing: bool) -> None:
        with self.world.failing_commits(failing):
            self.answered_create(self.world.run(self.create(process)))

    def caller_cancels(self, process: int, failing: bool) -> None:
        with self.world.failing_commits(failing):
            self.answered_cancel(self.world.run(self.cancel(process)))

    def caller_cancels_under_another_id(self, process: int) -> None:
        self.world.run(self.cancel(process, "1"))

    def caller_asks(self, process: int, failing: bool) -> None:
        with self.world.failing_commits(failing):
            self.world.run(self.ask(process))

    def callers_call_at_once(self, calls: Sequence[tuple[str, int]]) -> None:
        work: dict[str, Callable[[int], Coroutine[Any, Any, Any]]] = {
            "create": self.create,
            "cancel": self.cancel,
            "ask": self.ask,
        }

        async def at_once() -> None:
            await asyncio.gather(*(work[call](process) for call, process in calls))

        self.world.run(at_once())

    def reconciler_looks(self, process: int, failing: bool) -> None:
        self.reconcile(process, failing=failing)

    def process_dies_over_a_call(self, process: int, call: str, done: bool) -> None:
        self.world.partner.forget_answers(call)
        self.world.partner.answer(call, Answer(500, done=done, delay=0.3))
        work = self.create(process) if call == "create" else self.cancel(process)
        self.world.run(self.killed(work, call))
        self.world.partner.forget_answers(call)
        self.world.query("UPDATE orders.partner_order SET claimed_until = now()")  # the lease runs out
        self.processes[process] = Process(self.world, self.partner, self.metrics)

    async def killed(self, work: Coroutine[Any, Any, Any], call: str) -> None:
        """Everything that runs ends in the middle of the call at the partner, or before it."""
        before = self.world.partner.seen[call]
        mine = asyncio.current_task()
        task = asyncio.create_task(work)
        while self.world.partner.seen[call] == before and not task.done():
            await asyncio.wait([task], timeout=0.01)
        running = [other for other in asyncio.all_tasks() if other is not mine]
        for other in running:
            other.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    # --- what must hold -------------------------------------------------------------------------------------------

    def the_partner_has_one_order_at_most(self) -> None:
        assert len(self.world.partner.orders_of(self.order.order_id)) <= 1

    def no_event_is_untrue(self) -> None:
        events = self.events()
        assert len(events) == len(set(events))
        if "accepted" in events:
            assert self.theirs
        if "cancelled" in events:
            assert self.status == "cancelled"
        if "done" in events:
            assert self.status == "done"

    def nothing_is_forgotten(self) -> None:
        for state, watched in self.world.query(
            "SELECT state, next_check_at IS NOT NULL FROM orders.partner_order WHERE order_id = %s",
            self.order.order_id,
        ):
            if self.theirs:
                assert state not in (State.FAILED, State.REJECTED)
            final = state in (State.FAILED, State.REJECTED, State.DONE, State.CANCELLED)
            assert watched != final

    def live(self, steps: Sequence[Step]) -> None:
        """Take the steps, holding what must hold after each."""
        try:
            for name, *arguments in steps:
                getattr(self, name)(*arguments)
                self.the_partner_has_one_order_at_most()
                self.no_event_is_untrue()
                self.nothing_is_forgotten()
            self.everything_comes_right()
        finally:
            for operation in ANSWERS:
                self.world.partner.forget_answers(operation)
            self.world.query("TRUNCATE orders.outbox, orders.partner_order")
            self.world.run(self.partner.__aexit__(None, None, None))

    def everything_comes_right(self) -> None:
        """Once all faults are over, the order and its cancellation have come to exactly one event each."""
        for operation in ANSWERS:
            self.world.partner.forget_answers(operation)
        self.world.query("UPDATE orders.partner_order SET claimed_until = now() WHERE claim IS NOT NULL")
        for _ in range(3):
            self.reconcile(0)
        expected = ["accepted"] if self.theirs else []
        if self.status in ("done", "cancelled"):
            expected.append(self.status)
        assert self.events() == expected
        if self.theirs:
            # A day later nothing is unresolved any more.
            self.world.query("UPDATE orders.partner_order SET check_until = now()")
            self.reconcile(1)
            assert self.state() == (self.status if self.status in ("done", "cancelled") else "accepted")
        else:
            self.world.query("UPDATE orders.partner_order SET check_until = now()")
            self.reconcile(1)
            assert self.state() in (None, "failed", "rejected")

    # --- calls ----------------------------------------------------------------------------------------------------

    @property
    def theirs(self) -> int | None:
        return next(iter(self.world.partner.orders_of(self.order.order_id)), None)

    @property
    def status(self) -> str | None:
        return self.world.partner.status_of(self.theirs) if self.theirs else None

    def events(self) -> list[str]:
        rows = self.world.query(
            "SELECT kind FROM orders.outbox WHERE order_id = %s ORDER BY event_no", self.order.order_id
        )
        return [row[0] for row in rows]

    def state(self) -> str | None:
        rows = self.world.query("SELECT state FROM orders.partner_order WHERE order_id = %s", self.order.order_id)
        return rows[0][0] if rows else None

    async def create(self, process: int) -> Accepted | Refused | None:
        try:
            return await self.processes[process].service.create(self.order)
        except ServiceError:
            return None

    def answered_create(self, answer: Accepted | Refused | None) -> None:
        if isinstance(answer, Accepted):
            assert answer.their_order_id == str(self.theirs)

    async def cancel(self, process: int, theirs: str | None = None) -> str:
        try:
            await self.processes[process].service.cancel(self.order.order_id, theirs or str(self.theirs or 1))
        except (CancelRejected, CancelFailed, ServiceError) as error:
            return type(error).__name__
        return "cancelled"

    def answered_cancel(self, answer: str) -> None:
        if answer == "cancelled":
            assert self.status == "cancelled"
        if answer == "CancelRejected":
            assert self.status != "cancelled"

    async def ask(self, process: int) -> int | None:
        try:
            return (await self.processes[process].service.status(self.order.order_id, None)).status_id
        except (StatusUnavailable, ServiceError):
            return None

    def reconcile(self, process: int, *, failing: bool = False) -> None:
        self.world.query("UPDATE orders.partner_order SET next_check_at = now() WHERE next_check_at IS NOT NULL")
        with self.world.failing_commits(failing):
            self.world.run(self.processes[process].reconciler.look_once())


@pytest.fixture
def world(warehouse_url: str) -> Iterator[World]:
    partner = PartnerApi()
    with running(partner) as partner_url, asyncio.Runner() as runner:
        world = World(warehouse_url, runner, partner, partner_url)
        yield world
        runner.run(world.engine.dispose())
        world.connection.close()


def examine(world: World, seeds: Iterable[int]) -> None:
    for seed in seeds:
        random = Random(seed)
        attempts, first = random.randint(1, 3), random.choice(["accepted", "accepted", "lost", "nothing"])
        steps = [any_step(random) for _ in range(random.randint(3, 12))]
        try:
            OneOrder(world, attempts, first).live(steps)
        except AssertionError as error:
            told = "\n".join(map(repr, steps))
            raise AssertionError(f"seed {seed}, {attempts} attempts, at first {first}, then\n{told}") from error


def test_nothing_is_lost_whatever_happens_to_an_order(world: World) -> None:
    examine(world, range(40))
