"""Planner with a real database: recipients, start and end of mailings, and concurrent planners."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from sales_assets_tests.services.mailings.worker import MailingsEnvironment, planner

COUNTS = "SELECT status, sum(change) FROM mailings.message_count GROUP BY 1 HAVING sum(change) <> 0 ORDER BY 1"
ROWS = "SELECT status, count(*) FROM mailings.message GROUP BY 1 ORDER BY 1"


def test_a_due_mailing_gets_a_message_per_client(mailings_env: MailingsEnvironment) -> None:
    mailings_env.clients(3)
    mailing_id = mailings_env.mailing()
    assert mailings_env.plan() == [mailing_id] * 4
    assert mailings_env.state(mailing_id) == "running"
    assert mailings_env.statuses(mailing_id) == {"Pending": 3}
    assert mailings_env.query("SELECT count(*) FROM mailings.message WHERE next_attempt_at > now()") == [(0,)]


def test_filters_are_combined_with_and_and_include_tags_from_the_mart(mailings_env: MailingsEnvironment) -> None:
    mailings_env.clients(1, operator_code="901", tag="VIP")
    mailings_env.clients(1, operator_code="901")
    mailings_env.clients(1, operator_code="902", tag="VIP")
    mailings_env.query("INSERT INTO mailings.client_tag (client_id, tag) VALUES (2, 'refunded')")
    expected = {(None, None): [1, 2, 3], ("901", None): [1, 2], (None, "VIP"): [1, 3], ("901", "VIP"): [1],
                ("901", "refunded"): [2], ("902", "refunded"): [], ("90", None): []}  # fmt: skip
    mailings = {mailings_env.mailing(operator_code=code, tag=tag): clients for (code, tag), clients in expected.items()}
    mailings_env.plan()
    found: dict[int, list[int]] = {mailing_id: [] for mailing_id in mailings}
    for mailing_id, client_id in mailings_env.query("SELECT mailing_id, client_id FROM mailings.message ORDER BY 1, 2"):
        found[mailing_id].append(client_id)
    assert found == mailings


def test_recipients_are_fixed_at_the_start(mailings_env: MailingsEnvironment) -> None:
    mailings_env.clients(2)
    mailing_id = mailings_env.mailing()
    mailings_env.plan()
    mailings_env.clients(2)
    mailings_env.plan()
    assert mailings_env.statuses(mailing_id) == {"Pending": 2}


def test_future_paused_and_deleted_mailings_do_not_start(mailings_env: MailingsEnvironment) -> None:
    mailings_env.clients(1)
    mailings = [mailings_env.mailing(start_offset=60), mailings_env.mailing(), mailings_env.mailing()]
    mailings_env.query("UPDATE mailings.mailing SET paused_at = now() WHERE mailing_id = %s", mailings[1])
    mailings_env.query("UPDATE mailings.mailing SET deleted_at = now() WHERE mailing_id = %s", mailings[2])
    assert mailings_env.plan() == []
    assert [mailings_env.state(mailing_id) for mailing_id in mailings] == ["scheduled"] * 3
    mailings_env.query("UPDATE mailings.mailing SET paused_at = NULL WHERE mailing_id = %s", mailings[1])
    assert set(mailings_env.plan()) == {mailings[1]}


def test_mailing_without_recipients_is_finished_at_once(mailings_env: MailingsEnvironment) -> None:
    mailing_id = mailings_env.mailing()
    assert mailings_env.plan() == []
    assert mailings_env.state(mailing_id) == "finished"


@pytest.mark.parametrize("paused", [False, True])
def test_mailing_missed_during_a_downtime_times_out(mailings_env: MailingsEnvironment, paused: bool) -> None:
    mailings_env.clients(3)
    mailing_id = mailings_env.mailing(start_offset=-60, end_offset=-1)
    if paused:
        mailings_env.query("UPDATE mailings.mailing SET paused_at = now()")
    assert mailings_env.plan() == []
    assert (mailings_env.state(mailing_id), mailings_env.statuses(mailing_id)) == ("finished", {"TIMEOUT": 3})
    assert mailings_env.query(COUNTS) == [("TIMEOUT", 3)]


def test_concurrent_planners_create_each_message_once(mailings_env: MailingsEnvironment) -> None:
    mailings_env.clients(500)
    mailings = [mailings_env.mailing() for _ in range(10)]
    with ThreadPoolExecutor(4) as pool:
        planned = [mailing_id for found in pool.map(lambda _: mailings_env.plan(), range(4)) for mailing_id in found]
    assert mailings_env.query("SELECT count(*), count(DISTINCT (mailing_id, client_id)) FROM mailings.message") == [
        (5000, 5000)
    ]
    assert sorted(planned) == sorted(mailings * 4)


def test_planner_killed_while_creating_messages_leaves_no_changes(mailings_env: MailingsEnvironment) -> None:
    mailings_env.clients(3)
    mailing_id = mailings_env.mailing()

    async def half() -> None:
        async with planner(mailings_env) as one, one._messages.transaction() as messages:
            await messages.rows_within("start")
            raise ConnectionError("killed between the two statements")

    with pytest.raises(ConnectionError):
        asyncio.run(half())
    assert (mailings_env.state(mailing_id), mailings_env.statuses()) == ("scheduled", {})
    mailings_env.plan()
    assert mailings_env.statuses(mailing_id) == {"Pending": 3}


def test_planner_skips_a_mailing_locked_by_a_change(mailings_env: MailingsEnvironment) -> None:
    mailings_env.clients(1)
    mailing_id = mailings_env.mailing()
    with psycopg.connect(mailings_env.database_url) as connection:
        connection.execute("SELECT FROM mailings.mailing FOR UPDATE")
        mailings_env.plan()
        connection.execute("UPDATE mailings.mailing SET start_time = now() + interval '1 minute'")
    mailings_env.plan()
    assert mailings_env.state(mailing_id) == "scheduled"


def test_messages_claimed_at_the_end_are_left_to_the_worker_for_one_send(mailings_env: MailingsEnvironment) -> None:
    mailings_env.clients(3)
    mailing_id = mailings_env.mailing(start_offset=-60, end_offset=60)
    mailings_env.plan()
    # Client 1 is claimed by a worker, client 2 by a worker that died, client 3 waits for its next attempt.
    mailings_env.query(
        "UPDATE mailings.message SET claim = CASE WHEN client_id < 3 THEN 'w' END,"
        " next_attempt_at = now() + CASE client_id WHEN 2 THEN interval '-1 second' ELSE interval '1 minute' END"
    )
    mailings_env.query("UPDATE mailings.mailing SET end_time = now()")
    mailings_env.plan()
    assert mailings_env.statuses(mailing_id) == {"Pending": 1, "TIMEOUT": 2}
    assert mailings_env.state(mailing_id) == "running"
    mailings_env.query("UPDATE mailings.mailing SET end_time = now() - interval '7 seconds'")  # one second per send
    mailings_env.plan()
    assert (mailings_env.state(mailing_id), mailings_env.statuses(mailing_id)) == ("finished", {"TIMEOUT": 3})


def test_messages_of_a_deleted_mailing_claimed_by_a_dead_worker_fail_after_the_lease(
    mailings_env: MailingsEnvironment,
) -> None:
    mailings_env.clients(2)
    mailing_id = mailings_env.mailing()
    mailings_env.plan()
    mailings_env.query("UPDATE mailings.mailing SET deleted_at = now()")
    mailings_env.query(
        "UPDATE mailings.message SET claim = 'w', next_attempt_at = now() + interval '1 minute' WHERE client_id = 1"
    )
    mailings_env.plan()
    assert mailings_env.statuses(mailing_id) == {"FAILED": 1, "Pending": 1}
    mailings_env.query("UPDATE mailings.message SET next_attempt_at = now() WHERE client_id = 1")
    mailings_env.plan()
    assert (mailings_env.state(mailing_id), mailings_env.statuses(mailing_id)) == ("finished", {"FAILED": 2})


def test_compacting_message_counts_keeps_the_totals(mailings_env: MailingsEnvironment) -> None:
    mailings_env.clients(30)
    mailing_id = mailings_env.mailing()
    mailings_env.plan()
    for client_id in range(1, 21):
        mailings_env.query(
            "UPDATE mailings.message SET status = 'SENT', finished_at = now() WHERE client_id = %s", client_id
        )
    assert mailings_env.query("SELECT count(*) > 20 FROM mailings.message_count") == [(True,)]
    mailings_env.plan()
    assert mailings_env.query("SELECT count(*) FROM mailings.message_count") == [(2,)]
    assert mailings_env.query(COUNTS) == mailings_env.query(ROWS) == [("Pending", 10), ("SENT", 20)]
    assert mailings_env.state(mailing_id) == "running"


def test_tasks_are_requested_once_and_again_after_ten_seconds(mailings_env: MailingsEnvironment) -> None:
    mailings_env.clients(1)
    mailing_id = mailings_env.mailing()
    assert mailings_env.plan() == [mailing_id] * 4
    assert mailings_env.plan() == []
    mailings_env.query("UPDATE mailings.mailing SET asked_at = now() - interval '5 seconds'")
    assert mailings_env.plan() == []
    # The earlier tasks were lost.
    mailings_env.query("UPDATE mailings.mailing SET asked_at = now() - interval '11 seconds'")
    assert mailings_env.plan() == [mailing_id] * 4


def test_queue_without_workers_does_not_grow(mailings_env: MailingsEnvironment) -> None:
    mailings_env.clients(1)
    for _ in range(3):
        mailings_env.mailing()
    assert mailings_env.plan(waiting=100) == mailings_env.plan(waiting=97) == []
    assert len(set(mailings_env.plan(waiting=96))) == 1
    assert len(set(mailings_env.plan(waiting=92))) == 2
    assert mailings_env.plan() == []


def test_without_a_sender_mailings_start_and_no_task_is_enqueued(mailings_env: MailingsEnvironment) -> None:
    mailings_env.clients(1)
    mailing_id = mailings_env.mailing()

    async def plan() -> list[int]:
        async with planner(mailings_env, can_send=False) as one:
            await one.plan()
            return await one.dispatch_tasks(0)

    assert asyncio.run(plan()) == []
    assert mailings_env.state(mailing_id) == "running"
    assert mailings_env.plan() == [mailing_id] * 4
