"""Kills of workers, beat and broker while 5 000 messages are sent: every message ends, with few repeated sends.

A killed worker may repeat at most its sends in flight.
"""

import random
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from sales_assets.simulators.sender_api import Faults
from sales_assets_tests.services.mailings.worker import MailingsEnvironment, mailings_environment
from sales_assets_tests.services.partner_orders.fixtures import until
from sales_assets_tests.services.partner_orders.rabbitmq_node import RabbitMQNode

pytestmark = [pytest.mark.torture, pytest.mark.broker, pytest.mark.timeout(1500)]

_MESSAGES = 5000
_IN_FLIGHT = 20


@pytest.fixture
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQNode]:
    node = RabbitMQNode(Path(tmp_path_factory.mktemp("rabbitmq")))
    try:
        node.start()
        yield node
    finally:
        node.kill()


@pytest.fixture
def mailings_env(warehouse_url: str, tmp_path: Path, node: RabbitMQNode) -> Iterator[MailingsEnvironment]:
    settings = {"MAILINGS_IN_FLIGHT": str(_IN_FLIGHT), "SENDER_TIMEOUT": "5", "SENDER_RATE": "100"}
    with mailings_environment(warehouse_url, tmp_path / "post", broker_url=node.url, **settings) as mailings_env:
        yield mailings_env


def test_five_thousand_messages_survive_kills_of_workers_beat_and_broker(
    mailings_env: MailingsEnvironment, node: RabbitMQNode
) -> None:
    mailings_env.clients(_MESSAGES)
    mailing_id = mailings_env.mailing()
    mailings_env.sender.faults = Faults(slow=0.05)
    kills = Counter[str]()
    stop = threading.Event()

    def keep_killing_a_worker() -> None:
        while not stop.is_set():
            worker = mailings_env.worker(ready=False)
            before = len(mailings_env.sender.seen)
            # Kill in the middle of sending: the worker must be ready, and messages must be left; other workers send
            # too.
            until(
                lambda worker=worker, before=before: (  # type: ignore[misc]
                    stop.is_set() or ("worker ready" in worker.log() and len(mailings_env.sender.seen) > before + 150)
                ),
                seconds=300,
            )
            stop.wait(random.uniform(0, 2))
            worker.kill()
            kills["worker"] += 1

    def keep_killing_the_broker() -> None:
        while not stop.wait(random.uniform(10, 20)):
            node.kill()
            kills["broker"] += 1
            node.start()

    def keep_killing_beat() -> None:
        while not stop.is_set():
            beat = mailings_env.beat()
            stop.wait(random.uniform(8, 12))
            beat.kill()
            kills["beat"] += 1

    jobs = (keep_killing_a_worker, keep_killing_a_worker, keep_killing_the_broker, keep_killing_beat)
    killers = [threading.Thread(target=job) for job in jobs]
    for killer in killers:
        killer.start()
    try:
        until(lambda: len(mailings_env.sender.seen) > _MESSAGES * 0.6, seconds=600)
    finally:
        stop.set()
        for killer in killers:
            killer.join()
    mailings_env.worker()
    mailings_env.beat()
    statuses = mailings_env.finished(mailing_id, seconds=600)
    repeats = sum(mailings_env.sender.seen.values()) - len(mailings_env.sender.seen)
    print(f"\nkills: {dict(kills)}; {dict(statuses)}; {repeats} repeated sends")  # noqa: T201  figures, seen with -s
    assert statuses == {"SENT": _MESSAGES}
    assert set(mailings_env.sender.seen) == set(range(1, _MESSAGES + 1))
    assert repeats <= kills["worker"] * _IN_FLIGHT
    assert kills["worker"] >= 3
    assert kills["broker"] >= 2
    assert mailings_env.query("SELECT count(*), count(DISTINCT client_id) FROM mailings.message") == [
        (_MESSAGES, _MESSAGES)
    ]


def test_every_message_ends_with_a_sender_that_has_every_fault(mailings_env: MailingsEnvironment) -> None:
    mailings_env.clients(2000)
    mailing_id = mailings_env.mailing()
    mailings_env.sender.faults = Faults(
        seed=1, server_error=0.1, too_many=0.1, html=0.05, refused=0.05, lost=0.05, slow=0.01
    )
    for _ in range(2):
        mailings_env.worker(SENDER_RATE="0")
    mailings_env.beat()
    statuses = mailings_env.finished(mailing_id, seconds=900)
    attempts = Counter(mailings_env.sender.seen.values())
    print(f"\n{dict(statuses)}; messages by attempts: {sorted(attempts.items())}")  # noqa: T201  figures, seen with -s
    assert statuses.total() == 2000
    assert statuses.keys() <= {"SENT", "FAILED"}
    assert max(attempts) <= 5
    # A third of the attempts fail, so about four in a thousand messages fail five times.
    assert statuses["FAILED"] < 40
    assert (
        sum(mailings_env.sender.seen.values()) == mailings_env.query("SELECT sum(attempts) FROM mailings.message")[0][0]
    )
