"""The sensor `new_increments`: new increments are requested once, and an outage is not "nothing new"."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from sales_assets.defs.automation.new_increments import new_increments
from sales_assets.partitions import DAYS
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.resources.report_api import Content, ReportApi, ReportApiError, TransientError
from sales_assets.schemas.report_api import Increment
from sales_assets.settings import settings
from sales_assets.simulators.report_api.faults import Faults
from sales_assets_tests.automation.runs import record_runs
from sales_assets_tests.builders import Order, job
from sales_assets_tests.cache import cached
from sales_assets_tests.fixtures import RAW, Shop, stored_files

# `day` is relative to today.
pytestmark = pytest.mark.usefixtures("today")

Tick = Callable[..., dg.SensorResult | dg.SkipReason]
HEADER = "date_id,category_id,geo_id,sales_qty,sales_amt\n"


def day(age: int) -> str:
    """Return the date a number of days before today, in UTC; age 1, yesterday, is the last partition."""
    return (dt.datetime.now(dt.UTC).date() - dt.timedelta(days=age)).isoformat()


@pytest.fixture
def tick(shop: Shop) -> Tick:
    def evaluate(cursor: str | None = None) -> dg.SensorResult | dg.SkipReason:
        context = dg.build_sensor_context(
            instance=shop.instance,
            cursor=cursor,
            resources={"warehouse": Warehouse(), "report_api": ReportApi()},
        )
        result = new_increments(context)
        assert isinstance(result, dg.SensorResult | dg.SkipReason)
        return result

    return evaluate


def requests(result: dg.SensorResult | dg.SkipReason) -> list[dg.RunRequest]:
    assert isinstance(result, dg.SensorResult)
    return list(result.run_requests or [])


def run(shop: Shop, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
    """Execute a run request, like the daemon."""
    return job("load_days").execute_in_process(
        instance=shop.instance, partition_key=request.partition_key, tags=dict(request.tags), raise_on_error=False
    )


def increment(shop: Shop, age: int, uniq_id: str) -> None:
    shop.reports.increment(day(age), [Order(uniq_id, day=day(age))])


def test_without_a_report_nothing_is_requested(shop: Shop, tick: Tick) -> None:
    increment(shop, 1, "a")
    assert isinstance(tick(), dg.SkipReason)
    assert shop.api.count("/generate_report") == 0
    assert shop.api.count("/get_increment") == 0


def test_new_days_are_requested_once_and_a_few_per_tick(shop: Shop, tick: Tick) -> None:
    for age in range(1, 6):
        increment(shop, age, f"u{age}")
    shop.reports.without_increment(day(6))
    shop.fetch_report()
    requested_days: list[str | None] = []
    cursor: str | None = None
    for _ in range(4):
        result = tick(cursor)
        assert len(requests(result)) <= 3
        for request in requests(result):
            requested_days.append(request.partition_key)
            assert run(shop, request).success
        assert isinstance(result, dg.SensorResult)
        cursor = result.cursor
    assert requested_days == [day(age) for age in (5, 4, 3, 2, 1)]
    assert [name for name, _ in shop.sales()] == ["u5", "u4", "u3", "u2", "u1"]


def test_a_tick_without_changes_is_cheap(shop: Shop, tick: Tick) -> None:
    for age in (1, 2):
        increment(shop, age, f"u{age}")
    shop.load(day(2), day(1))
    shop.api.seen.clear()
    assert requests(tick()) == []
    assert shop.api.count("/get_increment") == 7
    assert shop.api.count("/generate_report") == 0


def test_changed_contents_are_requested_even_if_their_id_is_the_same(shop: Shop, tick: Tick) -> None:
    increment(shop, 2, "before")
    shop.fetch_report()
    first = requests(tick())[0]
    assert run(shop, first).success
    increment(shop, 2, "after")
    again = requests(tick())
    assert [request.partition_key for request in again] == [day(2)]
    assert again[0].run_key != first.run_key
    assert run(shop, again[0]).success
    assert shop.sales() == [("after", 200)]
    assert requests(tick()) == []


def test_a_new_report_changes_the_ids_of_increments_and_requests_nothing(shop: Shop, tick: Tick) -> None:
    increment(shop, 1, "a")
    shop.load(day(1))
    shop.fetch_report()
    assert requests(tick()) == []


def test_a_request_is_not_repeated_during_its_run(shop: Shop, tick: Tick) -> None:
    increment(shop, 1, "a")
    shop.fetch_report()
    first = requests(tick())[0]
    shop.instance.create_run_for_job(
        job("load_days"), tags=dict(first.tags), status=dg.DagsterRunStatus.STARTED, run_id=None
    )
    assert requests(tick()) == []


def test_a_failed_load_is_requested_again_after_a_pause(
    shop: Shop, tick: Tick, monkeypatch: pytest.MonkeyPatch
) -> None:
    increment(shop, 1, "a")
    shop.fetch_report()
    first = requests(tick())[0]
    shop.instance.create_run_for_job(
        job("load_days"), tags=dict(first.tags), status=dg.DagsterRunStatus.FAILURE, run_id=None
    )
    assert requests(tick()) == [], "not at once"
    monkeypatch.setattr("sales_assets.defs.automation.run_requests.LONGEST_PAUSE", dt.timedelta(0))
    again = requests(tick())
    assert [request.partition_key for request in again] == [day(1)]
    assert again[0].run_key != first.run_key


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE])
def test_hundreds_of_runs_of_one_day_block_no_other_day(
    shop: Shop, tick: Tick, monkeypatch: pytest.MonkeyPatch, status: dg.DagsterRunStatus
) -> None:
    for age in (1, 2):
        increment(shop, age, f"u{age}")
    shop.fetch_report()
    first = requests(tick())[0]
    assert first.partition_key == day(2)
    record_runs(shop.instance, [status] * 300, tags=dict(first.tags))
    # Contents that were loaded before and are current again are requested at once; a failing day waits.
    waits = status is dg.DagsterRunStatus.FAILURE
    assert [request.partition_key for request in requests(tick())] == ([] if waits else [day(2)]) + [day(1)]
    monkeypatch.setattr("sales_assets.defs.automation.run_requests.LONGEST_PAUSE", dt.timedelta(0))
    assert [request.partition_key for request in requests(tick())] == [day(2), day(1)]


def test_one_failing_day_is_reported_and_blocks_no_other(
    shop: Shop, tick: Tick, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for age in range(1, 8):
        increment(shop, age, f"u{age}")
    shop.fetch_report()
    request_increment = ReportApi.increment

    def failing_increment(api: ReportApi, report_id: str, requested_day: dt.date) -> Increment:
        if requested_day.isoformat() == day(5):
            raise OverflowError("date value out of range")
        return request_increment(api, report_id, requested_day)

    monkeypatch.setattr(ReportApi, "increment", failing_increment)
    first = tick()
    assert [request.partition_key for request in requests(first)] == [day(7), day(6), day(4)]
    assert f"no run requested for {day(5)}: OverflowError: date value out of range" in capsys.readouterr().err
    assert isinstance(first, dg.SensorResult)
    second = tick(first.cursor)
    assert [request.partition_key for request in requests(second)] == [day(3), day(2), day(1)]


def test_a_tick_with_only_a_failing_day_fails_and_the_days_before_it_are_not_lost(
    shop: Shop, tick: Tick, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.fetch_report()
    request_increment = ReportApi.increment

    def failing_increment(api: ReportApi, report_id: str, requested_day: dt.date) -> Increment:
        if requested_day.isoformat() == day(5):
            raise OverflowError("date value out of range")
        return request_increment(api, report_id, requested_day)

    monkeypatch.setattr(ReportApi, "increment", failing_increment)
    with pytest.raises(OverflowError):
        tick()
    # A tick that covers only the rest of the days: the next tick starts at the first day again.
    rest = tick(day(6))
    assert isinstance(rest, dg.SensorResult)
    assert (rest.run_requests, rest.cursor) == ([], "")
    assert rest.skip_reason is not None
    assert f"{day(5)} failed: OverflowError: date value out of range." in str(rest.skip_reason.skip_message)


def test_an_outage_is_a_failed_tick_and_no_change_is_lost(
    shop: Shop, tick: Tick, monkeypatch: pytest.MonkeyPatch
) -> None:
    increment(shop, 1, "a")
    shop.fetch_report()
    request_increment = ReportApi.increment

    def out_of_reach(*_: object) -> None:
        raise TransientError("GET /get_increment: connection refused")

    monkeypatch.setattr(ReportApi, "increment", out_of_reach)
    with pytest.raises(TransientError):
        tick()
    monkeypatch.setattr(ReportApi, "increment", request_increment)
    assert [request.partition_key for request in requests(tick())] == [day(1)]


def test_without_etags_the_contents_are_compared(shop: Shop, tick: Tick, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReportApi, "content", lambda *_: Content(None, None))
    increment(shop, 1, "a")
    shop.load(day(1))
    assert requests(tick()) == []
    increment(shop, 1, "b")
    assert [request.partition_key for request in requests(tick())] == [day(1)]


def test_a_removed_increment_is_not_a_change(shop: Shop, tick: Tick) -> None:
    increment(shop, 1, "a")
    shop.load(day(1))
    shop.reports.without_increment(day(1))
    assert requests(tick()) == []


def test_a_day_with_a_missing_listed_file_is_requested_once_the_file_is_available(shop: Shop, tick: Tick) -> None:
    increment(shop, 1, "a")
    shop.fetch_report()
    shop.fault(Faults(lost_file="user_orders_log_inc"))
    assert requests(tick()) == []
    shop.fault(None)
    assert [request.partition_key for request in requests(tick())] == [day(1)]


def test_expired_links_are_a_failed_tick(shop: Shop, tick: Tick) -> None:
    increment(shop, 1, "a")
    shop.fetch_report()
    shop.fault(Faults(expired_links=1))
    with pytest.raises(ReportApiError, match="403"):
        tick()
    assert [request.partition_key for request in requests(tick())] == [day(1)]


def test_a_file_that_was_fetched_but_not_parsed_is_requested(shop: Shop, tick: Tick) -> None:
    """A load may have died between download and staging."""
    increment(shop, 1, "a")
    shop.load(day(1), selection=RAW)
    assert [request.partition_key for request in requests(tick())] == [day(1)]


def test_a_long_tick_is_continued_by_the_next(shop: Shop, tick: Tick, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.fetch_report()
    monkeypatch.setattr("sales_assets.defs.automation.new_increments._TICK_SECONDS", -1)
    cursors: list[str | None] = []
    for _ in range(8):
        result = tick(cursors[-1] if cursors else None)
        assert isinstance(result, dg.SensorResult)
        cursors.append(result.cursor)
    assert cursors == [day(age) for age in (7, 6, 5, 4, 3, 2, 1, 7)]


def test_a_repeated_delivery_that_was_not_staged_is_requested(shop: Shop, tick: Tick) -> None:
    """A load was killed between recording and staging: the delivery is stored, but not in the mart."""
    for name in ("a", "b"):
        increment(shop, 1, name)
        shop.load(day(1))
    increment(shop, 1, "a")
    shop.load(day(1), selection=RAW)
    assert shop.sales() == [("b", 200)]
    (request,) = requests(tick())
    assert run(shop, request).success
    assert shop.sales() == [("a", 200)]
    assert requests(tick()) == []


def test_an_unfinished_day_is_requested_even_if_its_increment_has_expired(shop: Shop, tick: Tick) -> None:
    increment(shop, 1, "a")
    shop.load(day(1), selection=RAW)
    shop.reports.without_increment(day(1))
    (request,) = requests(tick())
    assert run(shop, request).success
    assert shop.sales() == [("a", 200)]
    assert requests(tick()) == []


def test_former_contents_delivered_again_are_a_change(shop: Shop, tick: Tick) -> None:
    """After A, B and A again, the ETag of A is known, but not as that of the last delivery."""
    for name in ("a", "b"):
        increment(shop, 1, name)
        shop.load(day(1))
    increment(shop, 1, "a")
    (request,) = requests(tick())
    assert run(shop, request).success
    assert shop.sales() == [("a", 200)]
    assert requests(tick()) == []


def test_a_missing_file_does_not_hide_changes_of_other_files(shop: Shop, tick: Tick) -> None:
    """Any file of the day may be the missing one."""
    prices = "Milk,100\n"
    shop.reports.increment(day(1), [Order("a", day=day(1))], price_log=prices, custom_research=HEADER)
    shop.load(day(1))
    changes: dict[str, dict[str, str]] = {
        "user_orders_log": {"price_log": "Milk,101\n"},
        "price_log": {"custom_research": f"{HEADER}{day(1)},1,2,3,4.5\n"},
        "custom_research": {"price_log": "Milk,102\n"},
    }
    for lost, changed in changes.items():
        shop.fault(Faults(lost_file=f"{lost}_inc"))
        assert requests(tick()) == [], lost
        files: dict[str, Any] = {"price_log": prices, "custom_research": HEADER, **changed}
        shop.reports.increment(day(1), [Order("a", day=day(1))], **files)
        (request,) = requests(tick())
        assert run(shop, request).success, lost
        assert requests(tick()) == [], lost
        shop.reports.increment(day(1), [Order("a", day=day(1))], price_log=prices, custom_research=HEADER)
        shop.fault(None)
        shop.load(day(1))


@pytest.mark.parametrize("storage", [{"flapping": True}, {"zipped": True}, {"flapping": True, "zipped": True}])
def test_changed_etags_and_encodings_of_equal_contents_are_not_changes(
    shop: Shop, tick: Tick, monkeypatch: pytest.MonkeyPatch, storage: dict[str, bool]
) -> None:
    """Equal contents with alternating ETags, or with unrequested gzip, cause no run and no copy."""
    for age in (1, 2):
        increment(shop, age, f"u{age}")
    with cached(settings().report_api_url, **storage) as url:
        monkeypatch.setenv("REPORT_API_URL", url)
        settings.cache_clear()
        shop.fetch_report()
        first = requests(tick())
        assert [request.partition_key for request in first] == [day(2), day(1)]
        assert {request.run_key for request in first} == {request.run_key for request in requests(tick())}
        for request in first:
            assert run(shop, request).success
        for _ in range(3):
            assert requests(tick()) == []
        files = sorted(stored_files())
        for _ in range(2):
            shop.load(day(2), day(1))
        assert sorted(stored_files()) == files
        increment(shop, 1, "changed")
        (request,) = requests(tick())
        assert run(shop, request).success
        assert requests(tick()) == []
    assert shop.sales() == [("u2", 200), ("changed", 200)]
    assert shop.query("SELECT count(*) FROM raw.fetch WHERE kind = 'increment'") == [(3,)]
    size = len((shop.reports.folder / "inc" / day(1) / "user_orders_log_inc.csv").read_bytes())
    assert shop.query("SELECT bytes FROM raw.fetch ORDER BY fetch_id DESC LIMIT 1") == [(size,)]


def test_a_known_etag_avoids_the_download(shop: Shop, tick: Tick, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store may alternate between two ETags, which are known once both were delivered with the contents."""
    increment(shop, 1, "a")
    with cached(settings().report_api_url, flapping=True) as url:
        monkeypatch.setenv("REPORT_API_URL", url)
        settings.cache_clear()
        # The report has no file, so the ETags alternate only for the increment's file.
        for _ in range(2):
            shop.load(day(1))
        assert len(shop.query("SELECT DISTINCT etag FROM raw.file_delivery")) == 2
        monkeypatch.setattr(ReportApi, "download", lambda *_: pytest.fail("a file was downloaded"))
        for _ in range(2):
            assert requests(tick()) == []


def test_a_file_that_cannot_be_downloaded_blocks_no_other_day(shop: Shop, tick: Tick) -> None:
    """The load of the day fails with the reason; the sensor continues."""
    for age in (1, 2):
        increment(shop, age, f"u{age}")
    shop.fetch_report()
    shop.fault(Faults(cut=1))
    assert [request.partition_key for request in requests(tick())] == [day(2), day(1)]


def test_the_schedule_requests_the_window_of_the_api() -> None:
    from sales_assets.defs.automation.schedules import fresh_report

    context = dg.build_schedule_context(scheduled_execution_time=dt.datetime(2026, 3, 10, 4, 30, tzinfo=dt.UTC))
    request = fresh_report(context)
    assert isinstance(request, dg.RunRequest)
    assert request.tags["dagster/asset_partition_range_start"] == "2026-02-08"
    assert request.tags["dagster/asset_partition_range_end"] == "2026-03-09"
    assert DAYS.get_last_partition_key() == day(1)
