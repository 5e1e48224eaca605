"""Dispatch task of a worker with a real database and real HTTP: which messages are sent, withheld and retried."""

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
from sales_assets_tests.services.mailings.worker import PHONES_FROM, TEXT, MailingsEnvironment, counted, dispatcher
from sales_assets_tests.services.partner_orders.fixtures import until

OUTCOMES = "SELECT status, attempts, reason, claim FROM mailings.message ORDER BY message_id"
DUE = "UPDATE mailings.message SET next_attempt_at = now() WHERE status = 'Pending'"
SECONDS_TO_NEXT_SEND = "SELECT extract(epoch FROM next_at - clock_timestamp())::float8 FROM mailings.send_rate"
PAUSE = "SELECT extract(epoch FROM next_attempt_at - now())::float8 FROM mailings.message"


def start_mailing(mailings_env: MailingsEnvironment, clients: int, **chosen: Any) -> int:
    """Start a mailing to this number of clients; return its id."""
    zone = chosen.pop("zone", "UTC")
    mailings_env.clients(clients, zone=zone)
    mailing_id = mailings_env.mailing(**chosen)
    mailings_env.plan()
    return mailing_id


def run_during(work: Callable[[], Any], then: Callable[[], Any], *, when: Callable[[], object]) -> None:
    """Run `work` in a thread and, once `when()` is true, also `then`; return when both are done."""
    thread = threading.Thread(target=work)
    thread.start()
    until(when)
    then()
    thread.join()


def test_messages_have_the_id_phone_and_text_of_the_contract(mailings_env: MailingsEnvironment) -> None:
    mailing_id = start_mailing(mailings_env, 2)
    mailings_env.dispatch(mailing_id)
    assert sorted((arrival.message_id, arrival.phone, arrival.text) for arrival in mailings_env.sender.arrivals) == [
        (1, PHONES_FROM + 1, TEXT),
        (2, PHONES_FROM + 2, TEXT),
    ]
    assert mailings_env.query(OUTCOMES) == [("SENT", 1, None, None)] * 2
    mailings_env.plan()
    assert mailings_env.state(mailing_id) == "finished"


def test_each_message_is_sent_once_and_requests_in_flight_are_limited(mailings_env: MailingsEnvironment) -> None:
    mailing_id = start_mailing(mailings_env, 700)
    mailings_env.sender.faults = Faults(slow=0.02)
    metrics = mailings_env.dispatch(mailing_id, in_flight=40)
    assert mailings_env.statuses(mailing_id) == {"SENT": 700}
    assert set(mailings_env.sender.seen.values()) == {1}
    assert mailings_env.sender.most_under_way <= 40
    assert counted(metrics, "mailings_send_seconds_count", outcome="sent") == 700


@pytest.mark.parametrize(
    ("response", "reason"),
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
def test_failed_attempt_leaves_the_message_pending_and_is_retried_under_the_same_id(
    mailings_env: MailingsEnvironment, response: Answer, reason: str
) -> None:
    mailing_id = start_mailing(mailings_env, 1)
    mailings_env.sender.answer(response)
    mailings_env.dispatch(mailing_id, timeout=0.3, retry_seconds=600)
    assert mailings_env.query(OUTCOMES) == [("Pending", 1, reason, None)]
    mailings_env.query("UPDATE mailings.message SET next_attempt_at = now()")
    mailings_env.dispatch(mailing_id, timeout=0.3)
    assert mailings_env.query(OUTCOMES) == [("SENT", 2, None, None)]
    assert list(mailings_env.sender.seen.items()) == [(1, 2)]


@pytest.mark.parametrize("faults", [Faults(server_error=1), Faults(too_many=1, retry_after=""), Faults(slow=1)])
def test_message_fails_after_five_attempts(mailings_env: MailingsEnvironment, faults: Faults) -> None:
    mailing_id = start_mailing(mailings_env, 3)
    mailings_env.sender.faults = faults
    for _ in range(10):
        mailings_env.dispatch(mailing_id, timeout=0.2)
    assert mailings_env.query("SELECT status, attempts FROM mailings.message") == [("FAILED", 5)] * 3
    assert set(mailings_env.sender.seen.values()) == {5}
    mailings_env.plan()
    assert mailings_env.state(mailing_id) == "finished"


def test_unreachable_sender_is_a_failed_attempt(mailings_env: MailingsEnvironment) -> None:
    mailing_id = start_mailing(mailings_env, 1)

    async def run() -> None:
        async with dispatcher(mailings_env, url="http://127.0.0.1:9", retry_seconds=600) as (one, _):
            await one.dispatch(mailing_id)

    asyncio.run(run())
    assert mailings_env.query(OUTCOMES) == [("Pending", 1, "unreachable", None)]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_permanently_refused_message_fails_without_a_retry(mailings_env: MailingsEnvironment, status: int) -> None:
    mailing_id = start_mailing(mailings_env, 1)
    mailings_env.sender.answer(Answer(status, {"code": 1}))
    mailings_env.dispatch(mailing_id)
    assert mailings_env.query(OUTCOMES) == [("FAILED", 1, f"http_{status}", None)]


def test_refused_token_does_not_count_as_an_attempt(mailings_env: MailingsEnvironment) -> None:
    mailing_id = start_mailing(mailings_env, 100)

    async def run() -> None:
        async with dispatcher(mailings_env, token="wrong", in_flight=5) as (one, _):
            await one.dispatch(mailing_id)
            await one.dispatch(mailing_id)

    asyncio.run(run())
    assert not mailings_env.sender.seen
    assert mailings_env.query("SELECT DISTINCT status, attempts, claim FROM mailings.message") == [("Pending", 0, None)]
    # Only the attempted messages are postponed; the others were not attempted.
    tried = mailings_env.query("SELECT count(*) FROM mailings.message WHERE reason = 'http_401'")[0][0]
    assert 1 <= tried <= 5
    mailings_env.query("UPDATE mailings.message SET next_attempt_at = now()")
    mailings_env.dispatch(mailing_id)
    assert mailings_env.statuses() == {"SENT": 100}


def test_retry_after_header_sets_the_pause(mailings_env: MailingsEnvironment) -> None:
    mailing_id = start_mailing(mailings_env, 1)
    for header, pause in (("7", 7), ("999999", 3600), ("soon", 0)):
        mailings_env.query("UPDATE mailings.message SET next_attempt_at = now()")
        mailings_env.sender.answer(Answer(429, "", {"Retry-After": header}))
        mailings_env.dispatch(mailing_id)
        assert pause - 2 < mailings_env.query(PAUSE)[0][0] <= pause


def test_retry_after_is_seconds_or_a_date() -> None:
    now = dt.datetime(2024, 10, 27, 7, 28, tzinfo=dt.UTC)
    assert retry_after("Sun, 27 Oct 2024 07:28:30 GMT", now) == 30
    assert retry_after("Sun, 27 Oct 2024 07:27:30 GMT", now) == 0
    assert [retry_after(text, now) for text in (" 5 ", "0", "-1", "1e3", "", None, "Thu", "9" * 400)] == [5] + [0] * 7


def test_pauses_double_and_have_full_jitter() -> None:
    assert [pause_after(number, 10, 1) for number in (1, 2, 3, 4)] == [10, 20, 40, 80]
    assert pause_after(20, 10, 1) == LONGEST_PAUSE
    assert pause_after(4, 10, 0) == 0


# --- end, pause and deletion of a mailing -------------------------------------------------------------------------


def test_nothing_is_sent_after_the_end(mailings_env: MailingsEnvironment) -> None:
    mailings_env.sender.faults = Faults(slow=0.05)
    mailing_id = start_mailing(mailings_env, 2000, end_offset=2)
    (end,) = mailings_env.query("SELECT extract(epoch FROM end_time)::float8 FROM mailings.mailing")[0]
    mailings_env.dispatch(mailing_id, seconds=30)
    mailings_env.plan()
    statuses = mailings_env.finished(mailing_id, seconds=0)
    assert statuses["SENT"] > 0
    assert statuses["TIMEOUT"] > 100
    assert statuses.total() == 2000
    # Authorized before the end; a busy machine delivers the request a moment later.
    assert max(arrival.at for arrival in mailings_env.sender.arrivals) <= end + 1
    assert sum(mailings_env.sender.sent.values()) == statuses["SENT"]


def test_requests_in_flight_at_the_end_may_succeed_but_are_not_retried(mailings_env: MailingsEnvironment) -> None:
    mailing_id = start_mailing(mailings_env, 2, end_offset=0.7)
    mailings_env.sender.answer(Answer(delay=0.9), Answer(500, "", delay=0.9))
    run_during(
        lambda: mailings_env.dispatch(mailing_id, timeout=3),
        lambda: None,
        when=lambda: len(mailings_env.sender.seen) == 2,
    )
    assert sorted(mailings_env.query("SELECT status, attempts FROM mailings.message")) == [("SENT", 1), ("TIMEOUT", 1)]


def test_late_response_does_not_change_a_timed_out_message(mailings_env: MailingsEnvironment) -> None:
    mailing_id = start_mailing(mailings_env, 1)
    mailings_env.sender.answer(Answer(delay=1))
    run_during(
        lambda: mailings_env.dispatch(mailing_id, timeout=3),
        lambda: mailings_env.query("UPDATE mailings.message SET status = 'TIMEOUT', claim = NULL, finished_at = now()"),
        when=lambda: mailings_env.sender.seen,
    )
    assert mailings_env.statuses() == {"TIMEOUT": 1}


def test_pause_stops_all_sends_not_in_flight_and_resume_sends_the_rest(mailings_env: MailingsEnvironment) -> None:
    mailing_id = start_mailing(mailings_env, 600)
    mailings_env.sender.faults = Faults(slow=0.05)
    sent_before: list[int] = []

    def pause() -> None:
        mailings_env.query("UPDATE mailings.mailing SET paused_at = now()")
        sent_before.append(sum(mailings_env.sender.seen.values()))

    run_during(
        lambda: mailings_env.dispatch(mailing_id), pause, when=lambda: sum(mailings_env.sender.seen.values()) > 100
    )
    assert sent_before[0] <= sum(mailings_env.sender.seen.values()) <= sent_before[0] + 20
    assert mailings_env.statuses()["Pending"] > 300
    assert mailings_env.query("SELECT count(*) FROM mailings.message WHERE claim IS NOT NULL") == [(0,)]
    assert mailings_env.plan() == []
    mailings_env.query("UPDATE mailings.mailing SET paused_at = NULL, asked_at = NULL")
    assert set(mailings_env.plan()) == {mailing_id}
    mailings_env.dispatch(mailing_id)
    assert mailings_env.statuses() == {"SENT": 600}
    assert set(mailings_env.sender.seen.values()) == {1}


def test_deletion_stops_all_sends_not_in_flight_and_leaves_no_message_pending(
    mailings_env: MailingsEnvironment,
) -> None:
    mailing_id = start_mailing(mailings_env, 600)
    mailings_env.sender.faults = Faults(slow=0.05)
    sent_before: list[int] = []

    def delete() -> None:
        mailings_env.query("UPDATE mailings.mailing SET deleted_at = now()")
        sent_before.append(sum(mailings_env.sender.seen.values()))

    run_during(
        lambda: mailings_env.dispatch(mailing_id), delete, when=lambda: sum(mailings_env.sender.seen.values()) > 100
    )
    assert sent_before[0] <= sum(mailings_env.sender.seen.values()) <= sent_before[0] + 20
    mailings_env.plan()
    statuses = mailings_env.finished(mailing_id, seconds=0)
    assert statuses["SENT"] == sum(mailings_env.sender.sent.values())
    assert statuses["FAILED"] == 600 - statuses["SENT"]


def test_client_deleted_before_its_send_gets_no_message(mailings_env: MailingsEnvironment) -> None:
    mailing_id = start_mailing(mailings_env, 50)
    mailings_env.sender.faults = Faults(slow=0.2)
    run_during(
        lambda: mailings_env.dispatch(mailing_id, in_flight=10),
        lambda: mailings_env.query("DELETE FROM mailings.client WHERE client_id > 20"),
        when=lambda: mailings_env.sender.seen,
    )
    removed = mailings_env.query("SELECT DISTINCT status, reason FROM mailings.message WHERE client_id > 20")
    assert removed == [("FAILED", "client deleted")]
    assert {arrival.phone for arrival in mailings_env.sender.arrivals} == {
        PHONES_FROM + number for number in range(1, 21)
    }


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ("paused_at = now()", ("Pending", None)),
        ("deleted_at = now()", ("FAILED", "mailing deleted")),
        ("end_time = now()", ("TIMEOUT", None)),
    ],
)
def test_claimed_message_is_checked_again_before_it_is_sent(
    mailings_env: MailingsEnvironment, change: str, left: tuple[str, str]
) -> None:
    mailing_id = start_mailing(mailings_env, 1)

    async def run() -> None:
        async with dispatcher(mailings_env) as (one, _):
            mailing = Mailing(mailing_id, '"x"', None)
            (claimed,) = await one._claim(mailing, 0) or []
            mailings_env.query(f"UPDATE mailings.mailing SET {change}")
            await one._deliver(mailing, claimed)

    asyncio.run(run())
    assert not mailings_env.sender.seen
    assert mailings_env.query("SELECT status, reason, attempts, claim FROM mailings.message") == [(*left, 0, None)]


# --- windows ------------------------------------------------------------------------------------------------------


def test_message_outside_its_window_waits_until_the_window_opens(mailings_env: MailingsEnvironment) -> None:
    now = dt.datetime(2044, 6, 1, 12, 0, tzinfo=dt.UTC)
    for zone in ("UTC", "Asia/Tokyo", "timezone"):  # 12:00, 21:00, and an unknown zone, which counts as UTC: 12:00
        mailings_env.clients(1, zone=zone)
    mailing_id = mailings_env.mailing(window=("20:00", "22:00"))
    mailings_env.plan()
    metrics = mailings_env.dispatch(mailing_id, clock=lambda: now)
    opens = dt.datetime(2044, 6, 1, 20, 0, tzinfo=dt.UTC)
    assert mailings_env.query(
        "SELECT client_id, status, next_attempt_at FROM mailings.message WHERE client_id <> 2"
    ) == [
        (1, "Pending", opens),
        (3, "Pending", opens),
    ]
    assert list(mailings_env.sender.sent) == [2]
    assert mailings_env.query("SELECT max(attempts) FROM mailings.message WHERE status = 'Pending'") == [(0,)]
    assert counted(metrics, "mailings_unknown_zones_total") == 1
    mailings_env.query(DUE)
    mailings_env.dispatch(mailing_id, clock=lambda: opens)
    assert mailings_env.statuses() == {"SENT": 3}


def test_message_waiting_for_its_window_is_not_planned_earlier(mailings_env: MailingsEnvironment) -> None:
    hour = dt.datetime.now(dt.UTC) + dt.timedelta(hours=3)
    mailing_id = start_mailing(mailings_env, 500, window=(f"{hour:%H:%M}", f"{hour + dt.timedelta(hours=1):%H:%M}"))
    mailings_env.dispatch(mailing_id)
    mailings_env.query("UPDATE mailings.mailing SET asked_at = NULL")
    assert mailings_env.plan() == []
    assert not mailings_env.sender.seen
    assert mailings_env.query(
        "SELECT count(*), min(next_attempt_at) > now() + interval '1 hour' FROM mailings.message"
    ) == [(500, True)]


def test_message_whose_window_opens_after_the_end_times_out(mailings_env: MailingsEnvironment) -> None:
    hour = dt.datetime.now(dt.UTC) + dt.timedelta(hours=3)
    mailing_id = start_mailing(
        mailings_env, 5, window=(f"{hour:%H:%M}", f"{hour + dt.timedelta(hours=1):%H:%M}"), end_offset=1.5
    )
    mailings_env.dispatch(mailing_id)
    assert mailings_env.statuses() == {"Pending": 5}
    until(lambda: mailings_env.plan() or mailings_env.state(mailing_id) == "finished", seconds=10)
    assert mailings_env.statuses() == {"TIMEOUT": 5}


def test_window_in_a_repeated_hour_sends_once(mailings_env: MailingsEnvironment) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    mailing_id = start_mailing(mailings_env, 3, window=("02:30", "02:45"), zone="Europe/Berlin")
    for fold in (0, 1):
        mailings_env.query(DUE)
        moment = dt.datetime(2044, 10, 30, 2, 35, tzinfo=berlin, fold=fold).astimezone(dt.UTC)
        mailings_env.dispatch(mailing_id, clock=lambda moment=moment: moment)  # type: ignore[misc]
    assert mailings_env.statuses() == {"SENT": 3}
    assert set(mailings_env.sender.seen.values()) == {1}


def test_window_in_a_skipped_hour_opens_on_the_next_night(mailings_env: MailingsEnvironment) -> None:
    mailing_id = start_mailing(mailings_env, 1, window=("02:30", "02:45"), zone="Europe/Berlin")
    mailings_env.dispatch(mailing_id, clock=lambda: dt.datetime(2044, 3, 27, 1, 10, tzinfo=dt.UTC))
    assert mailings_env.query("SELECT status, next_attempt_at FROM mailings.message") == [
        ("Pending", dt.datetime(2044, 3, 28, 0, 30, tzinfo=dt.UTC))
    ]
    assert not mailings_env.sender.seen


# --- claims and results -------------------------------------------------------------------------------------------


def test_late_result_does_not_change_a_message_claimed_by_another_worker(mailings_env: MailingsEnvironment) -> None:
    mailing_id = start_mailing(mailings_env, 1)
    mailings_env.sender.answer(Answer(500, "", delay=1))
    metrics: list[Any] = []
    run_during(
        lambda: metrics.append(mailings_env.dispatch(mailing_id, timeout=3)),
        lambda: mailings_env.query("UPDATE mailings.message SET claim = 'another'"),
        when=lambda: mailings_env.sender.seen,
    )
    assert mailings_env.query(OUTCOMES) == [("Pending", 0, None, "another")]
    assert counted(metrics[0], "mailings_late_results_total") == 1


@pytest.mark.parametrize("left", [-1.0, 0.0, 2.5, 3.9, 4.4])
def test_short_lease_is_renewed_before_the_send(mailings_env: MailingsEnvironment, left: float) -> None:
    """A send takes 2 s and its commit up to half of the 5 s lease: a lease with less than 4.5 s left is renewed."""
    mailing_id = start_mailing(mailings_env, 1)
    mailings_env.sender.answer(Answer(delay=1))

    async def run() -> None:
        async with dispatcher(mailings_env, lease_seconds=5, timeout=2) as (one, _):
            mailing = Mailing(mailing_id, '"x"', None)
            (claimed,) = await one._claim(mailing, 0) or []
            mailings_env.query("UPDATE mailings.message SET next_attempt_at = now() + %s * interval '1 second'", left)
            await one._deliver(mailing, claimed)

    leases: list[float] = []
    run_during(
        lambda: asyncio.run(run()),
        lambda: leases.append(mailings_env.query(PAUSE)[0][0]),
        when=lambda: mailings_env.sender.seen,
    )
    # The renewed lease has 7 s, less the time since the renewal.
    assert leases[0] > 4.5
    assert mailings_env.query(OUTCOMES) == [("SENT", 1, None, None)]


def test_sufficient_lease_is_not_renewed(mailings_env: MailingsEnvironment) -> None:
    mailing_id = start_mailing(mailings_env, 1)
    mailings_env.sender.answer(Answer(delay=1))
    due = "SELECT next_attempt_at FROM mailings.message"
    found: list[Any] = []

    async def run() -> None:
        async with dispatcher(mailings_env, lease_seconds=60, timeout=2) as (one, _):
            mailing = Mailing(mailing_id, '"x"', None)
            (claimed,) = await one._claim(mailing, 0) or []
            found.append(mailings_env.query(due))
            await one._deliver(mailing, claimed)

    run_during(
        lambda: asyncio.run(run()), lambda: found.append(mailings_env.query(due)), when=lambda: mailings_env.sender.seen
    )
    assert found[0] == found[1]


@pytest.mark.parametrize("rate", [0, 1000])
def test_message_claimed_by_another_worker_is_not_sent(mailings_env: MailingsEnvironment, rate: float) -> None:
    mailing_id = start_mailing(mailings_env, 1)

    async def run() -> None:
        async with dispatcher(mailings_env, rate=rate) as (one, _):
            mailing = Mailing(mailing_id, '"x"', None)
            (claimed,) = await one._claim(mailing, 0) or []
            mailings_env.query("UPDATE mailings.message SET claim = 'another', next_attempt_at = now()")
            await one._deliver(mailing, claimed)

    asyncio.run(run())
    assert not mailings_env.sender.seen
    assert mailings_env.query(OUTCOMES) == [("Pending", 0, None, "another")]
    assert mailings_env.query(SECONDS_TO_NEXT_SEND) == []


def test_two_workers_share_a_mailing_and_send_each_message_once(mailings_env: MailingsEnvironment) -> None:
    mailing_id = start_mailing(mailings_env, 1000)
    mailings_env.sender.faults = Faults(slow=0.01)
    threads = [threading.Thread(target=mailings_env.dispatch, args=[mailing_id]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert mailings_env.statuses() == {"SENT": 1000}
    assert set(mailings_env.sender.seen.values()) == {1}


def test_results_are_stored_after_database_sessions_were_terminated(mailings_env: MailingsEnvironment) -> None:
    """The database sessions are terminated during the sends; no message is sent again because of this."""
    mailing_id = start_mailing(mailings_env, 20)
    mailings_env.sender.faults = Faults(slow=0.5)
    run_during(
        lambda: mailings_env.dispatch(mailing_id, timeout=3),
        lambda: mailings_env.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ),
        when=lambda: len(mailings_env.sender.seen) == 20,
    )
    assert mailings_env.statuses() == {"SENT": 20}
    assert set(mailings_env.sender.seen.values()) == {1}


def test_storing_a_result_twice_has_no_second_effect(mailings_env: MailingsEnvironment) -> None:
    mailing_id = start_mailing(mailings_env, 1)

    async def run() -> list[set[int]]:
        async with dispatcher(mailings_env) as (one, _):
            (claimed,) = await one._claim(Mailing(mailing_id, '"x"', None), 0) or []
            return [await one._store_once([MessageResult(claimed, "SENT", 1)]) for _ in range(2)]

    assert asyncio.run(run()) == [{1}, set()]
    assert mailings_env.query(OUTCOMES) == [("SENT", 1, None, None)]


# --- the rate -----------------------------------------------------------------------------------------------------


def test_rate_limit_is_shared_by_two_workers(mailings_env: MailingsEnvironment) -> None:
    mailing_id = start_mailing(mailings_env, 300)
    start_time = time.time()
    threads = [
        threading.Thread(target=mailings_env.dispatch, args=[mailing_id], kwargs={"rate": 100, "seconds": 60})
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert mailings_env.statuses() == {"SENT": 300}
    arrivals = sorted(arrival.at for arrival in mailings_env.sender.arrivals)
    for first, later in zip(arrivals, arrivals[100:], strict=False):
        # Each of the two workers takes 5 rate slots at a time.
        assert later - first > 0.85
    assert time.time() - start_time < 30


def test_claims_do_not_lapse_at_a_low_rate(mailings_env: MailingsEnvironment) -> None:
    mailing_id = start_mailing(mailings_env, 30)
    start_time = time.monotonic()
    mailings_env.dispatch(mailing_id, rate=20, lease_seconds=2, seconds=60)
    assert mailings_env.statuses() == {"SENT": 30}
    assert time.monotonic() - start_time > 1.3
    assert set(mailings_env.sender.seen.values()) == {1}


SLOW: dict[str, Any] = {"rate": 0.02, "lease_seconds": 2, "timeout": 1, "seconds": 5}
CLAIMED = "SELECT 1 FROM mailings.message WHERE claim IS NOT NULL"
LATER = "INSERT INTO mailings.send_rate (next_at) VALUES (clock_timestamp() + %s * interval '1 second')"


def test_two_workers_send_at_a_rate_slower_than_the_lease(mailings_env: MailingsEnvironment) -> None:
    mailing_id = start_mailing(mailings_env, 6)
    # A rate slot is due every 0.5 s. A new lease has 0.7 s, of which a send and its commit need 0.6 s.
    chosen = {"rate": 2, "lease_seconds": 0.2, "timeout": 0.5, "seconds": 30}
    threads = [threading.Thread(target=mailings_env.dispatch, args=[mailing_id], kwargs=chosen) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert mailings_env.statuses() == {"SENT": 6}
    assert set(mailings_env.sender.seen.values()) == {1}
    assert mailings_env.query("SELECT DISTINCT attempts FROM mailings.message") == [(1,)]
    arrivals = sorted(arrival.at for arrival in mailings_env.sender.arrivals)
    # A single request may be delayed by some tenths of a second, but the delays do not add up.
    assert arrivals[-1] - arrivals[0] > 5 * 0.5 - 0.3


def test_every_rate_slot_of_a_slow_rate_is_used(mailings_env: MailingsEnvironment) -> None:
    """The test advances the time by hand: an unused rate slot would cost 50 seconds."""
    mailing_id = start_mailing(mailings_env, 4)
    for sent in range(1, 5):
        mailings_env.dispatch(mailing_id, **SLOW)
        assert mailings_env.statuses()["SENT"] == sent
        assert 45 < mailings_env.query(SECONDS_TO_NEXT_SEND)[0][0] <= 50
        mailings_env.dispatch(mailing_id, **SLOW)  # no slot is due yet, and the task does not wait for one
        assert mailings_env.statuses()["SENT"] == sent
        assert mailings_env.query("SELECT count(*) FROM mailings.message WHERE claim IS NOT NULL") == [(0,)]
        mailings_env.query("UPDATE mailings.send_rate SET next_at = next_at - interval '50 seconds'")
    assert set(mailings_env.sender.seen.values()) == {1}


def test_lease_is_renewed_while_its_message_waits_for_a_rate_slot(mailings_env: MailingsEnvironment) -> None:
    mailing_id = start_mailing(mailings_env, 1)
    mailings_env.query(LATER, 3)
    leases: list[tuple[str, float]] = []

    def read_leases() -> None:
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            leases.extend(mailings_env.query(f"SELECT claim, ({PAUSE}) FROM mailings.message"))
            time.sleep(0.02)

    run_during(
        lambda: mailings_env.dispatch(mailing_id, rate=0.02, lease_seconds=0.5, timeout=0.3),
        read_leases,
        when=lambda: mailings_env.query(CLAIMED),
    )
    assert len({claim for claim, _ in leases}) == 1
    assert min(left for _, left in leases) > 0
    assert mailings_env.query(OUTCOMES) == [("SENT", 1, None, None)]


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ("UPDATE mailings.mailing SET paused_at = now()", ("Pending", None)),
        ("UPDATE mailings.mailing SET deleted_at = now()", ("FAILED", "mailing deleted")),
        ("UPDATE mailings.mailing SET end_time = now()", ("TIMEOUT", None)),
        ("DELETE FROM mailings.client", ("FAILED", "client deleted")),
    ],
)
def test_message_waiting_for_a_rate_slot_ends_with_its_mailing_without_using_one(
    mailings_env: MailingsEnvironment, change: str, outcome: tuple[str, str | None]
) -> None:
    mailing_id = start_mailing(mailings_env, 1)
    mailings_env.query(LATER, 40)
    run_during(
        lambda: mailings_env.dispatch(mailing_id, rate=0.02, lease_seconds=20, seconds=60),
        lambda: mailings_env.query(change),
        when=lambda: mailings_env.query(CLAIMED),
    )
    assert not mailings_env.sender.seen
    assert mailings_env.query("SELECT status, reason, attempts, claim FROM mailings.message") == [(*outcome, 0, None)]
    assert 0 < mailings_env.query(SECONDS_TO_NEXT_SEND)[0][0] < 40, "the turn was waited for"


def test_stopped_worker_does_not_wait_for_a_rate_slot(mailings_env: MailingsEnvironment) -> None:
    mailing_id = start_mailing(mailings_env, 3)
    mailings_env.query(LATER, 40)

    working: list[Dispatcher] = []

    async def run() -> None:
        async with dispatcher(mailings_env, rate=0.02, lease_seconds=20) as (one, _):
            working.append(one)
            await asyncio.gather(*(one.dispatch(mailing_id, 60) for _ in range(2)))

    run_during(lambda: asyncio.run(run()), lambda: working[0].stop(), when=lambda: mailings_env.query(CLAIMED))
    assert mailings_env.query("SELECT DISTINCT status, attempts, claim FROM mailings.message") == [("Pending", 0, None)]
    assert 0 < mailings_env.query(SECONDS_TO_NEXT_SEND)[0][0] < 40, "the turn was waited for"


def test_rate_slot_stored_at_a_slower_rate_does_not_delay_a_faster_rate(mailings_env: MailingsEnvironment) -> None:
    mailing_id = start_mailing(mailings_env, 5)
    mailings_env.query(LATER, 40_000)
    mailings_env.dispatch(mailing_id, rate=100)
    assert mailings_env.statuses() == {"SENT": 5}
    assert mailings_env.query(SECONDS_TO_NEXT_SEND)[0][0] < 1


def test_internal_error_of_one_message_does_not_affect_the_others(mailings_env: MailingsEnvironment) -> None:
    mailing_id = start_mailing(mailings_env, 10)

    async def run() -> None:
        async with dispatcher(mailings_env) as (one, _):
            attempt = one._attempt

            async def broken(mailing: Mailing, message: Claimed) -> MessageResult:
                if message.message_id == 3:
                    raise RuntimeError("a mistake")
                return await attempt(mailing, message)

            one._attempt = broken  # type: ignore[method-assign]
            await one.dispatch(mailing_id)

    asyncio.run(run())
    assert mailings_env.statuses() == {"SENT": 9, "Pending": 1}
    mailings_env.query("UPDATE mailings.message SET next_attempt_at = now() WHERE status = 'Pending'")
    mailings_env.dispatch(mailing_id)
    assert mailings_env.statuses() == {"SENT": 10}
