"""Celery's own processes on a real RabbitMQ: from beat to the sender, and what is left when parts are killed."""

import os
import re
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import requests

from sales_assets.simulators.sender_api import Answer, Faults
from sales_assets_tests.services.mailings.worker import FINAL, PHONE, TEXT, TOKEN, Post, post_office
from sales_assets_tests.services.partner_orders.fixtures import need_broker, until
from sales_assets_tests.services.partner_orders.rabbitmq_node import RabbitMQNode

pytestmark = pytest.mark.broker


@pytest.fixture(autouse=True)
def _broker() -> None:
    need_broker()


@pytest.fixture
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQNode]:
    """A broker of the test's own, not started yet."""
    node = RabbitMQNode(Path(tmp_path_factory.mktemp("rabbitmq")))
    try:
        yield node
    finally:
        node.kill()


def test_from_beat_to_the_sender_and_no_log_knows_a_person(post: Post) -> None:
    post.clients(300)
    mailing_id = post.mailing()
    post.sender.answer(Answer(500), Answer(429, "", {"Retry-After": "1"}), Answer(400, {}), Answer(delay=3))
    worker, beat = post.worker(), post.beat()
    statuses = post.finished(mailing_id)
    assert statuses == {"SENT": 299, "FAILED": 1}
    assert Counter(post.sender.seen.values()) == {1: 297, 2: 3}
    assert worker.terminate() == 0
    assert beat.terminate() == 0
    # Nothing is written but logs.
    assert list(worker.folder.iterdir()) == []
    log = post.log()
    assert PHONE.search("to 79000000001")
    assert not PHONE.search(log)
    assert TEXT not in log
    assert TOKEN not in log
    assert {event["reason"] for event in worker.events("send failed")} == {
        "http_500",
        "http_429",
        "http_400",
        "timeout",
    }
    assert all({"mailing_id", "message_id", "client_id"} <= event.keys() for event in worker.events("send failed"))


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_other_pools_do_it_as_well(post: Post, pool: str) -> None:
    post.clients(100)
    mailing_id = post.mailing()
    post.worker(pool)
    post.beat()
    assert post.finished(mailing_id) == {"SENT": 100}
    assert set(post.sender.seen.values()) == {1}


def test_two_workers_send_at_a_rate_that_is_slower_than_the_lease(post: Post) -> None:
    """Time is moved on by hand: a turn that were taken for nothing would cost 50 seconds."""
    post.clients(3)
    mailing_id = post.mailing()
    workers = [post.worker(SENDER_RATE="0.02") for _ in range(2)]
    post.beat()
    for sent in (1, 2, 3):
        until(partial(_has_sent, post, sent), seconds=60)
        left = post.query("SELECT extract(epoch FROM next_at - now())::float8 FROM mailings.send_rate")[0][0]
        assert 20 < left <= 50
        post.query("UPDATE mailings.send_rate SET next_at = next_at - interval '50 seconds'")
    assert post.finished(mailing_id) == {"SENT": 3}
    assert list(post.sender.seen.values()) == [1, 1, 1]
    assert [worker.terminate() for worker in workers] == [0, 0]


def _has_sent(post: Post, messages: int) -> bool:
    return post.statuses()["SENT"] == messages


_KICK = """
import time
from sales_assets.services.mailings.celery_app import kick
while True:
    kick()
    time.sleep(0.2)
"""


def test_a_kick_begins_a_mailing_without_beat(post: Post) -> None:
    post.clients(10)
    post.worker()
    mailing_id = post.mailing()
    # In a process of its own, as the application is: Celery reads its configuration once per process. Again and again:
    # each has two seconds to reach the broker, and a busy machine may need more.
    kicking = subprocess.Popen([sys.executable, "-c", _KICK], env=os.environ | post.environment())
    try:
        assert post.finished(mailing_id) == {"SENT": 10}
    finally:
        kicking.kill()
        kicking.wait()


def test_a_worker_killed_in_the_middle_repeats_at_most_what_was_in_flight(post: Post) -> None:
    post.clients(1500)
    mailing_id = post.mailing()
    post.sender.faults = Faults(slow=0.05)
    post.beat()
    victim = post.worker(MAILINGS_IN_FLIGHT="30")
    until(lambda: len(post.sender.seen) > 400)
    victim.kill()
    assert post.statuses()["Pending"] > 0
    post.worker()
    assert post.finished(mailing_id) == {"SENT": 1500}
    assert post.query("SELECT count(*), count(DISTINCT client_id) FROM mailings.message") == [(1500, 1500)]
    repeats = sum(post.sender.seen.values()) - 1500
    assert set(post.sender.seen) == set(range(1, 1501))
    assert 0 <= repeats <= 30
    assert max(post.sender.seen.values()) <= 2


def test_a_worker_that_is_asked_to_end_finishes_what_is_in_flight(post: Post) -> None:
    post.clients(2000)
    mailing_id = post.mailing()
    post.sender.faults = Faults(slow=0.1)
    post.beat()
    # A lease that outlasts any send of a busy machine: a message of a lapsed one may rightly be sent again.
    worker = post.worker(MAILINGS_LEASE_SECONDS="60")
    until(lambda: len(post.sender.seen) > 200)
    assert worker.terminate() == 0
    assert post.query("SELECT count(*) FROM mailings.message WHERE claim IS NOT NULL") == [(0,)]
    assert post.statuses()["SENT"] == sum(post.sender.sent.values()) < 2000
    post.sender.faults = Faults()
    post.worker()
    assert post.finished(mailing_id) == {"SENT": 2000}
    assert set(post.sender.seen.values()) == {1}


def test_a_broker_that_is_down_at_first_and_killed_later(
    warehouse_url: str, tmp_path: Path, node: RabbitMQNode
) -> None:
    with post_office(warehouse_url, tmp_path / "post", broker_url=node.url) as post:
        post.clients(1000)
        mailing_id = post.mailing()
        worker = post.worker(ready=False)
        post.beat()
        until(lambda: "Cannot connect" in worker.log(), seconds=60)
        post.sender.faults = Faults(slow=0.05)
        node.start()
        until(lambda: len(post.sender.seen) > 300, seconds=90)
        node.kill()
        node.start()
        assert post.finished(mailing_id, seconds=120) == {"SENT": 1000}
        # The broker's death stops no send, and repeats none.
        assert set(post.sender.seen.values()) == {1}
        assert worker.is_running()


@pytest.mark.parametrize("ends", [3600, 8])
def test_down_over_the_start(post: Post, ends: int) -> None:
    """Back before the end the rest is sent; after it nothing is, and the rows say so."""
    post.clients(50)
    mailing_id = post.mailing(begins=-3600, ends=ends)
    if ends < 60:
        until(lambda: post.query("SELECT end_time < now() FROM mailings.mailing") == [(True,)])
    post.worker()
    post.beat()
    assert post.finished(mailing_id) == ({"SENT": 50} if ends > 60 else {"TIMEOUT": 50})
    assert len(post.sender.seen) == (50 if ends > 60 else 0)


def test_a_sender_in_trouble_costs_five_attempts_over_real_pauses(post: Post) -> None:
    post.clients(20)
    mailing_id = post.mailing()
    post.sender.faults = Faults(server_error=1)
    post.worker()
    post.beat()
    assert post.finished(mailing_id) == {"FAILED": 20}
    assert set(post.sender.seen.values()) == {5}
    first = min(told.at for told in post.sender.arrivals)
    assert max(told.at for told in post.sender.arrivals) - first > 0.3


def test_pause_resume_and_delete_through_workers(post: Post) -> None:
    post.clients(800)
    paused, deleted = post.mailing(), post.mailing()
    post.sender.faults = Faults(slow=0.1)
    post.worker(MAILINGS_IN_FLIGHT="20")
    post.beat()
    until(lambda: post.statuses(paused)["SENT"] > 20 and post.statuses(deleted)["SENT"] > 20)
    post.query("UPDATE mailings.mailing SET paused_at = now() WHERE mailing_id = %s", paused)
    post.query("UPDATE mailings.mailing SET deleted_at = now() WHERE mailing_id = %s", deleted)
    sent = sum(post.sender.seen.values())
    until(lambda: post.state(deleted) == "finished")
    assert post.statuses(deleted).keys() == {"SENT", "FAILED"}
    assert sum(post.sender.seen.values()) <= sent + 20
    assert post.statuses(paused)["Pending"] > 0
    post.sender.faults = Faults()
    post.query("UPDATE mailings.mailing SET paused_at = NULL WHERE mailing_id = %s", paused)
    assert post.finished(paused) == {"SENT": 800}


def test_tasks_do_not_pile_up_while_no_worker_takes_them(post: Post) -> None:
    """A worker that plans and cannot dispatch: the planner is called by the test, as beat would have it."""
    post.clients(1)
    for _ in range(40):
        post.mailing()
    worker = post.worker("solo")
    post.sender.faults = Faults(slow=1)
    beat = post.beat()
    until(lambda: len(post.sender.seen) >= 1)
    assert post.waiting() <= 100
    post.sender.faults = Faults()
    until(lambda: post.query(FINAL) == [(0,)] and len(post.statuses()) > 0)
    until(lambda: post.waiting() == 0)
    assert post.sender.sent.total() == 40
    assert beat.is_running()
    assert worker.is_running()


def test_the_worker_tells_prometheus(post: Post) -> None:
    post.clients(10)
    mailing_id = post.mailing()
    port = _free_port()
    worker = post.worker(MAILINGS_METRICS_PORT=str(port))
    post.beat()
    post.finished(mailing_id)
    assert worker.listens() == {f"127.0.0.1:{port}"}
    text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text
    assert re.search(r'^mailings_send_seconds_count\{outcome="sent"\} 10\.0$', text, re.MULTILINE)
    assert re.search(r'^mailings_settled_total\{status="SENT"\} 10\.0$', text, re.MULTILINE)


def test_a_setting_that_is_wrong_ends_it_with_a_clear_word(post: Post) -> None:
    worker = post.worker(ready=False, SENDER_RATE="fast")
    until(lambda: not worker.is_running())
    assert "error: SENDER_RATE: Input should be a valid number" in worker.log()
    assert "Traceback" not in worker.log()


def test_a_database_without_the_schema_ends_it_with_a_clear_word(post: Post) -> None:
    post.query("DROP SCHEMA mailings CASCADE")
    worker = post.worker(ready=False)
    until(lambda: not worker.is_running())
    assert "run `sales-assets migrate`" in worker.log()
    assert "Traceback" not in worker.log()


def test_no_sender_is_no_send(post: Post) -> None:
    post.clients(3)
    mailing_id = post.mailing()
    worker = post.worker(SENDER_URL="")
    post.beat()
    until(lambda: post.statuses(mailing_id) == {"Pending": 3})
    assert worker.events("SENDER_URL is not set, nothing will be sent")
    post.query("UPDATE mailings.mailing SET end_time = now()")
    assert post.finished(mailing_id) == {"TIMEOUT": 3}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
