"""Celery processes with a real RabbitMQ: from beat to the sender, and recovery from kills of processes and broker."""

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
from sales_assets_tests.services.mailings.worker import (
    FINAL,
    PHONE,
    TEXT,
    TOKEN,
    MailingsEnvironment,
    mailings_environment,
)
from sales_assets_tests.services.partner_orders.fixtures import need_broker, until
from sales_assets_tests.services.partner_orders.rabbitmq_node import RabbitMQNode

pytestmark = pytest.mark.broker


@pytest.fixture(autouse=True)
def _broker() -> None:
    need_broker()


@pytest.fixture
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQNode]:
    """A separate broker, not started yet."""
    node = RabbitMQNode(Path(tmp_path_factory.mktemp("rabbitmq")))
    try:
        yield node
    finally:
        node.kill()


def test_beat_and_worker_send_a_mailing_without_personal_data_in_logs(mailings_env: MailingsEnvironment) -> None:
    mailings_env.clients(300)
    mailing_id = mailings_env.mailing()
    mailings_env.sender.answer(Answer(500), Answer(429, "", {"Retry-After": "1"}), Answer(400, {}), Answer(delay=3))
    worker, beat = mailings_env.worker(), mailings_env.beat()
    statuses = mailings_env.finished(mailing_id)
    assert statuses == {"SENT": 299, "FAILED": 1}
    assert Counter(mailings_env.sender.seen.values()) == {1: 297, 2: 3}
    assert worker.terminate() == 0
    assert beat.terminate() == 0
    # The processes write nothing but logs.
    assert list(worker.folder.iterdir()) == []
    log = mailings_env.log()
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
def test_other_celery_pools_send_each_message_once(mailings_env: MailingsEnvironment, pool: str) -> None:
    mailings_env.clients(100)
    mailing_id = mailings_env.mailing()
    mailings_env.worker(pool)
    mailings_env.beat()
    assert mailings_env.finished(mailing_id) == {"SENT": 100}
    assert set(mailings_env.sender.seen.values()) == {1}


def test_two_worker_processes_send_at_a_rate_slower_than_the_lease(mailings_env: MailingsEnvironment) -> None:
    """The test advances the time by hand: an unused rate slot would cost 50 seconds."""
    mailings_env.clients(3)
    mailing_id = mailings_env.mailing()
    workers = [mailings_env.worker(SENDER_RATE="0.02") for _ in range(2)]
    mailings_env.beat()
    for sent in (1, 2, 3):
        until(partial(_has_sent, mailings_env, sent), seconds=60)
        left = mailings_env.query("SELECT extract(epoch FROM next_at - now())::float8 FROM mailings.send_rate")[0][0]
        assert 20 < left <= 50
        mailings_env.query("UPDATE mailings.send_rate SET next_at = next_at - interval '50 seconds'")
    assert mailings_env.finished(mailing_id) == {"SENT": 3}
    assert list(mailings_env.sender.seen.values()) == [1, 1, 1]
    assert [worker.terminate() for worker in workers] == [0, 0]


def _has_sent(mailings_env: MailingsEnvironment, messages: int) -> bool:
    return mailings_env.statuses()["SENT"] == messages


_ENQUEUE = """
import time
from sales_assets.services.mailings.celery_app import enqueue_planner
while True:
    enqueue_planner()
    time.sleep(0.2)
"""


def test_enqueued_planner_task_starts_a_mailing_without_beat(mailings_env: MailingsEnvironment) -> None:
    mailings_env.clients(10)
    mailings_env.worker()
    mailing_id = mailings_env.mailing()
    # In a separate process, as in the application: Celery reads its configuration once per process. The call is
    # repeated because each has only two seconds to reach the broker, and a busy machine may need more.
    enqueuing = subprocess.Popen([sys.executable, "-c", _ENQUEUE], env=os.environ | mailings_env.environment())
    try:
        assert mailings_env.finished(mailing_id) == {"SENT": 10}
    finally:
        enqueuing.kill()
        enqueuing.wait()


def test_killed_worker_repeats_at_most_the_sends_in_flight(mailings_env: MailingsEnvironment) -> None:
    mailings_env.clients(1500)
    mailing_id = mailings_env.mailing()
    mailings_env.sender.faults = Faults(slow=0.05)
    mailings_env.beat()
    killed_worker = mailings_env.worker(MAILINGS_IN_FLIGHT="30")
    until(lambda: len(mailings_env.sender.seen) > 400)
    killed_worker.kill()
    assert mailings_env.statuses()["Pending"] > 0
    mailings_env.worker()
    assert mailings_env.finished(mailing_id) == {"SENT": 1500}
    assert mailings_env.query("SELECT count(*), count(DISTINCT client_id) FROM mailings.message") == [(1500, 1500)]
    repeats = sum(mailings_env.sender.seen.values()) - 1500
    assert set(mailings_env.sender.seen) == set(range(1, 1501))
    assert 0 <= repeats <= 30
    assert max(mailings_env.sender.seen.values()) <= 2


def test_terminated_worker_finishes_the_sends_in_flight(mailings_env: MailingsEnvironment) -> None:
    mailings_env.clients(2000)
    mailing_id = mailings_env.mailing()
    mailings_env.sender.faults = Faults(slow=0.1)
    mailings_env.beat()
    # A lease longer than any send of a busy machine: a message whose lease has lapsed may be sent again.
    worker = mailings_env.worker(MAILINGS_LEASE_SECONDS="60")
    until(lambda: len(mailings_env.sender.seen) > 200)
    assert worker.terminate() == 0
    assert mailings_env.query("SELECT count(*) FROM mailings.message WHERE claim IS NOT NULL") == [(0,)]
    assert mailings_env.statuses()["SENT"] == sum(mailings_env.sender.sent.values()) < 2000
    mailings_env.sender.faults = Faults()
    mailings_env.worker()
    assert mailings_env.finished(mailing_id) == {"SENT": 2000}
    assert set(mailings_env.sender.seen.values()) == {1}


def test_mailing_survives_a_late_start_and_a_kill_of_the_broker(
    warehouse_url: str, tmp_path: Path, node: RabbitMQNode
) -> None:
    with mailings_environment(warehouse_url, tmp_path / "post", broker_url=node.url) as mailings_env:
        mailings_env.clients(1000)
        mailing_id = mailings_env.mailing()
        worker = mailings_env.worker(ready=False)
        mailings_env.beat()
        until(lambda: "Cannot connect" in worker.log(), seconds=60)
        mailings_env.sender.faults = Faults(slow=0.05)
        node.start()
        until(lambda: len(mailings_env.sender.seen) > 300, seconds=90)
        node.kill()
        node.start()
        assert mailings_env.finished(mailing_id, seconds=120) == {"SENT": 1000}
        # The death of the broker neither stops nor repeats a send.
        assert set(mailings_env.sender.seen.values()) == {1}
        assert worker.is_running()


@pytest.mark.parametrize("end_offset", [3600, 8])
def test_mailing_that_starts_during_a_downtime(mailings_env: MailingsEnvironment, end_offset: int) -> None:
    """Workers started before the end send every message; workers started later send none, and all become TIMEOUT."""
    mailings_env.clients(50)
    mailing_id = mailings_env.mailing(start_offset=-3600, end_offset=end_offset)
    if end_offset < 60:
        until(lambda: mailings_env.query("SELECT end_time < now() FROM mailings.mailing") == [(True,)])
    mailings_env.worker()
    mailings_env.beat()
    assert mailings_env.finished(mailing_id) == ({"SENT": 50} if end_offset > 60 else {"TIMEOUT": 50})
    assert len(mailings_env.sender.seen) == (50 if end_offset > 60 else 0)


def test_failing_sender_is_tried_five_times_with_real_pauses(mailings_env: MailingsEnvironment) -> None:
    mailings_env.clients(20)
    mailing_id = mailings_env.mailing()
    mailings_env.sender.faults = Faults(server_error=1)
    mailings_env.worker()
    mailings_env.beat()
    assert mailings_env.finished(mailing_id) == {"FAILED": 20}
    assert set(mailings_env.sender.seen.values()) == {5}
    first = min(arrival.at for arrival in mailings_env.sender.arrivals)
    assert max(arrival.at for arrival in mailings_env.sender.arrivals) - first > 0.3


def test_pause_resume_and_delete_through_workers(mailings_env: MailingsEnvironment) -> None:
    mailings_env.clients(800)
    paused, deleted = mailings_env.mailing(), mailings_env.mailing()
    mailings_env.sender.faults = Faults(slow=0.1)
    mailings_env.worker(MAILINGS_IN_FLIGHT="20")
    mailings_env.beat()
    until(lambda: mailings_env.statuses(paused)["SENT"] > 20 and mailings_env.statuses(deleted)["SENT"] > 20)
    mailings_env.query("UPDATE mailings.mailing SET paused_at = now() WHERE mailing_id = %s", paused)
    mailings_env.query("UPDATE mailings.mailing SET deleted_at = now() WHERE mailing_id = %s", deleted)
    sent = sum(mailings_env.sender.seen.values())
    until(lambda: mailings_env.state(deleted) == "finished")
    assert mailings_env.statuses(deleted).keys() == {"SENT", "FAILED"}
    assert sum(mailings_env.sender.seen.values()) <= sent + 20
    assert mailings_env.statuses(paused)["Pending"] > 0
    mailings_env.sender.faults = Faults()
    mailings_env.query("UPDATE mailings.mailing SET paused_at = NULL WHERE mailing_id = %s", paused)
    assert mailings_env.finished(paused) == {"SENT": 800}


def test_tasks_do_not_accumulate_while_the_worker_is_busy(mailings_env: MailingsEnvironment) -> None:
    """Slow sends keep the only worker busy while beat goes on enqueueing planner tasks."""
    mailings_env.clients(1)
    for _ in range(40):
        mailings_env.mailing()
    worker = mailings_env.worker("solo")
    mailings_env.sender.faults = Faults(slow=1)
    beat = mailings_env.beat()
    until(lambda: len(mailings_env.sender.seen) >= 1)
    assert mailings_env.waiting() <= 100
    mailings_env.sender.faults = Faults()
    until(lambda: mailings_env.query(FINAL) == [(0,)] and len(mailings_env.statuses()) > 0)
    until(lambda: mailings_env.waiting() == 0)
    assert mailings_env.sender.sent.total() == 40
    assert beat.is_running()
    assert worker.is_running()


def test_worker_exposes_prometheus_metrics(mailings_env: MailingsEnvironment) -> None:
    mailings_env.clients(10)
    mailing_id = mailings_env.mailing()
    port = _free_port()
    worker = mailings_env.worker(MAILINGS_METRICS_PORT=str(port))
    mailings_env.beat()
    mailings_env.finished(mailing_id)
    assert worker.listens() == {f"127.0.0.1:{port}"}
    text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text
    assert re.search(r'^mailings_send_seconds_count\{outcome="sent"\} 10\.0$', text, re.MULTILINE)
    assert re.search(r'^mailings_settled_total\{status="SENT"\} 10\.0$', text, re.MULTILINE)


def test_invalid_setting_ends_the_worker_with_a_clear_error(mailings_env: MailingsEnvironment) -> None:
    worker = mailings_env.worker(ready=False, SENDER_RATE="fast")
    until(lambda: not worker.is_running())
    assert "error: SENDER_RATE: Input should be a valid number" in worker.log()
    assert "Traceback" not in worker.log()


def test_missing_schema_ends_the_worker_with_a_clear_error(mailings_env: MailingsEnvironment) -> None:
    mailings_env.query("DROP SCHEMA mailings CASCADE")
    worker = mailings_env.worker(ready=False)
    until(lambda: not worker.is_running())
    assert "run `sales-assets migrate`" in worker.log()
    assert "Traceback" not in worker.log()


def test_without_a_configured_sender_nothing_is_sent(mailings_env: MailingsEnvironment) -> None:
    mailings_env.clients(3)
    mailing_id = mailings_env.mailing()
    worker = mailings_env.worker(SENDER_URL="")
    mailings_env.beat()
    until(lambda: mailings_env.statuses(mailing_id) == {"Pending": 3})
    assert worker.events("SENDER_URL is not set, nothing will be sent")
    mailings_env.query("UPDATE mailings.mailing SET end_time = now()")
    assert mailings_env.finished(mailing_id) == {"TIMEOUT": 3}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
