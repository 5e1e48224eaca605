"""The sensor `alerts`: each cause opens once, is not repeated and ends once, even during other outages.

`Ticks` evaluates the sensor like the daemon and records its messages; `resources/test_alert_receivers.py` sends to real
receivers, and `faults/test_ui_up.py` tests sensor and receivers with the whole platform.
"""

import datetime as dt
import logging
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dagster as dg
import pytest
from sqlalchemy.exc import OperationalError

from sales_assets.dagster_internals import range_tags
from sales_assets.defs.automation import alerts as sensor_module
from sales_assets.defs.automation.alert_state import State
from sales_assets.defs.automation.alerts import alerts
from sales_assets.defs.checking import SqlCheck, result_of
from sales_assets.resources.alert_receivers import Delivery, Message, Receivers
from sales_assets_tests.builders import Order, definitions
from sales_assets_tests.fixtures import F_SALES, Shop
from sales_assets_tests.resources.receivers import clear_settings_cache, webhook

Query = Callable[..., list[tuple[Any, ...]]]

FIRST, SECOND, THIRD = "2024-10-01", "2024-10-02", "2024-10-03"
# A time before the first day is due, so that no day is missing, and a time after.
EARLY, LATE = dt.datetime(2024, 10, 2, 8, tzinfo=dt.UTC), dt.datetime(2024, 10, 4, 10, tzinfo=dt.UTC)


class RecordingLog(logging.Handler):
    """Records warnings."""

    def __init__(self, texts: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._texts = texts

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.WARNING:
            self._texts.append(record.getMessage())


class Ticks:
    """The sensor with an instance and its cursor, and the messages of the last tick."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.cursor: str | None = None
        self.texts: list[str] = []
        self.warnings: list[str] = []
        self.reason = ""

    def __call__(self) -> list[str]:
        """Evaluate the sensor; return the titles of the messages."""
        self.texts, self.warnings = [], []
        context = dg.build_sensor_context(self.instance, cursor=self.cursor, definitions=definitions())
        context.log.addHandler(RecordingLog(self.warnings))
        result = alerts(context)
        assert isinstance(result, dg.SensorResult)
        assert not result.run_requests
        self.cursor = result.cursor
        assert result.skip_reason is not None
        self.reason = result.skip_reason.skip_message or ""
        return [text.partition("\n")[0] for text in self.texts]

    def take(self, messages: Mapping[str, Sequence[Message]], seconds: float) -> dict[str, Delivery]:
        assert 10 <= seconds <= 50
        for of_one in messages.values():
            self.texts += [f"{message.title}\n{message.text}".removeprefix("sales_assets, ") for message in of_one]
        return {name: Delivery(len(of_one)) for name, of_one in messages.items()}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[dt.datetime], None]:
    def set_now(moment: dt.datetime) -> None:
        monkeypatch.setattr(sensor_module, "_now", lambda: moment)

    return set_now


@pytest.fixture
def sending_tick(
    instance: dg.DagsterInstance,
    warehouse_url: str,
    clock: Callable[[dt.datetime], None],
    monkeypatch: pytest.MonkeyPatch,
) -> Ticks:
    """Return the sensor of a platform with the first day October 1st, before a day is due. Messages are really sent."""
    monkeypatch.setenv("ALERT_URLS", "json://127.0.0.1:9/t0ken-0f-the-webhook")
    monkeypatch.setenv("SALES_FIRST_DAY", FIRST)
    clear_settings_cache()
    clock(EARLY)
    return Ticks(instance)


@pytest.fixture
def tick(sending_tick: Ticks, monkeypatch: pytest.MonkeyPatch) -> Ticks:
    """Return the sensor with a receiver that records the messages."""
    monkeypatch.setattr(Receivers, "send", sending_tick.take)
    return sending_tick


def run(
    instance: dg.DagsterInstance, *days: str, job: str = "load_days", error: Exception | None = None, **tags: str
) -> str:
    """Run a job of this name over days, failing with `error` if given; return the run's id."""

    @dg.op
    def step() -> None:
        if error is not None:
            raise error

    @dg.job(name=job, tags=tags | (range_tags(days[0], days[-1]) if days else {}))
    def made() -> None:
        step()

    return made.execute_in_process(instance=instance, raise_on_error=False).run_id


def materialized(instance: dg.DagsterInstance, *assets: dg.AssetKey, error: str = "") -> None:
    """Record a run that was started by "Materialize" or an automation condition; all share the name of their job."""
    run = dg.DagsterRun(
        job_name="__ASSET_JOB",
        run_id=str(uuid.uuid4()),
        status=dg.DagsterRunStatus.STARTED,
        asset_selection=frozenset(assets),
    )
    instance.add_run(run)
    if error:
        instance.report_run_failed(run, error)
    else:
        success = dg.DagsterEvent(dg.DagsterEventType.RUN_SUCCESS.value, run.job_name, message="")
        instance.report_dagster_event(success, run.run_id)


def evaluated(
    instance: dg.DagsterInstance, *failing: str, period: str, name: str = "signs", label: str = "days checked"
) -> None:
    """Report the result of a check over days, like a load."""
    rows: list[dict[str, object]] = [
        {"date_id": int(day.replace("-", "")), "offending": 3, "example": "Anna"} for day in failing
    ]
    result = result_of(SqlCheck(name, F_SALES, "Refunded rows are not above zero."), rows, {label: period})
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=F_SALES, check_name=name, passed=result.passed, metadata=result.metadata,
            severity=result.severity, description=result.description,
        )
    )  # fmt: skip


def test_a_load_with_failing_days_is_one_alert_until_its_days_are_loaded(tick: Ticks, dagster_shop: Shop) -> None:
    shop = dagster_shop
    for day in (FIRST, SECOND):
        shop.reports.increment(day, None, user_orders_log="17,Anna,anna@mail.example\n")
    shop.reports.increment(THIRD, [Order("c", day=THIRD)])
    shop.fail_to_load(FIRST, THIRD)
    assert tick() == ["alert: load_days failed"]
    (text,) = tick.texts
    assert f"\n{FIRST} to {SECOND}: user_orders_log_inc/{SECOND}/" in text
    assert ": there is no header: found '...'" in text
    assert "Anna" not in text
    assert "Since 2024-10-02 08:00 UTC." in text
    assert f"`sales-assets why {FIRST}` explains a day" in text
    assert f"`sales-assets load --from {FIRST} --to {SECOND}`" in text
    assert "\nhttp://127.0.0.1:3000/runs/" in text
    assert tick() == []
    shop.fail_to_load(FIRST)  # the sensor new_increments repeats failed loads
    assert tick() == []

    shop.reports.increment(FIRST, [Order("a", day=FIRST)])
    shop.load(FIRST)
    assert tick() == []
    shop.reports.increment(SECOND, [Order("b", day=SECOND)])
    shop.load(SECOND)
    assert tick() == ["resolved: load_days failed"]
    assert "A later run succeeded.\nFrom 2024-10-02 08:00 UTC to 2024-10-02 08:00 UTC." in tick.texts[0]
    assert tick() == []


def test_the_same_reason_on_many_days_is_one_cause(tick: Ticks) -> None:
    """The runs are of single days, and their reasons differ only in days, ids and times."""
    for number, day in enumerate((FIRST, SECOND, THIRD)):
        run(tick.instance, day, error=RuntimeError(f"{day}: no answer after {number}.5 s (request 7f{number})"))
    assert tick() == ["alert: load_days failed"]
    assert f"{FIRST} to {THIRD}: " in tick.texts[0]
    run(tick.instance, "2024-10-04", error=RuntimeError("2024-10-04: the key was refused"))
    assert tick() == ["alert: load_days failed"]
    assert "the key was refused" in tick.texts[0]
    run(tick.instance, FIRST, "2024-10-04", job="another_job")
    assert tick() == []
    run(tick.instance, FIRST, "2024-10-04")
    assert tick() == ["resolved: 2 causes for which load_days failed"]


def test_a_failed_year_is_one_message(tick: Ticks) -> None:
    run(tick.instance, "2023-10-01", "2024-09-30", error=RuntimeError("the disk is full"))
    assert tick() == ["alert: load_days failed"]
    assert "2023-10-01 to 2024-09-30: RuntimeError: the disk is full" in tick.texts[0]
    assert len(tick.texts[0]) < 500


def test_a_failed_run_is_resolved_by_another_job_with_its_assets(tick: Ticks, dagster_shop: Shop) -> None:
    """`sales-assets load` runs a different job than the sensor."""
    shop = dagster_shop
    shop.reports.report([Order("r", day="2024-09-30")])
    run(tick.instance, FIRST, error=RuntimeError("away"))
    run(tick.instance, job="load_report", error=RuntimeError("away"))
    assert tick() == ["alert: load_days failed", "alert: load_report failed"]
    assert "run it again in the Dagster UI" in tick.texts[1]
    result = (
        definitions()
        .resolve_job_def("load_report_and_days")
        .execute_in_process(instance=tick.instance, tags=range_tags(FIRST, FIRST))
    )
    assert result.success
    assert tick() == ["resolved: load_days failed", "resolved: load_report failed"]
    run(tick.instance, job="load_report", error=RuntimeError("away"))
    assert tick() == ["alert: load_report failed"]
    run(tick.instance, FIRST)
    assert tick() == [], "the days are loaded of the former report"
    run(tick.instance, job="load_report")
    assert tick() == ["resolved: load_report failed"]


def test_a_failed_materialization_is_resolved_by_its_assets_only(tick: Ticks) -> None:
    """All materializations from the UI and by automation conditions are runs of one job."""
    overview, week, unrelated = (
        dg.AssetKey(path)
        for path in (["reports", "sales_overview"], ["mart", "f_customer_retention"], ["mart", "d_item"])
    )
    materialized(tick.instance, overview, error="away")
    materialized(tick.instance, week, error="away")
    assert tick() == ["alert: 2 materializations failed"]
    assert "- The materialization of reports/sales_overview failed\naway" in tick.texts[0]
    materialized(tick.instance, unrelated)
    assert tick() == []
    materialized(tick.instance, week)
    assert tick() == ["resolved: The materialization of mart/f_customer_retention failed"]
    materialized(tick.instance, week, overview)
    assert tick() == ["resolved: The materialization of reports/sales_overview failed"]


def test_a_run_that_dagster_will_retry_causes_no_alert(tick: Ticks) -> None:
    run(tick.instance, FIRST, error=RuntimeError("the worker was lost"), **{"dagster/will_retry": "true"})
    assert tick() == []


def test_failures_long_before_alerts_were_switched_on_are_not_reported(
    tick: Ticks, clock: Callable[[dt.datetime], None]
) -> None:
    run(tick.instance, FIRST, error=RuntimeError("away"))
    clock(dt.datetime.now(dt.UTC) + dt.timedelta(days=2))
    assert [title for title in tick() if "load_days" in title] == []


def test_a_failing_check_is_resolved_when_its_days_pass(tick: Ticks) -> None:
    evaluated(tick.instance, FIRST, THIRD, period=f"{FIRST} to {THIRD}")
    assert tick() == ["alert: The check signs of mart/f_sales fails"]
    assert f"{FIRST}, {THIRD}: 6 offending rows. Refunded rows are not above zero." in tick.texts[0]
    assert "\nhttp://127.0.0.1:3000/assets/mart/f_sales?view=checks&checkDetail=signs" in tick.texts[0]
    assert "Anna" not in tick.texts[0]
    evaluated(tick.instance, FIRST, period=f"{FIRST} to {FIRST}")
    evaluated(tick.instance, period="2024-10-05 to 2024-10-09")
    evaluated(tick.instance, period="2024-10-05 to 2024-10-09", label="days asked")  # by version 0.1
    assert tick() == []
    evaluated(tick.instance, period=f"{FIRST} to {SECOND}")
    assert tick() == []
    evaluated(tick.instance, period=f"{THIRD} to {THIRD}")
    assert tick() == ["resolved: The check signs of mart/f_sales fails"]


def test_a_day_that_passes_while_others_fail_is_removed(tick: Ticks) -> None:
    evaluated(tick.instance, FIRST, period=f"{FIRST} to {THIRD}")
    evaluated(tick.instance, THIRD, period=f"{FIRST} to {THIRD}")
    assert tick() == ["alert: The check signs of mart/f_sales fails"]
    assert f"\n{THIRD}: 3 offending rows." in tick.texts[0]
    evaluated(tick.instance, period=f"{THIRD} to {THIRD}")
    assert tick() == ["resolved: The check signs of mart/f_sales fails"]


@pytest.mark.parametrize("period", [SECOND, f"{SECOND}, {THIRD}", f"2024-09-20 to 2024-09-25, {SECOND} to {THIRD}"])
def test_a_check_over_other_days_resolves_nothing(tick: Ticks, period: str) -> None:
    """The check of the lake lists single days and several spans."""
    evaluated(tick.instance, FIRST, period=FIRST)
    assert tick() == ["alert: The check signs of mart/f_sales fails"]
    evaluated(tick.instance, period=period)
    assert tick() == []
    evaluated(tick.instance, period=f"{FIRST}, 2024-10-09")
    assert tick() == ["resolved: The check signs of mart/f_sales fails"]


def test_many_failing_days_of_the_whole_history_are_not_resolved_by_one_day(tick: Ticks) -> None:
    """The result lists the first failing days only, so that the others are not known."""
    many = [str(dt.date(2023, 1, 1) + dt.timedelta(days=number)) for number in range(100)]
    evaluated(tick.instance, *many, period="the whole history")
    assert tick() == ["alert: The check signs of mart/f_sales fails"]
    evaluated(tick.instance, period=f"{FIRST} to {FIRST}")
    evaluated(tick.instance, SECOND, period=f"{SECOND} to {SECOND}")
    evaluated(tick.instance, period=f"{SECOND} to {SECOND}")
    assert tick() == []
    evaluated(tick.instance, THIRD, period="the whole history")
    assert tick() == []
    evaluated(tick.instance, period=f"{THIRD} to {THIRD}")
    assert tick() == ["resolved: The check signs of mart/f_sales fails"]


def test_checks_that_fail_together_share_a_message_until_the_whole_history_passes(tick: Ticks) -> None:
    for name in ("signs", "statuses"):
        evaluated(tick.instance, FIRST, period="the whole history", name=name)
    evaluated(tick.instance, FIRST, period="the whole history", name="quarantine_empty")
    assert tick() == ["alert: 2 checks fail"]
    for name in ("signs", "statuses"):
        evaluated(tick.instance, period="the whole history", name=name)
    assert tick() == ["resolved: 2 checks fail"]


@pytest.mark.parametrize(
    ("zone", "due", "moment", "is_late"),
    [
        ("UTC", "09:00", "2024-10-02T08:59:00Z", False),
        ("UTC", "09:00", "2024-10-02T09:00:00Z", True),
        ("Europe/Moscow", "09:00", "2024-10-02T05:59:00Z", False),
        ("Europe/Moscow", "09:00", "2024-10-02T06:00:00Z", True),
        # The first day has ended in this zone but not in UTC: its partition doesn't exist yet.
        ("Pacific/Auckland", "00:30", "2024-10-01T23:00:00Z", False),
        ("Pacific/Auckland", "00:30", "2024-10-02T00:00:00Z", True),
    ],
)
def test_a_day_is_missing_from_its_due_time_on(
    tick: Ticks,
    clock: Callable[[dt.datetime], None],
    monkeypatch: pytest.MonkeyPatch,
    zone: str,
    due: str,
    moment: str,
    is_late: bool,
) -> None:
    monkeypatch.setenv("SALES_TIMEZONE", zone)
    monkeypatch.setenv("ALERT_DAY_DUE_AT", due)
    clear_settings_cache()
    clock(dt.datetime.fromisoformat(moment))
    assert tick() == (["alert: Days are missing"] if is_late else [])


def test_missing_days_are_one_cause_until_they_are_loaded(
    tick: Ticks, engine_shop: Shop, clock: Callable[[dt.datetime], None]
) -> None:
    shop = engine_shop
    clock(EARLY + dt.timedelta(hours=2))
    assert tick() == ["alert: Days are missing"]
    assert f"\n{FIRST}: not loaded, though due\n" in tick.texts[0]
    clock(LATE)  # two days later
    assert tick() == []
    for day in (FIRST, SECOND, THIRD):
        shop.reports.increment(day, [Order(day, day=day)])
    shop.load(SECOND)
    assert tick() == []
    shop.load(FIRST)
    shop.load(THIRD)
    assert tick() == ["resolved: Days are missing"]
    clock(LATE + dt.timedelta(days=60))
    assert tick() == ["alert: Days are missing"]
    clock(LATE + dt.timedelta(days=120))  # days too old to count as new are not loaded either
    assert tick() == []


def test_the_quarantine_is_reported_when_it_grows(
    tick: Ticks, engine_shop: Shop, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = engine_shop
    shop.reports.increment(FIRST, [Order("a"), *(f"{number},Anna" for number in range(10))])
    shop.load(FIRST)
    assert tick() == ["alert: The quarantine grows"]
    assert "\n10 rows were rejected within 24 hours; 10 rows wait.\n" in tick.texts[0]
    assert "Anna" not in tick.texts[0]
    assert tick() == []
    query("UPDATE staging.quarantine SET found_at = now() - interval '25 hours' WHERE line_no = 3")
    assert tick() == ["resolved: The quarantine grows"]
    monkeypatch.setenv("ALERT_QUARANTINE_ROWS", "9")
    clear_settings_cache()
    assert tick() == ["alert: The quarantine grows"]


def test_a_stuck_outbox_is_reported_until_it_is_published(tick: Ticks, query: Query) -> None:
    query(
        """INSERT INTO orders.partner_order (order_id, body_hash, order_date, order_type, their_pharmacy_id, phone,
               lines, state, their_order_id) VALUES (1, '', now(), 1, '', '+79161234567', '[]', 'accepted', '777')"""
    )
    query(
        """INSERT INTO orders.outbox (message_id, order_id, kind, project_id, kodpost, dated_at, created_at)
           VALUES ('8-1-accepted', 1, 'accepted', 8, 1, now(), now() - interval '290 seconds')"""
    )
    assert tick() == []
    query("UPDATE orders.outbox SET created_at = now() - interval '310 seconds'")
    assert tick() == ["alert: The outbox of the partner orders is stuck"]
    assert "\n1 events wait for the broker, the oldest for 31" in tick.texts[0]
    assert tick() == []
    query("UPDATE orders.outbox SET published_at = now()")
    assert tick() == ["resolved: The outbox of the partner orders is stuck"]


def test_a_mailing_with_many_failures_is_reported(tick: Ticks, query: Query) -> None:
    ((mailing,),) = query(
        "INSERT INTO mailings.mailing (text, start_time, end_time, state, started_at)"
        " VALUES ('a secret text', now(), now() + interval '1 day', 'running', now()) RETURNING mailing_id"
    )
    query(
        "INSERT INTO mailings.client (phone, operator_code, timezone)"
        " SELECT 79160000000 + n, '916', 'UTC' FROM generate_series(1, 40) AS n"
    )
    query(
        "INSERT INTO mailings.message (mailing_id, client_id, status, next_attempt_at, finished_at, reason)"
        " SELECT %s, client_id, CASE WHEN n <= 2 THEN 'FAILED' WHEN n = 3 THEN 'TIMEOUT' WHEN n < 20 THEN 'SENT'"
        " ELSE 'Pending' END, now(), CASE WHEN n < 20 THEN now() END, '+79161234567'"
        " FROM (SELECT client_id, row_number() OVER () AS n FROM mailings.client) AS c",
        mailing,
    )
    assert tick() == [], "19 messages say nothing yet"
    one_more = "UPDATE mailings.message SET status = 'SENT', finished_at = now() WHERE message_id IN (SELECT message_id"
    query(f"{one_more} FROM mailings.message WHERE status = 'Pending' LIMIT 1)")
    assert tick() == [f"alert: Messages of mailing {mailing} fail"]
    assert "\n3 of 20 finished messages failed.\n" in tick.texts[0]
    query(f"{one_more} FROM mailings.message WHERE status = 'Pending' LIMIT 9)")
    assert tick() == []
    query(f"{one_more} FROM mailings.message WHERE status = 'Pending' LIMIT 1)")
    assert tick() == [f"resolved: Messages of mailing {mailing} fail"]
    assert "\nFewer messages fail.\n" in tick.texts[0]


@pytest.mark.parametrize(
    "end",
    [
        "state = 'finished', finished_at = now() - interval '25 hours'",
        "deleted_at = now()",
    ],
)
def test_the_alert_of_an_ended_mailing_is_closed_and_not_resolved(tick: Ticks, query: Query, end: str) -> None:
    """The failed messages of the mailing stay failed.

    A mailing that ended long before the first tick causes no alert.
    """
    for _ in range(2):
        query(
            "WITH made AS (INSERT INTO mailings.mailing (text, start_time, end_time, state, started_at, finished_at)"
            " VALUES ('', now(), now(), 'finished', now(), now()) RETURNING mailing_id)"
            " INSERT INTO mailings.message (mailing_id, client_id, status, next_attempt_at, finished_at)"
            " SELECT mailing_id, 1, 'FAILED', now(), now() FROM made"
        )
    query("UPDATE mailings.mailing SET finished_at = now() - interval '25 hours' WHERE mailing_id = 1")
    assert tick() == ["alert: Messages of mailing 2 fail"]
    query(f"UPDATE mailings.mailing SET {end} WHERE mailing_id = 2")
    assert tick() == ["closed: Messages of mailing 2 fail"]
    assert "The mailing ended a day ago, or was deleted" in tick.texts[0]
    assert "1 of 1 finished messages failed." in tick.texts[0]
    assert tick() == []


def test_without_the_warehouse_its_alerts_stay_open_and_the_others_are_sent(
    tick: Ticks, query: Query, clock: Callable[[dt.datetime], None], monkeypatch: pytest.MonkeyPatch, warehouse_url: str
) -> None:
    clock(LATE)
    assert tick() == ["alert: Days are missing"]
    monkeypatch.setenv("WAREHOUSE_URL", "postgresql://hush:hush@127.0.0.1:1/hush")
    monkeypatch.setattr("sales_assets.defs.automation.alert_causes._CONNECT_SECONDS", 0)
    clear_settings_cache()
    run(tick.instance, FIRST, error=RuntimeError("the warehouse is away"))
    assert tick() == ["alert: load_days failed", "alert: The warehouse can't be read"]
    assert "\nOperationalError. Until then, days, quarantine" in tick.texts[1]
    assert "hush" not in f"{tick.texts}{tick.cursor}"
    assert tick() == []
    monkeypatch.setenv("WAREHOUSE_URL", warehouse_url)
    clear_settings_cache()
    assert tick() == ["resolved: The warehouse can't be read"]


def test_an_unreachable_receiver_fails_no_tick_and_gets_the_message_later(
    sending_tick: Ticks, clock: Callable[[dt.datetime], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    tick = sending_tick
    with webhook() as healthy_hook, webhook() as failing_hook:
        monkeypatch.setenv("ALERT_URLS", f"{failing_hook.url} {healthy_hook.url}")
        clear_settings_cache()
        failing_hook.status = 503
        run(tick.instance, FIRST, error=RuntimeError(f"sent to {failing_hook.url}"))
        tick()
        assert tick.reason.startswith("Open alerts: 1, messages sent: 1. Receiver 1 (json): ")
        assert healthy_hook.titles == ["alert: load_days failed"]
        failures = {of.name: of.failures for of in State.model_validate_json(tick.cursor or "").receivers.values()}
        assert failures == {"1 (json)": 1, "2 (json)": 0}
        failing_hook.status = 200
        tick()
        assert failing_hook.titles == [], "it waits for a minute"
        clock(EARLY + dt.timedelta(minutes=1))
        run(tick.instance, FIRST)
        tick()
        assert failing_hook.titles == ["resolved: load_days failed"]
        assert healthy_hook.titles == ["alert: load_days failed", "resolved: load_days failed"]
        assert "t0ken" not in f"{tick.cursor}{tick.reason}{healthy_hook.messages}"


def test_receivers_may_be_reordered_without_repeating_or_losing_messages(
    sending_tick: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cursor contains no URL."""
    tick = sending_tick
    with webhook() as first, webhook() as second, webhook() as new:
        monkeypatch.setenv("ALERT_URLS", f"{first.url} {second.url}")
        clear_settings_cache()
        second.status = 503
        run(tick.instance, FIRST, error=RuntimeError("away"))
        tick()
        monkeypatch.setenv("ALERT_URLS", f"{second.url} {new.url} {first.url}")
        clear_settings_cache()
        tick()
        assert first.titles == new.titles == ["alert: load_days failed"]
        assert "Receiver 1 (json): " in tick.reason
        second.status = 200
        run(tick.instance, FIRST)
        tick()
        assert first.titles == new.titles == ["alert: load_days failed", "resolved: load_days failed"]
        for hook in (first, second, new):
            assert hook.url not in (tick.cursor or "")
        assert "t0ken" not in (tick.cursor or "")


def test_a_malformed_event_is_skipped_with_a_warning(tick: Ticks, monkeypatch: pytest.MonkeyPatch) -> None:
    """The metadata of a check may come from another version; the events after it are processed."""
    tick.instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=F_SALES, check_name="signs", passed=False,
            metadata={"failing days": dg.MetadataValue.text("many"), "first failing days": table_without_days()},
        )
    )  # fmt: skip
    run(tick.instance, FIRST, error=RuntimeError("away"))
    assert tick() == ["alert: load_days failed"]
    (number,) = (record.storage_id for record in check_events(tick.instance))
    assert tick.warnings == [f"skipped malformed event {number} of Dagster's event log: KeyError"]
    assert tick() == []
    assert tick.warnings == []


def test_without_dagsters_storage_no_event_is_skipped(tick: Ticks, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tick.instance, FIRST, error=RuntimeError("away"))
    with monkeypatch.context() as patched:
        patched.setattr(tick.instance, "get_run_by_id", unavailable)
        with pytest.raises(OperationalError):
            tick()
    assert tick() == ["alert: load_days failed"]


def unavailable(_run_id: str) -> None:
    raise OperationalError("SELECT", None, Exception("the connection was refused"))


def table_without_days() -> dg.TableMetadataValue:
    return dg.MetadataValue.table([dg.TableRecord({"week": "2024-40"})])


def check_events(instance: dg.DagsterInstance) -> Sequence[dg.EventLogRecord]:
    return instance.event_log_storage.get_event_records(
        dg.EventRecordsFilter(dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    )


def test_the_sensor_exists_if_the_setting_is_present_and_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not sensor_module.definitions().sensors
    monkeypatch.setenv("ALERT_URLS", "json://127.0.0.1:9")
    clear_settings_cache()
    (sensor,) = sensor_module.definitions().sensors or ()
    assert isinstance(sensor, dg.SensorDefinition)
    assert (sensor.name, sensor.default_status) == ("alerts", dg.DefaultSensorStatus.RUNNING)


@pytest.mark.external
def test_the_code_location_does_not_import_apprise() -> None:
    script = (
        "import sys; from sales_assets.definitions import defs; sensors = defs().get_repository_def().sensor_defs;"
        "print('alerts' in {sensor.name for sensor in sensors}, 'apprise' in sys.modules)"
    )
    settings = {"ALERT_URLS": "json://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ | settings
    )
    assert done.stdout == "True False\n"
