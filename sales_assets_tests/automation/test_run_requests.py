"""Run requests of sensors: pauses after failures, and isolation of a failing item."""

import datetime as dt
from collections.abc import Callable

import dagster as dg
import pytest

from sales_assets.backoff import doubling_pause
from sales_assets.defs.automation import run_requests
from sales_assets.defs.automation.run_requests import CHANGE_KEY_TAG, number_of, request_each, request_once
from sales_assets_tests.automation.runs import record_runs

SUCCESS, FAILURE = dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE


@pytest.fixture
def instance() -> dg.DagsterInstance:
    return dg.DagsterInstance.ephemeral()


def newest_run(instance: dg.DagsterInstance) -> dt.datetime:
    return instance.get_run_records(limit=1)[0].update_timestamp.replace(tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [(0, 0), (1, 120), (2, 240), (5, 1920), (6, 3600), (41, 3600), (1_100, 3600), (10**9, 3600)],
)
def test_pauses_double_up_to_a_maximum(failures: int, seconds: float) -> None:
    assert doubling_pause(failures, first=120, longest=3600) == seconds


@pytest.mark.parametrize(
    ("statuses", "minutes"),
    [
        ([FAILURE], 2),
        ([FAILURE] * 3, 8),
        ([FAILURE] * 400, 60),
        ([SUCCESS] * 400, 0),
        ([FAILURE] * 400 + [SUCCESS], 0),
        ([FAILURE] * 400 + [SUCCESS] * 400 + [FAILURE] * 2, 4),
        ([dg.DagsterRunStatus.CANCELED], 2),
    ],
)
def test_only_consecutive_failures_cause_a_pause(
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    statuses: list[dg.DagsterRunStatus],
    minutes: int,
) -> None:
    record_runs(instance, statuses, tags={CHANGE_KEY_TAG: "load_days.a"})
    ended = newest_run(instance)
    for later, expected in ((minutes - 0.01, minutes == 0), (minutes + 0.01, True)):
        monkeypatch.setattr(run_requests, "_now", lambda later=later: ended + dt.timedelta(minutes=later))
        assert (request_once(instance, "load_days", "a") is not None) == expected
    monkeypatch.setattr(run_requests, "_now", lambda: ended)
    assert request_once(instance, "load_days", "b") is not None, "another change waits for nothing"


def test_a_change_that_remains_after_a_run_is_requested_again_after_a_pause(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_runs(instance, [SUCCESS] * 300, tags={CHANGE_KEY_TAG: "load_days.a"})
    ended = newest_run(instance)
    for later, expected in ((59, False), (61, True)):
        monkeypatch.setattr(run_requests, "_now", lambda later=later: ended + dt.timedelta(minutes=later))
        request = request_once(instance, "load_days", "a", repeat_after=dt.timedelta(hours=1))
        assert (request is not None) == expected


def test_each_further_run_for_a_change_has_a_separate_key(instance: dg.DagsterInstance) -> None:
    keys = set()
    for _ in range(60):
        request = request_once(instance, "load_days", "a")
        assert request is not None
        keys.add(request.run_key)
        record_runs(instance, [SUCCESS], tags=request.tags)
    assert len(keys) == 60


def test_no_run_is_requested_during_another_run_for_the_same_change(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_runs(instance, [dg.DagsterRunStatus.STARTED, SUCCESS, FAILURE], tags={CHANGE_KEY_TAG: "load_days.a"})
    tomorrow = newest_run(instance) + dt.timedelta(days=1)
    monkeypatch.setattr(run_requests, "_now", lambda: tomorrow)
    assert request_once(instance, "load_days", "a") is None


def _poisoned() -> dg.RunRequest:
    raise RuntimeError("a poisoned item")


def _request(key: str) -> Callable[[], dg.RunRequest]:
    return lambda: dg.RunRequest(run_key=key)


def test_a_failing_item_is_reported_and_the_others_are_requested(capsys: pytest.CaptureFixture[str]) -> None:
    context = dg.build_sensor_context(instance=dg.DagsterInstance.ephemeral())
    items = [("first", _request("1")), ("second", _poisoned), ("third", lambda: None), ("fourth", _request("4"))]
    assert [request.run_key for request in request_each(context, items)] == ["1", "4"]
    assert "no run requested for second: RuntimeError: a poisoned item" in capsys.readouterr().err


def test_a_failing_item_fails_the_tick_if_nothing_else_is_requested() -> None:
    context = dg.build_sensor_context(instance=dg.DagsterInstance.ephemeral())
    with pytest.raises(RuntimeError, match="a poisoned item"):
        request_each(context, [("first", lambda: None), ("second", _poisoned)])


@pytest.mark.parametrize(
    ("version", "number"), [("17", 17), (None, 0), ("", 0), ("by hand", 0), ("\u0661", 0), ("9" * 5_000, 0)]
)
def test_unknown_data_versions_are_number_zero(version: str | None, number: int) -> None:
    assert number_of(version) == number
