"""The planner on the real database: who receives a mailing, when it begins and ends, and what two of them do."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from sales_assets_tests.services.mailings.worker import Post, planner

COUNTS = "SELECT status, sum(change) FROM mailings.message_count GROUP BY 1 HAVING sum(change) <> 0 ORDER BY 1"
ROWS = "SELECT status, count(*) FROM mailings.message GROUP BY 1 ORDER BY 1"


def test_a_due_mailing_gets_a_message_per_client(post: Post) -> None:
    post.clients(3)
    mailing_id = post.mailing()
    assert post.plan() == [mailing_id] * 4
    assert post.state(mailing_id) == "running"
    assert post.statuses(mailing_id) == {"Pending": 3}
    assert post.query("SELECT count(*) FROM mailings.message WHERE next_attempt_at > now()") == [(0,)]


def test_filters_are_anded_and_a_tag_of_the_marts_counts_like_the_clients_own(post: Post) -> None:
    post.clients(1, operator_code="901", tag="VIP")
    post.clients(1, operator_code="901")
    post.clients(1, operator_code="902", tag="VIP")
    post.query("INSERT INTO mailings.client_tag (client_id, tag) VALUES (2, 'refunded')")
    expected = {(None, None): [1, 2, 3], ("901", None): [1, 2], (None, "VIP"): [1, 3], ("901", "VIP"): [1],
                ("901", "refunded"): [2], ("902", "refunded"): [], ("90", None): []}  # fmt: skip
    mailings = {post.mailing(operator_code=code, tag=tag): clients for (code, tag), clients in expected.items()}
    post.plan()
    found: dict[int, list[int]] = {mailing_id: [] for mailing_id in mailings}
    for mailing_id, client_id in post.query("SELECT mailing_id, client_id FROM mailings.message ORDER BY 1, 2"):
        found[mailing_id].append(client_id)
    assert found == mailings


def test_recipients_are_fixed_at_the_start(post: Post) -> None:
    post.clients(2)
    mailing_id = post.mailing()
    post.plan()
    post.clients(2)
    post.plan()
    assert post.statuses(mailing_id) == {"Pending": 2}


def test_what_is_not_due_paused_or_deleted_does_not_begin(post: Post) -> None:
    post.clients(1)
    mailings = [post.mailing(begins=60), post.mailing(), post.mailing()]
    post.query("UPDATE mailings.mailing SET paused_at = now() WHERE mailing_id = %s", mailings[1])
    post.query("UPDATE mailings.mailing SET deleted_at = now() WHERE mailing_id = %s", mailings[2])
    assert post.plan() == []
    assert [post.state(mailing_id) for mailing_id in mailings] == ["scheduled"] * 3
    post.query("UPDATE mailings.mailing SET paused_at = NULL WHERE mailing_id = %s", mailings[1])
    assert set(post.plan()) == {mailings[1]}


def test_a_mailing_to_nobody_is_finished(post: Post) -> None:
    mailing_id = post.mailing()
    assert post.plan() == []
    assert post.state(mailing_id) == "finished"


@pytest.mark.parametrize("paused", [False, True])
def test_down_over_the_whole_mailing_sends_nothing_and_says_so(post: Post, paused: bool) -> None:
    post.clients(3)
    mailing_id = post.mailing(begins=-60, ends=-1)
    if paused:
        post.query("UPDATE mailings.mailing SET paused_at = now()")
    assert post.plan() == []
    assert (post.state(mailing_id), post.statuses(mailing_id)) == ("finished", {"TIMEOUT": 3})
    assert post.query(COUNTS) == [("TIMEOUT", 3)]


def test_two_planners_make_one_list(post: Post) -> None:
    post.clients(500)
    mailings = [post.mailing() for _ in range(10)]
    with ThreadPoolExecutor(4) as pool:
        asked = [mailing_id for found in pool.map(lambda _: post.plan(), range(4)) for mailing_id in found]
    assert post.query("SELECT count(*), count(DISTINCT (mailing_id, client_id)) FROM mailings.message") == [
        (5000, 5000)
    ]
    assert sorted(asked) == sorted(mailings * 4)


def test_a_planner_that_dies_over_the_list_leaves_nothing(post: Post) -> None:
    post.clients(3)
    mailing_id = post.mailing()

    async def half() -> None:
        async with planner(post) as one, one._messages.transaction() as messages:
            await messages.rows_within("start")
            raise ConnectionError("killed between the two statements")

    with pytest.raises(ConnectionError):
        asyncio.run(half())
    assert (post.state(mailing_id), post.statuses()) == ("scheduled", {})
    post.plan()
    assert post.statuses(mailing_id) == {"Pending": 3}


def test_whoever_holds_the_row_decides_whether_it_begins(post: Post) -> None:
    post.clients(1)
    mailing_id = post.mailing()
    with psycopg.connect(post.database_url) as connection:
        connection.execute("SELECT FROM mailings.mailing FOR UPDATE")
        post.plan()
        connection.execute("UPDATE mailings.mailing SET start_time = now() + interval '1 minute'")
    post.plan()
    assert post.state(mailing_id) == "scheduled"


def test_the_end_leaves_what_a_worker_holds_to_the_worker_for_as_long_as_a_send_takes(post: Post) -> None:
    post.clients(3)
    mailing_id = post.mailing(begins=-60, ends=60)
    post.plan()
    # One in the hands of a worker, one in the hands of a worker that died, one that waits for its next attempt.
    post.query(
        "UPDATE mailings.message SET claim = CASE WHEN client_id < 3 THEN 'w' END,"
        " next_attempt_at = now() + CASE client_id WHEN 2 THEN interval '-1 second' ELSE interval '1 minute' END"
    )
    post.query("UPDATE mailings.mailing SET end_time = now()")
    post.plan()
    assert post.statuses(mailing_id) == {"Pending": 1, "TIMEOUT": 2}
    assert post.state(mailing_id) == "running"
    post.query("UPDATE mailings.mailing SET end_time = now() - interval '7 seconds'")  # a send takes one
    post.plan()
    assert (post.state(mailing_id), post.statuses(mailing_id)) == ("finished", {"TIMEOUT": 3})


def test_what_a_deletion_left_to_a_dead_worker_ends(post: Post) -> None:
    post.clients(2)
    mailing_id = post.mailing()
    post.plan()
    post.query("UPDATE mailings.mailing SET deleted_at = now()")
    post.query(
        "UPDATE mailings.message SET claim = 'w', next_attempt_at = now() + interval '1 minute' WHERE client_id = 1"
    )
    post.plan()
    assert post.statuses(mailing_id) == {"FAILED": 1, "Pending": 1}
    post.query("UPDATE mailings.message SET next_attempt_at = now() WHERE client_id = 1")
    post.plan()
    assert (post.state(mailing_id), post.statuses(mailing_id)) == ("finished", {"FAILED": 2})


def test_counts_are_folded_and_stay_what_they_are(post: Post) -> None:
    post.clients(30)
    mailing_id = post.mailing()
    post.plan()
    for client_id in range(1, 21):
        post.query("UPDATE mailings.message SET status = 'SENT', finished_at = now() WHERE client_id = %s", client_id)
    assert post.query("SELECT count(*) > 20 FROM mailings.message_count") == [(True,)]
    post.plan()
    assert post.query("SELECT count(*) FROM mailings.message_count") == [(2,)]
    assert post.query(COUNTS) == post.query(ROWS) == [("Pending", 10), ("SENT", 20)]
    assert post.state(mailing_id) == "running"


def test_tasks_are_asked_for_once_until_one_is_begun(post: Post) -> None:
    post.clients(1)
    mailing_id = post.mailing()
    assert post.plan() == [mailing_id] * 4
    assert post.plan() == []
    post.query("UPDATE mailings.mailing SET asked_at = now() - interval '5 seconds'")
    assert post.plan() == []
    post.query("UPDATE mailings.mailing SET asked_at = now() - interval '11 seconds'")  # they were lost
    assert post.plan() == [mailing_id] * 4


def test_a_queue_that_nobody_empties_does_not_grow(post: Post) -> None:
    post.clients(1)
    for _ in range(3):
        post.mailing()
    assert post.plan(waiting=100) == post.plan(waiting=97) == []
    assert len(set(post.plan(waiting=96))) == 1
    assert len(set(post.plan(waiting=92))) == 2
    assert post.plan() == []


def test_without_a_sender_mailings_start_and_no_task_is_enqueued(post: Post) -> None:
    post.clients(1)
    mailing_id = post.mailing()

    async def plan() -> list[int]:
        async with planner(post, can_send=False) as one:
            await one.plan()
            return await one.ask(0)

    assert asyncio.run(plan()) == []
    assert post.state(mailing_id) == "running"
    assert post.plan() == [mailing_id] * 4
