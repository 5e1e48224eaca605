"""A task of a worker on the real database and over real HTTP: what is sent, what is not, and what is tried again."""

import asyncio
import datetime as dt
import threading
import time
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from sales_assets.services.mailings.dispatch import (
    LONGEST_PAUSE,
    Claimed,
    Dispatcher,
    Mailing,
    MessageResult,
    pause_after,
)
from sales_assets.services.mailings.sender_client import retry_after
from sales_assets.simulators.sender_api import Answer, Faults
from sales_assets_tests.services.mailings.worker import PHONES_FROM, TEXT, Post, counted, dispatcher
from sales_assets_tests.services.partner_orders.fixtures import until

OUTCOMES = "SELECT status, attempts, reason, claim FROM mailings.message ORDER BY message_id"
DUE = "UPDATE mailings.message SET next_attempt_at = now() WHERE status = 'Pending'"
NEXT_TURN = "SELECT extract(epoch FROM next_at - clock_timestamp())::float8 FROM mailings.send_rate"
PAUSE = "SELECT extract(epoch FROM next_attempt_at - now())::float8 FROM mailings.message"


def begun(post: Post, clients: int, **chosen: Any) -> int:
    """A running mailing to so many clients."""
    zone = chosen.pop("zone", "UTC")
    post.clients(clients, zone=zone)
    mailing_id = post.mailing(**chosen)
    post.plan()
    return mailing_id


def during(work: Callable[[], Any], then: Callable[[], Any], *, when: Callable[[], object]) -> None:
    """Run `work` in a thread, and `then` in the middle of it."""
    thread = threading.Thread(target=work)
    thread.start()
    until(when)
    then()
    thread.join()


def test_a_message_is_what_the_contract_says(post: Post) -> None:
    mailing_id = begun(post, 2)
    post.dispatch(mailing_id)
    assert sorted((told.message_id, told.phone, told.text) for told in post.sender.arrivals) == [
        (1, PHONES_FROM + 1, TEXT),
        (2, PHONES_FROM + 2, TEXT),
    ]
    assert post.query(OUTCOMES) == [("SENT", 1, None, None)] * 2
    post.plan()
    assert post.state(mailing_id) == "finished"


def test_many_messages_are_sent_once_each_and_not_too_many_at_a_time(post: Post) -> None:
    mailing_id = begun(post, 700)
    post.sender.faults = Faults(slow=0.02)
    metrics = post.dispatch(mailing_id, in_flight=40)
    assert post.statuses(mailing_id) == {"SENT": 700}
    assert set(post.sender.seen.values()) == {1}
    assert post.sender.most_under_way <= 40
    assert counted(metrics, "mailings_send_seconds_count", outcome="sent") == 700


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(500, "Internal Server Error"), "http_500"),
        (Answer(429, "Too Many Requests"), "http_429"),
        (Answer(404, {"detail": "Not found."}), "http_404"),
        (Answer(302, "", {"Location": "/v1/send/1"}), "http_302"),
        (Answer(200, {"code": 7, "message": "no"}), "code_7"),
        (Answer(200, {"code": True}), "unreadable"),
        (Answer(200, {"message": "OK"}), "unreadable"),
        (Answer(200, [0]), "unreadable"),
        (Answer(200, "<html>"), "unreadable"),
        (Answer(200, '{"code": 0, "message": "' + "x" * 70_000 + '"}'), "unreadable"),
        (Answer(cut=True), "disconnected"),
        (Answer(delay=0.6), "timeout"),
    ],
)
def test_a_failed_attempt_leaves_it_pending_and_the_next_is_under_the_same_id(
    post: Post, answer: Answer, reason: str
) -> None:
    mailing_id = begun(post, 1)
    post.sender.answer(answer)
    post.dispatch(mailing_id, timeout=0.3, retry_seconds=600)
    assert post.query(OUTCOMES) == [("Pending", 1, reason, None)]
    post.query("UPDATE mailings.message SET next_attempt_at = now()")
    post.dispatch(mailing_id, timeout=0.3)
    assert post.query(OUTCOMES) == [("SENT", 2, None, None)]
    assert list(post.sender.seen.items()) == [(1, 2)]


@pytest.mark.parametrize("faults", [Faults(server_error=1), Faults(too_many=1, retry_after=""), Faults(slow=1)])
def test_after_five_attempts_it_has_failed(post: Post, faults: Faults) -> None:
    mailing_id = begun(post, 3)
    post.sender.faults = faults
    for _ in range(10):
        post.dispatch(mailing_id, timeout=0.2)
    assert post.query("SELECT status, attempts FROM mailings.message") == [("FAILED", 5)] * 3
    assert set(post.sender.seen.values()) == {5}
    post.plan()
    assert post.state(mailing_id) == "finished"


def test_a_sender_that_is_not_there_is_a_failed_attempt(post: Post) -> None:
    mailing_id = begun(post, 1)

    async def run() -> None:
        async with dispatcher(post, url="http://127.0.0.1:9", retry_seconds=600) as (one, _):
            await one.dispatch(mailing_id)

    asyncio.run(run())
    assert post.query(OUTCOMES) == [("Pending", 1, "unreachable", None)]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_what_is_refused_as_it_is_has_failed_at_once(post: Post, status: int) -> None:
    mailing_id = begun(post, 1)
    post.sender.answer(Answer(status, {"code": 1}))
    post.dispatch(mailing_id)
    assert post.query(OUTCOMES) == [("FAILED", 1, f"http_{status}", None)]


def test_a_refused_token_is_no_messages_fault(post: Post) -> None:
    mailing_id = begun(post, 100)

    async def run() -> None:
        async with dispatcher(post, token="wrong", in_flight=5) as (one, _):
            await one.dispatch(mailing_id)
            await one.dispatch(mailing_id)

    asyncio.run(run())
    assert not post.sender.seen
    assert post.query("SELECT DISTINCT status, attempts, claim FROM mailings.message") == [("Pending", 0, None)]
    # What was tried waits; of the others none was.
    tried = post.query("SELECT count(*) FROM mailings.message WHERE reason = 'http_401'")[0][0]
    assert 1 <= tried <= 5
    post.query("UPDATE mailings.message SET next_attempt_at = now()")
    post.dispatch(mailing_id)
    assert post.statuses() == {"SENT": 100}


def test_retry_after_is_waited_for(post: Post) -> None:
    mailing_id = begun(post, 1)
    for header, pause in (("7", 7), ("999999", 3600), ("soon", 0)):
        post.query("UPDATE mailings.message SET next_attempt_at = now()")
        post.sender.answer(Answer(429, "", {"Retry-After": header}))
        post.dispatch(mailing_id)
        assert pause - 2 < post.query(PAUSE)[0][0] <= pause


def test_retry_after_is_seconds_or_a_date() -> None:
    now = dt.datetime(2024, 10, 27, 7, 28, tzinfo=dt.UTC)
    assert retry_after("Sun, 27 Oct 2024 07:28:30 GMT", now) == 30
    assert retry_after("Sun, 27 Oct 2024 07:27:30 GMT", now) == 0
    assert [retry_after(text, now) for text in (" 5 ", "0", "-1", "1e3", "", None, "Thu", "9" * 400)] == [5] + [0] * 7


def test_pauses_double_and_have_full_jitter() -> None:
    assert [pause_after(number, 10, 1) for number in (1, 2, 3, 4)] == [10, 20, 40, 80]
    assert pause_after(20, 10, 1) == LONGEST_PAUSE
    assert pause_after(4, 10, 0) == 0


# --- the end, a pause, a deletion ---------------------------------------------------------------------------------


def test_nothing_is_sent_after_the_end(post: Post) -> None:
    post.sender.faults = Faults(slow=0.05)
    mailing_id = begun(post, 2000, ends=2)
    (end,) = post.query("SELECT extract(epoch FROM end_time)::float8 FROM mailings.mailing")[0]
    post.dispatch(mailing_id, seconds=30)
    post.plan()
    statuses = post.finished(mailing_id, seconds=0)
    assert statuses["SENT"] > 0
    assert statuses["TIMEOUT"] > 100
    assert statuses.total() == 2000
    assert max(told.at for told in post.sender.arrivals) <= end
    assert sum(post.sender.sent.values()) == statuses["SENT"]


def test_what_is_under_way_at_the_end_may_succeed_and_what_fails_then_is_over(post: Post) -> None:
    mailing_id = begun(post, 2, ends=0.7)
    post.sender.answer(Answer(delay=0.9), Answer(500, "", delay=0.9))
    during(lambda: post.dispatch(mailing_id, timeout=3), lambda: None, when=lambda: len(post.sender.seen) == 2)
    assert sorted(post.query("SELECT status, attempts FROM mailings.message")) == [("SENT", 1), ("TIMEOUT", 1)]


def test_what_has_timed_out_never_comes_back(post: Post) -> None:
    mailing_id = begun(post, 1)
    post.sender.answer(Answer(delay=1))
    during(
        lambda: post.dispatch(mailing_id, timeout=3),
        lambda: post.query("UPDATE mailings.message SET status = 'TIMEOUT', claim = NULL, finished_at = now()"),
        when=lambda: post.sender.seen,
    )
    assert post.statuses() == {"TIMEOUT": 1}


def test_a_pause_stops_all_but_what_is_in_flight_and_resuming_sends_the_rest(post: Post) -> None:
    mailing_id = begun(post, 600)
    post.sender.faults = Faults(slow=0.05)
    began: list[int] = []

    def pause() -> None:
        post.query("UPDATE mailings.mailing SET paused_at = now()")
        began.append(sum(post.sender.seen.values()))

    during(lambda: post.dispatch(mailing_id), pause, when=lambda: sum(post.sender.seen.values()) > 100)
    assert began[0] <= sum(post.sender.seen.values()) <= began[0] + 20
    assert post.statuses()["Pending"] > 300
    assert post.query("SELECT count(*) FROM mailings.message WHERE claim IS NOT NULL") == [(0,)]
    assert post.plan() == []
    post.query("UPDATE mailings.mailing SET paused_at = NULL, asked_at = NULL")
    assert set(post.plan()) == {mailing_id}
    post.dispatch(mailing_id)
    assert post.statuses() == {"SENT": 600}
    assert set(post.sender.seen.values()) == {1}


def test_a_deletion_stops_all_but_what_is_in_flight_and_leaves_nothing_pending(post: Post) -> None:
    mailing_id = begun(post, 600)
    post.sender.faults = Faults(slow=0.05)
    began: list[int] = []

    def delete() -> None:
        post.query("UPDATE mailings.mailing SET deleted_at = now()")
        began.append(sum(post.sender.seen.values()))

    during(lambda: post.dispatch(mailing_id), delete, when=lambda: sum(post.sender.seen.values()) > 100)
    assert began[0] <= sum(post.sender.seen.values()) <= began[0] + 20
    post.plan()
    statuses = post.finished(mailing_id, seconds=0)
    assert statuses["SENT"] == sum(post.sender.sent.values())
    assert statuses["FAILED"] == 600 - statuses["SENT"]


def test_a_client_that_is_deleted_before_its_turn_is_not_written_to(post: Post) -> None:
    mailing_id = begun(post, 50)
    post.sender.faults = Faults(slow=0.2)
    during(
        lambda: post.dispatch(mailing_id, in_flight=10),
        lambda: post.query("DELETE FROM mailings.client WHERE client_id > 20"),
        when=lambda: post.sender.seen,
    )
    gone = post.query("SELECT DISTINCT status, reason FROM mailings.message WHERE client_id > 20")
    assert gone == [("FAILED", "client deleted")]
    assert {told.phone for told in post.sender.arrivals} == {PHONES_FROM + number for number in range(1, 21)}


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ("paused_at = now()", ("Pending", None)),
        ("deleted_at = now()", ("FAILED", "mailing deleted")),
        ("end_time = now()", ("TIMEOUT", None)),
    ],
)
def test_what_is_claimed_already_asks_leave_before_it_is_sent(post: Post, change: str, left: tuple[str, str]) -> None:
    mailing_id = begun(post, 1)

    async def run() -> None:
        async with dispatcher(post) as (one, _):
            mailing = Mailing(mailing_id, '"x"', None)
            (claimed,) = await one._claim(mailing, 0) or []
            post.query(f"UPDATE mailings.mailing SET {change}")
            await one._deliver(mailing, claimed)

    asyncio.run(run())
    assert not post.sender.seen
    assert post.query("SELECT status, reason, attempts, claim FROM mailings.message") == [(*left, 0, None)]


# --- windows ------------------------------------------------------------------------------------------------------


def test_outside_its_window_a_message_waits_until_it_opens(post: Post) -> None:
    now = dt.datetime(2044, 6, 1, 12, 0, tzinfo=dt.UTC)
    for zone in ("UTC", "Asia/Tokyo", "timezone"):  # 12:00, 21:00, and a word that is no zone: 12:00
        post.clients(1, zone=zone)
    mailing_id = post.mailing(window=("20:00", "22:00"))
    post.plan()
    metrics = post.dispatch(mailing_id, clock=lambda: now)
    opens = dt.datetime(2044, 6, 1, 20, 0, tzinfo=dt.UTC)
    assert post.query("SELECT client_id, status, next_attempt_at FROM mailings.message WHERE client_id <> 2") == [
        (1, "Pending", opens),
        (3, "Pending", opens),
    ]
    assert list(post.sender.sent) == [2]
    assert post.query("SELECT max(attempts) FROM mailings.message WHERE status = 'Pending'") == [(0,)]
    assert counted(metrics, "mailings_unknown_zones_total") == 1
    post.query(DUE)
    post.dispatch(mailing_id, clock=lambda: opens)
    assert post.statuses() == {"SENT": 3}


def test_a_message_that_waits_is_not_looked_at_before(post: Post) -> None:
    hour = dt.datetime.now(dt.UTC) + dt.timedelta(hours=3)
    mailing_id = begun(post, 500, window=(f"{hour:%H:%M}", f"{hour + dt.timedelta(hours=1):%H:%M}"))
    post.dispatch(mailing_id)
    post.query("UPDATE mailings.mailing SET asked_at = NULL")
    assert post.plan() == []
    assert not post.sender.seen
    assert post.query("SELECT count(*), min(next_attempt_at) > now() + interval '1 hour' FROM mailings.message") == [
        (500, True)
    ]


def test_a_window_that_opens_after_the_end_times_out(post: Post) -> None:
    hour = dt.datetime.now(dt.UTC) + dt.timedelta(hours=3)
    mailing_id = begun(post, 5, window=(f"{hour:%H:%M}", f"{hour + dt.timedelta(hours=1):%H:%M}"), ends=1.5)
    post.dispatch(mailing_id)
    assert post.statuses() == {"Pending": 5}
    until(lambda: post.plan() or post.state(mailing_id) == "finished", seconds=10)
    assert post.statuses() == {"TIMEOUT": 5}


def test_the_night_that_has_an_hour_twice_sends_once(post: Post) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    mailing_id = begun(post, 3, window=("02:30", "02:45"), zone="Europe/Berlin")
    for fold in (0, 1):
        post.query(DUE)
        moment = dt.datetime(2044, 10, 30, 2, 35, tzinfo=berlin, fold=fold).astimezone(dt.UTC)
        post.dispatch(mailing_id, clock=lambda moment=moment: moment)  # type: ignore[misc]
    assert post.statuses() == {"SENT": 3}
    assert set(post.sender.seen.values()) == {1}


def test_the_night_that_skips_the_window_waits_for_the_next(post: Post) -> None:
    mailing_id = begun(post, 1, window=("02:30", "02:45"), zone="Europe/Berlin")
    post.dispatch(mailing_id, clock=lambda: dt.datetime(2044, 3, 27, 1, 10, tzinfo=dt.UTC))
    assert post.query("SELECT status, next_attempt_at FROM mailings.message") == [
        ("Pending", dt.datetime(2044, 3, 28, 0, 30, tzinfo=dt.UTC))
    ]
    assert not post.sender.seen


# --- claims and results -------------------------------------------------------------------------------------------


def test_a_late_result_does_not_touch_what_somebody_else_has_taken(post: Post) -> None:
    mailing_id = begun(post, 1)
    post.sender.answer(Answer(500, "", delay=1))
    metrics: list[Any] = []
    during(
        lambda: metrics.append(post.dispatch(mailing_id, timeout=3)),
        lambda: post.query("UPDATE mailings.message SET claim = 'another'"),
        when=lambda: post.sender.seen,
    )
    assert post.query(OUTCOMES) == [("Pending", 0, None, "another")]
    assert counted(metrics[0], "mailings_late_results_total") == 1


@pytest.mark.parametrize("left", [-1.0, 0.0, 2.5, 3.9, 4.4])
def test_nothing_is_sent_under_a_lease_that_the_send_could_outlast(post: Post, left: float) -> None:
    """A send takes 2 s and its commit up to half the lease: whatever is left of less than 4.5 s is renewed."""
    mailing_id = begun(post, 1)
    post.sender.answer(Answer(delay=1))

    async def run() -> None:
        async with dispatcher(post, lease_seconds=5, timeout=2) as (one, _):
            mailing = Mailing(mailing_id, '"x"', None)
            (claimed,) = await one._claim(mailing, 0) or []
            post.query("UPDATE mailings.message SET next_attempt_at = now() + %s * interval '1 second'", left)
            await one._deliver(mailing, claimed)

    leases: list[float] = []
    during(lambda: asyncio.run(run()), lambda: leases.append(post.query(PAUSE)[0][0]), when=lambda: post.sender.seen)
    # Of 7 s, less what it took to get here.
    assert leases[0] > 4.5
    assert post.query(OUTCOMES) == [("SENT", 1, None, None)]


def test_a_lease_that_is_long_enough_is_not_written_again(post: Post) -> None:
    mailing_id = begun(post, 1)
    post.sender.answer(Answer(delay=1))
    due = "SELECT next_attempt_at FROM mailings.message"
    found: list[Any] = []

    async def run() -> None:
        async with dispatcher(post, lease_seconds=60, timeout=2) as (one, _):
            mailing = Mailing(mailing_id, '"x"', None)
            (claimed,) = await one._claim(mailing, 0) or []
            found.append(post.query(due))
            await one._deliver(mailing, claimed)

    during(lambda: asyncio.run(run()), lambda: found.append(post.query(due)), when=lambda: post.sender.seen)
    assert found[0] == found[1]


@pytest.mark.parametrize("rate", [0, 1000])
def test_a_message_that_another_worker_has_taken_is_not_sent(post: Post, rate: float) -> None:
    mailing_id = begun(post, 1)

    async def run() -> None:
        async with dispatcher(post, rate=rate) as (one, _):
            mailing = Mailing(mailing_id, '"x"', None)
            (claimed,) = await one._claim(mailing, 0) or []
            post.query("UPDATE mailings.message SET claim = 'another', next_attempt_at = now()")
            await one._deliver(mailing, claimed)

    asyncio.run(run())
    assert not post.sender.seen
    assert post.query(OUTCOMES) == [("Pending", 0, None, "another")]
    assert post.query(NEXT_TURN) == []


def test_two_workers_share_a_list_and_send_each_message_once(post: Post) -> None:
    mailing_id = begun(post, 1000)
    post.sender.faults = Faults(slow=0.01)
    threads = [threading.Thread(target=post.dispatch, args=[mailing_id]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert post.statuses() == {"SENT": 1000}
    assert set(post.sender.seen.values()) == {1}


def test_results_wait_for_the_database(post: Post) -> None:
    """Its sessions are cut off while sends are under way; nothing is sent again for it."""
    mailing_id = begun(post, 20)
    post.sender.faults = Faults(slow=0.5)
    during(
        lambda: post.dispatch(mailing_id, timeout=3),
        lambda: post.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ),
        when=lambda: len(post.sender.seen) == 20,
    )
    assert post.statuses() == {"SENT": 20}
    assert set(post.sender.seen.values()) == {1}


def test_a_result_that_is_stored_twice_is_stored_once(post: Post) -> None:
    mailing_id = begun(post, 1)

    async def run() -> list[set[int]]:
        async with dispatcher(post) as (one, _):
            (claimed,) = await one._claim(Mailing(mailing_id, '"x"', None), 0) or []
            return [await one._store_once([MessageResult(claimed, "SENT", 1)]) for _ in range(2)]

    assert asyncio.run(run()) == [{1}, set()]
    assert post.query(OUTCOMES) == [("SENT", 1, None, None)]


# --- the rate -----------------------------------------------------------------------------------------------------


def test_the_rate_is_held_over_two_workers(post: Post) -> None:
    mailing_id = begun(post, 300)
    began = time.time()
    threads = [
        threading.Thread(target=post.dispatch, args=[mailing_id], kwargs={"rate": 100, "seconds": 60}) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert post.statuses() == {"SENT": 300}
    arrivals = sorted(told.at for told in post.sender.arrivals)
    for first, later in zip(arrivals, arrivals[100:], strict=False):
        # Turns are taken 5 at a time, by each of two.
        assert later - first > 0.85
    assert time.time() - began < 30


def test_a_low_rate_does_not_let_claims_lapse(post: Post) -> None:
    mailing_id = begun(post, 30)
    began = time.monotonic()
    post.dispatch(mailing_id, rate=20, lease_seconds=2, seconds=60)
    assert post.statuses() == {"SENT": 30}
    assert time.monotonic() - began > 1.3
    assert set(post.sender.seen.values()) == {1}


SLOW: dict[str, Any] = {"rate": 0.02, "lease_seconds": 2, "timeout": 1, "seconds": 5}
CLAIMED = "SELECT 1 FROM mailings.message WHERE claim IS NOT NULL"
LATER = "INSERT INTO mailings.send_rate (next_at) VALUES (clock_timestamp() + %s * interval '1 second')"


def test_two_workers_send_at_a_rate_that_is_slower_than_the_lease(post: Post) -> None:
    mailing_id = begun(post, 6)
    # A turn comes every 0.5 s, and a lease outlasts a send by 0.1 s.
    chosen = {"rate": 2, "lease_seconds": 0.2, "timeout": 0.5, "seconds": 30}
    threads = [threading.Thread(target=post.dispatch, args=[mailing_id], kwargs=chosen) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert post.statuses() == {"SENT": 6}
    assert set(post.sender.seen.values()) == {1}
    assert post.query("SELECT DISTINCT attempts FROM mailings.message") == [(1,)]
    arrivals = sorted(told.at for told in post.sender.arrivals)
    # A request may be some tenths of a second on its way; over all of them this comes to nothing.
    assert arrivals[-1] - arrivals[0] > 5 * 0.5 - 0.3


def test_every_turn_of_a_slow_rate_is_a_send(post: Post) -> None:
    """Time is moved on by hand: a turn that were taken for nothing would cost 50 seconds."""
    mailing_id = begun(post, 4)
    for sent in range(1, 5):
        post.dispatch(mailing_id, **SLOW)
        assert post.statuses()["SENT"] == sent
        assert 45 < post.query(NEXT_TURN)[0][0] <= 50
        post.dispatch(mailing_id, **SLOW)  # in between there is no turn, and none is waited for
        assert post.statuses()["SENT"] == sent
        assert post.query("SELECT count(*) FROM mailings.message WHERE claim IS NOT NULL") == [(0,)]
        post.query("UPDATE mailings.send_rate SET next_at = next_at - interval '50 seconds'")
    assert set(post.sender.seen.values()) == {1}


def test_a_lease_is_renewed_while_its_message_waits(post: Post) -> None:
    mailing_id = begun(post, 1)
    post.query(LATER, 3)
    leases: list[tuple[str, float]] = []

    def look() -> None:
        ends = time.monotonic() + 2
        while time.monotonic() < ends:
            leases.extend(post.query(f"SELECT claim, ({PAUSE}) FROM mailings.message"))
            time.sleep(0.02)

    during(
        lambda: post.dispatch(mailing_id, rate=0.02, lease_seconds=0.5, timeout=0.3),
        look,
        when=lambda: post.query(CLAIMED),
    )
    assert len({claim for claim, _ in leases}) == 1
    assert min(left for _, left in leases) > 0
    assert post.query(OUTCOMES) == [("SENT", 1, None, None)]


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ("UPDATE mailings.mailing SET paused_at = now()", ("Pending", None)),
        ("UPDATE mailings.mailing SET deleted_at = now()", ("FAILED", "mailing deleted")),
        ("UPDATE mailings.mailing SET end_time = now()", ("TIMEOUT", None)),
        ("DELETE FROM mailings.client", ("FAILED", "client deleted")),
    ],
)
def test_what_waits_for_its_turn_ends_with_its_mailing_and_takes_none(
    post: Post, change: str, outcome: tuple[str, str | None]
) -> None:
    mailing_id = begun(post, 1)
    post.query(LATER, 40)
    began: list[float] = []

    def end() -> None:
        post.query(change)
        began.append(time.monotonic())

    during(
        lambda: post.dispatch(mailing_id, rate=0.02, lease_seconds=20, seconds=60),
        end,
        when=lambda: post.query(CLAIMED),
    )
    assert time.monotonic() - began[0] < 20, "the turn was not waited for"
    assert not post.sender.seen
    assert post.query("SELECT status, reason, attempts, claim FROM mailings.message") == [(*outcome, 0, None)]
    assert post.query(NEXT_TURN)[0][0] < 40


def test_a_worker_that_is_stopped_does_not_wait_for_its_turn(post: Post) -> None:
    mailing_id = begun(post, 3)
    post.query(LATER, 40)

    working: list[Dispatcher] = []
    began: list[float] = []

    async def run() -> None:
        async with dispatcher(post, rate=0.02, lease_seconds=20) as (one, _):
            working.append(one)
            await asyncio.gather(*(one.dispatch(mailing_id, 60) for _ in range(2)))

    def stop() -> None:
        began.append(time.monotonic())
        working[0].stop()

    during(lambda: asyncio.run(run()), stop, when=lambda: post.query(CLAIMED))
    assert time.monotonic() - began[0] < 20
    assert post.query("SELECT DISTINCT status, attempts, claim FROM mailings.message") == [("Pending", 0, None)]
    assert post.query(NEXT_TURN)[0][0] < 40


def test_a_turn_that_a_slower_rate_has_left_holds_up_nothing(post: Post) -> None:
    mailing_id = begun(post, 5)
    post.query(LATER, 40_000)
    post.dispatch(mailing_id, rate=100)
    assert post.statuses() == {"SENT": 5}
    assert post.query(NEXT_TURN)[0][0] < 1


def test_one_mistake_of_ours_does_not_take_the_others_with_it(post: Post) -> None:
    mailing_id = begun(post, 10)

    async def run() -> None:
        async with dispatcher(post) as (one, _):
            attempt = one._attempt

            async def broken(mailing: Mailing, message: Claimed) -> MessageResult:
                if message.message_id == 3:
                    raise RuntimeError("a mistake")
                return await attempt(mailing, message)

            one._attempt = broken  # type: ignore[method-assign]
            await one.dispatch(mailing_id)

    asyncio.run(run())
    assert post.statuses() == {"SENT": 9, "Pending": 1}
    post.query("UPDATE mailings.message SET next_attempt_at = now() WHERE status = 'Pending'")
    post.dispatch(mailing_id)
    assert post.statuses() == {"SENT": 10}
