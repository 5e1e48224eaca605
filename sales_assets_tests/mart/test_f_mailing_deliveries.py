"""``mart.f_mailing_deliveries`` and its statistics: results of messages, by the day their mailing started."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import dagster as dg
import psycopg
import pytest

from sales_assets import settings as settings_module
from sales_assets.dagster_internals import range_tags
from sales_assets.defs.automation.new_deliveries import new_deliveries
from sales_assets.defs.checking import evaluate
from sales_assets.defs.mart.f_mailing_deliveries import F_MAILING_DELIVERIES, F_MAILING_STATISTICS, delivery_checks
from sales_assets.pipeline.sums import NotReconciledError
from sales_assets.postgres.warehouse import Transaction, Warehouse
from sales_assets_tests.builders import job
from sales_assets_tests.mailings.conftest import Query, Run, failed_checks, metadata_of

DAY = "2024-10-01"
ROWS = "SELECT message_id, date_id, status FROM mart.f_mailing_deliveries ORDER BY message_id"
COUNTS = (
    "SELECT date_id, mailing_id, messages, pending, sent, failed, timed_out, attempts, linked_customers "
    "FROM mart.f_mailing_statistics ORDER BY date_id, mailing_id"
)
SOON = dt.datetime.now(dt.UTC) + dt.timedelta(days=2)

Mail = Callable[..., int]
Message = Callable[..., int]


@pytest.fixture
def mail(query: Query) -> Mail:
    """Return a function that starts a mailing and returns its id."""

    def add(started: str = "2024-10-01T12:00:00Z", end: Any = SOON, tag: str | None = None) -> int:
        ((number,),) = query(
            "INSERT INTO mailings.mailing (text, tag_filter, start_time, end_time, state, started_at) "
            "VALUES ('a secret text', %s, %s, %s, 'running', %s) RETURNING mailing_id",
            tag, started, end, started,
        )  # fmt: skip
        assert isinstance(number, int)
        return number

    return add


@pytest.fixture
def message(query: Query) -> Message:
    """Return a function that inserts a message and returns its id."""

    def add(
        mailing: int,
        client: int,
        status: str = "Pending",
        at: str = "2024-10-01T12:00:00Z",
        seconds: float = 2.5,
        attempts: int = 0,
        reason: str | None = None,
    ) -> int:
        ((number,),) = query(
            "INSERT INTO mailings.message (mailing_id, client_id, status, attempts, reason, next_attempt_at, "
            "created_at, finished_at) VALUES (%s, %s, %s, %s, %s, %s, %s, "
            "CASE WHEN %s <> 'Pending' THEN %s::timestamptz + make_interval(secs => %s) END) RETURNING message_id",
            mailing, client, status, attempts, reason, at, at, status, at, seconds,
        )  # fmt: skip
        assert isinstance(number, int)
        return number

    return add


@pytest.fixture
def load(instance: dg.DagsterInstance, warehouse_url: str) -> Run:
    """Return a function that runs the job for a range of days as one run."""

    def run(first: str = DAY, last: str | None = None) -> dg.ExecuteInProcessResult:
        tags = range_tags(first, last or first)
        return job("load_mailing_deliveries").execute_in_process(instance=instance, tags=tags)

    return run


def end(query: Query, message_id: int, status: str = "SENT") -> None:
    query(
        "UPDATE mailings.message SET status = %s, attempts = attempts + 1, finished_at = now() WHERE message_id = %s",
        status,
        message_id,
    )


# --- rows -------------------------------------------------------------------------------------------------------


def test_a_row_contains_the_result_of_a_message(
    mail: Mail, message: Message, client: Callable[..., int], load: Run, query: Query
) -> None:
    linked, other = client(), client("79210000002")
    query("INSERT INTO mailings.client_customer VALUES (%s, 51, 'api')", linked)
    first, second = mail(tag="refunded"), mail()
    sent = message(first, linked, "SENT", attempts=2)
    message(first, other, "FAILED", attempts=5, reason="the sender answered 500")
    message(first, 77, "TIMEOUT")
    message(second, linked)
    result = load()
    assert failed_checks(result) == {"few_failed"}
    assert query("SELECT * FROM mart.f_mailing_deliveries WHERE message_id = %s", sent) == [
        (
            sent,
            20241001,
            first,
            linked,
            51,
            "refunded",
            None,
            "SENT",
            2,
            None,
            dt.datetime(2024, 10, 1, 12, tzinfo=dt.UTC),
            dt.datetime(2024, 10, 1, 12, 0, 2, 500_000, tzinfo=dt.UTC),
            pytest.approx(2.5),
        )
    ]
    # Messages of a deleted client remain.
    assert query("SELECT client_id, customer_id, status, reason, seconds_to_deliver FROM mart.f_mailing_deliveries "
                 "WHERE message_id <> %s ORDER BY message_id", sent) == [
        (other, None, "FAILED", "the sender answered 500", None),
        (77, None, "TIMEOUT", None, None),
        (linked, 51, "Pending", None, None),
    ]  # fmt: skip
    assert query(COUNTS) == [(20241001, first, 3, 0, 1, 1, 1, 7, 1), (20241001, second, 1, 1, 0, 0, 0, 0, 1)]
    assert metadata_of(result, F_MAILING_DELIVERIES, DAY) == {
        "messages": 4,
        "mailings": 2,
        "pending": 1,
        "sent": 1,
        "failed": 1,
        "timed out": 1,
        "to unlinked clients": 2,
    }
    assert metadata_of(result, F_MAILING_STATISTICS, DAY) == {"mailings": 2, "attempts": 7, "slowest seconds": 2.5}


def test_phones_and_texts_do_not_reach_the_mart(
    mail: Mail, message: Message, client: Callable[..., int], load: Run, query: Query
) -> None:
    message(mail(), client("79215557788"), "SENT")
    load()
    for table in ("f_mailing_deliveries", "f_mailing_statistics"):
        ((row,),) = query(f"SELECT string_agg(t::text, ' ') FROM mart.{table} AS t")
        assert row
        assert "9215557788" not in row
        assert "secret" not in row


def test_median_and_slowest(mail: Mail, message: Message, load: Run, query: Query) -> None:
    mailing = mail()
    for number, seconds in enumerate((1, 2, 9)):
        message(mailing, number, "SENT", seconds=seconds)
    message(mailing, 9, "TIMEOUT", seconds=500)
    load()
    assert query("SELECT median_seconds::text, slowest_seconds::text FROM mart.f_mailing_statistics") == [
        ("2.000", "9.000")
    ]


# --- days -------------------------------------------------------------------------------------------------------


def test_loading_twice_changes_nothing_and_a_range_equals_its_days(
    mail: Mail, message: Message, load: Run, query: Query
) -> None:
    for day in range(1, 5):
        mailing = mail()
        for number, status in enumerate(("SENT", "Pending", "FAILED", "TIMEOUT")):
            message(mailing, number, status, at=f"2024-10-0{day}T23:59:59Z")
    everything = "SELECT *, xmin::text FROM mart.f_mailing_deliveries ORDER BY message_id"
    for day in (3, 1, 4, 2):
        load(f"2024-10-0{day}")
    by_days = query(everything)
    assert len(by_days) == 16
    counts = query(COUNTS)
    load("2024-10-01", "2024-10-04")
    assert query(everything) == by_days, "what did not change was not written"
    assert query(COUNTS) == counts


def test_a_day_follows_its_messages_until_they_end(mail: Mail, message: Message, load: Run, query: Query) -> None:
    mailing = mail()
    first, second = message(mailing, 1), message(mailing, 2)
    load()
    assert query(ROWS) == [(first, 20241001, "Pending"), (second, 20241001, "Pending")]
    end(query, first)
    load()
    assert query(ROWS) == [(first, 20241001, "SENT"), (second, 20241001, "Pending")]
    end(query, second, "TIMEOUT")
    load()
    assert query(ROWS) == [(first, 20241001, "SENT"), (second, 20241001, "TIMEOUT")]
    assert query(COUNTS) == [(20241001, mailing, 2, 0, 1, 0, 1, 2, 0)]


def test_a_smaller_day_loses_rows_and_other_days_are_unchanged(
    mail: Mail, message: Message, load: Run, query: Query
) -> None:
    first, second = mail(), mail()
    gone = message(first, 1, "SENT")
    stays = message(second, 1, "SENT", at="2024-10-02T00:00:00Z")
    load("2024-10-01", "2024-10-02")
    query("DELETE FROM mailings.message WHERE message_id = %s", gone)
    query("UPDATE mailings.message SET attempts = 3 WHERE message_id = %s", stays)
    load("2024-10-01")
    assert query(ROWS) == [(stays, 20241002, "SENT")]
    assert query(COUNTS) == [(20241002, second, 1, 0, 1, 0, 0, 0, 0)]


@pytest.mark.parametrize(("zone", "day"), [("UTC", 20241001), ("Europe/Moscow", 20241002)])
def test_the_day_is_determined_in_the_time_zone_of_the_shop(
    mail: Mail, message: Message, load: Run, query: Query, monkeypatch: pytest.MonkeyPatch, zone: str, day: int
) -> None:
    monkeypatch.setenv("SALES_TIMEZONE", zone)
    settings_module.settings.cache_clear()
    message(mail(), 1, "SENT", at="2024-10-01T22:00:00Z")
    assert failed_checks(load("2024-10-01", "2024-10-02")) == set()
    assert query("SELECT date_id FROM mart.f_mailing_deliveries") == [(day,)]
    assert query("SELECT date_id FROM mart.f_mailing_statistics") == [(day,)]


def test_a_message_that_changes_its_day_with_the_time_zone_counts_once(
    mail: Mail, message: Message, load: Run, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = message(mail(), 1, "SENT", at="2024-10-01T22:00:00Z")
    load()
    monkeypatch.setenv("SALES_TIMEZONE", "Europe/Moscow")
    settings_module.settings.cache_clear()
    load("2024-10-01", "2024-10-02")
    assert query(ROWS) == [(number, 20241002, "SENT")]
    assert [row[0] for row in query(COUNTS)] == [20241002]


def test_messages_sent_during_a_run_do_not_break_it(
    mail: Mail, message: Message, load: Run, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = message(mail(), 1)
    rows = Transaction.rows

    def send_first(self: Any, file: str, name: str, /, **parameters: object) -> list[dict[str, Any]]:
        if file == "checks/equal_to_messages" and query(
            "SELECT 1 FROM mailings.message WHERE message_id = %s AND status = 'Pending'", number
        ):
            end(query, number)
        return rows(self, file, name, **parameters)

    monkeypatch.setattr(Transaction, "rows", send_first)
    assert failed_checks(load()) == set()
    assert query("SELECT status FROM mailings.message") == [("SENT",)]
    assert query(ROWS) == [(number, 20241001, "Pending")]


def test_a_day_that_differs_from_the_service_is_not_committed(
    mail: Mail, message: Message, load: Run, query: Query
) -> None:
    message(mail(), 1, "SENT")
    query(
        "CREATE FUNCTION mart.lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$; "
        "CREATE TRIGGER lose BEFORE INSERT ON mart.f_mailing_deliveries FOR EACH ROW EXECUTE FUNCTION mart.lose()"
    )
    with pytest.raises(NotReconciledError, match="20241001: message 1: SENT in the service, nothing in the mart"):
        load()


@pytest.mark.usefixtures("no_waiting_for_locks")
def test_two_runs_are_serialized(warehouse_url: str, load: Run, query: Query) -> None:
    with psycopg.connect(warehouse_url) as other:
        other.execute("LOCK TABLE mart.f_mailing_deliveries IN ROW EXCLUSIVE MODE")  # the lock that a writer holds
        with pytest.raises(psycopg.errors.LockNotAvailable):
            load()


# --- checks -----------------------------------------------------------------------------------------------------

LONG_AGO = "start_time = '2020-01-01', end_time = now() - interval '11 minutes'"


# (statement, the check that fails, the beginning of its example)
CORRUPTIONS = [
    ("DELETE FROM mart.f_mailing_deliveries WHERE message_id = 1", "equal_to_messages",
     "message 1: SENT in the service, nothing in the mart"),
    ("DELETE FROM mailings.message WHERE message_id = 1", "equal_to_messages",
     "message 1: nothing in the service, SENT in the mart"),
    ("UPDATE mailings.message SET status = 'FAILED' WHERE message_id = 1", "equal_to_messages",
     "message 1: FAILED in the service, SENT in the mart"),
    ("UPDATE mailings.message SET attempts = 9 WHERE message_id = 1", "equal_to_messages", "message 1:"),
    (f"UPDATE mailings.mailing SET {LONG_AGO}", "pending_ends", "mailing 1, which ended"),
    ("UPDATE mailings.mailing SET deleted_at = now() - interval '11 minutes'", "pending_ends", "mailing 1, which"),
    ("DELETE FROM mailings.mailing", "pending_ends", "mailing 1, which ended"),
    ("DELETE FROM mailings.message_count", "counts_of_messages", "mailing 1, Pending: counted 0, there are 1"),
    ("INSERT INTO mailings.message_count VALUES (1, 'SENT', -1)", "counts_of_messages",
     "mailing 1, SENT: counted 9, there are 10"),
    ("INSERT INTO mailings.message_count VALUES (1, 'TIMEOUT', 1)", "counts_of_messages",
     "mailing 1, TIMEOUT: counted 1, there are 0"),
    ("UPDATE mart.f_mailing_deliveries SET status = 'FAILED', reason = 'r' WHERE message_id IN (1, 2)",
     "few_failed", "2 of 10; for instance: r"),
    ("DELETE FROM mart.f_mailing_statistics", "equal_to_deliveries", "mailing 1"),
    ("UPDATE mart.f_mailing_statistics SET sent = sent - 1, failed = failed + 1", "equal_to_deliveries",
     "mailing 1"),
    ("INSERT INTO mart.f_mailing_statistics VALUES (20241001, 9, 0, 0, 0, 0, 0, 0, 0)", "equal_to_deliveries",
     "mailing 9"),
]  # fmt: skip


@pytest.mark.parametrize(("corruption", "check", "example"), CORRUPTIONS)
def test_checks_see_harm(
    mail: Mail, message: Message, load: Run, query: Query, corruption: str, check: str, example: str
) -> None:
    mailing = mail()
    for number in range(10):
        message(mailing, number, "SENT")
    message(mailing, 10)
    assert failed_checks(load()) == set()
    query(corruption)
    for days in ([dt.date(2024, 10, 1)], []):
        results = {str(result.check_name): result for result in evaluate(Warehouse(), delivery_checks(), days)}
        assert not results[check].passed
        table: Any = results[check].metadata["first failing days"]
        assert [record.data["day"] for record in table.records] == ["20241001"]
        assert table.records[0].data["example"].startswith(example)


def test_every_check_has_a_case_above() -> None:
    assert {check for _, check, _ in CORRUPTIONS} == {check.name for check in delivery_checks()}


def test_checks_accept_messages_of_deleted_and_just_ended_mailings(
    mail: Mail, message: Message, load: Run, query: Query
) -> None:
    """Messages that a deletion ended are not failures; a mailing that ended 9 minutes ago may have pending messages."""
    deleted, over = mail(), mail()
    for number, reason in enumerate(("mailing deleted", "client deleted")):
        message(deleted, number, "FAILED", reason=reason)
    message(over, 1, "SENT")
    message(over, 2)
    query("UPDATE mailings.mailing SET start_time = '2020-01-01', end_time = now() - interval '9 minutes' "
          "WHERE mailing_id = %s", over)  # fmt: skip
    query("UPDATE mailings.mailing SET deleted_at = now() WHERE mailing_id = %s", deleted)
    assert failed_checks(load()) == set()


# --- the sensor -------------------------------------------------------------------------------------------------


def sensor_requests(instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    tick_result = new_deliveries(dg.build_sensor_context(instance=instance, resources={"warehouse": Warehouse()}))
    return list(tick_result.run_requests or ()) if isinstance(tick_result, dg.SensorResult) else []


def run(instance: dg.DagsterInstance, request: dg.RunRequest) -> None:
    """Execute a run request, like the daemon."""
    job_result = job("load_mailing_deliveries").execute_in_process(
        instance=instance, partition_key=request.partition_key, tags=dict(request.tags)
    )
    assert job_result.success


def days_of(requests: list[dg.RunRequest]) -> list[str | None]:
    return [request.partition_key for request in requests]


def test_the_sensor_requests_days_until_their_messages_end(
    mail: Mail, message: Message, query: Query, instance: dg.DagsterInstance
) -> None:
    assert sensor_requests(instance) == []
    mailing = mail()
    old, new = message(mailing, 1), message(mail(), 1, at="2024-11-20T12:00:00Z")
    requests = sensor_requests(instance)
    assert days_of(requests) == [DAY, "2024-11-20"]
    for request in requests:
        run(instance, request)
    assert sensor_requests(instance) == []
    end(query, old)
    assert days_of(sensor_requests(instance)) == [DAY], "Pending ones are followed, however old"
    run(instance, sensor_requests(instance)[0])
    assert sensor_requests(instance) == []
    end(query, new, "TIMEOUT")
    message(mailing, 2, at="2024-11-19T23:00:00Z")
    message(mailing, 3, at="2024-11-25T00:00:00Z")
    requests = sensor_requests(instance)
    # The day before the last known one is checked too: a long list of recipients may be committed after a short list of
    # the next day.
    assert days_of(requests) == ["2024-11-19", "2024-11-20", "2024-11-25"]
    for request in requests:
        run(instance, request)
    assert sensor_requests(instance) == []
    assert len(query(ROWS)) == 4


@pytest.mark.parametrize("status", ["Pending", "SENT"])
def test_days_whose_messages_disappeared_are_requested(
    mail: Mail, message: Message, query: Query, instance: dg.DagsterInstance, status: str
) -> None:
    """A restored backup may lack messages of the last known day, or of a day with pending messages."""
    message(mail(), 1)
    message(mail("2024-11-20T12:00:00Z"), 1, status, at="2024-11-20T12:00:00Z")
    for request in sensor_requests(instance):
        run(instance, request)
    query("DELETE FROM mailings.message")
    requests = sensor_requests(instance)
    assert days_of(requests) == [DAY, "2024-11-20"]
    for request in requests:
        run(instance, request)
    assert (sensor_requests(instance), query(ROWS), query(COUNTS)) == ([], [], [])


def test_stuck_messages_are_requested_again_but_not_every_minute(
    mail: Mail, message: Message, query: Query, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailing = mail()
    message(mailing, 1)
    run(instance, sensor_requests(instance)[0])
    assert sensor_requests(instance) == []
    query(f"UPDATE mailings.mailing SET {LONG_AGO}")
    (request,) = sensor_requests(instance)
    run(instance, request)
    assert sensor_requests(instance) == [], "nothing has changed"
    monkeypatch.setattr("sales_assets.defs.automation.run_requests.LONGEST_PAUSE", dt.timedelta(0))
    assert days_of(sensor_requests(instance)) == [DAY], "after a while it is worth another look"


def test_no_day_is_requested_during_a_run(mail: Mail, message: Message, instance: dg.DagsterInstance) -> None:
    message(mail(), 1)
    instance.create_run_for_job(job("load_mailing_deliveries"), status=dg.DagsterRunStatus.STARTED)
    assert sensor_requests(instance) == []


def test_days_outside_the_calendar_are_not_requested(
    mail: Mail, message: Message, instance: dg.DagsterInstance
) -> None:
    message(mail("2019-06-01"), 1, at="2019-06-01")
    assert sensor_requests(instance) == []


def test_today_is_a_partition(
    mail: Mail, message: Message, query: Query, instance: dg.DagsterInstance, today: dt.date
) -> None:
    message(mail(), 1, "SENT", at=dt.datetime.now(dt.UTC).isoformat())
    run(instance, sensor_requests(instance)[0])
    assert [row[1] for row in query(ROWS)] == [int(f"{today:%Y%m%d}")]
