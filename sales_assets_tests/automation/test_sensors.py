"""The sensor on new increments, tick by tick, with the runs that it asks for; days are relative to today."""

import datetime as dt
from collections.abc import Callable

import dagster as dg
import pytest
from starlette.types import Message, Receive, Scope, Send

from sales_assets import settings as settings_module
from sales_assets.defs.automation import sensors
from sales_assets.defs.automation.sensors import new_increments
from sales_assets.defs.raw import fetching
from sales_assets.defs.raw.assets import increment_specs
from sales_assets.resources.report_api import ReportApi, ReportApiError, TransientError
from sales_assets.resources.warehouse import Warehouse
from sales_assets.services.report_api.app import ReportApi as StandIn
from sales_assets.services.report_api.faults import Faults
from sales_assets.services.report_api.server import running
from sales_assets_tests.conftest import KEY
from sales_assets_tests.reports import Order, ReportFolderBuilder, fetch_report, job, load_days

Query = Callable[..., list[tuple[object, ...]]]

TODAY = dt.datetime.now(dt.UTC).date()


def day(before: int) -> str:
    """The calendar day so many days before today."""
    return str(TODAY - dt.timedelta(days=before))


class Daemon:
    """What Dagster's daemon does with a sensor: keeps the cursor, and starts a run once per run key."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.cursor: str | None = None
        self.run_keys: set[str] = set()

    def tick(self) -> list[dg.RunRequest]:
        """The requests of one tick that are new; raises what the tick raises, and keeps the cursor then."""
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            resources={"warehouse": Warehouse(), "report_api": ReportApi()},
        )
        result = new_increments(context)
        if isinstance(result, dg.SkipReason):
            return []
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        asked = [request for request in result.run_requests or [] if request.run_key not in self.run_keys]
        self.run_keys |= {str(request.run_key) for request in asked}
        return asked

    def run(self, requests: list[dg.RunRequest]) -> list[bool]:
        return [
            job("load_days")
            .execute_in_process(
                instance=self.instance,
                partition_key=request.partition_key,
                tags={**request.tags, "dagster/run_key": str(request.run_key)},
                raise_on_error=False,
            )
            .success
            for request in requests
        ]

    def settle(self) -> list[str]:
        """Tick and run until nothing is asked for in a whole round; gives the days in the order of asking."""
        asked: list[str] = []
        quiet = 0
        while quiet < 2:
            requests = self.tick()
            assert all(self.run(requests))
            asked += [str(request.partition_key) for request in requests]
            quiet = 0 if requests else quiet + 1
        return asked


@pytest.fixture
def daemon(instance: dg.DagsterInstance, report_api: StandIn, warehouse_url: str) -> Daemon:
    return Daemon(instance)


def days(requests: list[dg.RunRequest]) -> list[str]:
    return [str(request.partition_key) for request in requests]


@pytest.fixture
def loaded(daemon: Daemon, reports: ReportFolderBuilder) -> Daemon:
    """Yesterday is loaded, and nothing else is there."""
    reports.increment(day(1), [Order("a" * 32, day=day(1))], price_log="Milk,100\n")
    assert fetch_report(daemon.instance).success
    assert load_days(daemon.instance, day(1)).success
    assert daemon.tick() == []
    return daemon


def test_without_a_report_nothing_is_asked(daemon: Daemon, report_api: StandIn, reports: ReportFolderBuilder) -> None:
    reports.increment(day(1), [Order("a" * 32, day=day(1))])
    assert daemon.tick() == []
    assert report_api.count("/get_increment") == 0


def test_new_days_are_asked_for_a_few_at_a_time_and_each_once(
    daemon: Daemon, report_api: StandIn, reports: ReportFolderBuilder, query: Query
) -> None:
    for before in range(1, 9):
        reports.increment(day(before), [Order("a" * 32, day=day(before))])
    assert fetch_report(daemon.instance).success
    first = daemon.tick()
    assert days(first) == [day(7), day(6), day(5)]
    # The daemon ticks on while the runs are queued.
    second = daemon.tick()
    assert days(second) == [day(4), day(3), day(2)]
    assert all(daemon.run([*first, *second]))
    assert daemon.settle() == [day(1)]
    # Eight days ago lies outside the window: there the report API answers NOT FOUND.
    assert query("SELECT count(*) FROM mart.f_sales") == [(7,)]
    report_api.seen.clear()
    assert daemon.tick() == []
    assert report_api.count("/get_increment") == 7


def test_looking_costs_a_call_per_day_and_no_download(
    loaded: Daemon, report_api: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_download(*_: object) -> None:
        raise AssertionError("storage says by its ETag that nothing has changed")

    monkeypatch.setattr(ReportApi, "download", no_download)
    report_api.seen.clear()
    assert loaded.tick() == []
    assert report_api.count("/get_increment") == 7
    assert len(report_api.seen) == 7 + 2  # of the files, only the headers


def test_changed_contents_are_asked_for_although_the_increment_keeps_its_id(
    loaded: Daemon, reports: ReportFolderBuilder, query: Query
) -> None:
    before = query("SELECT DISTINCT increment_id FROM raw.delivery WHERE kind = 'increment'")
    reports.increment(day(1), [Order("b" * 32, day=day(1)), Order("c" * 32, day=day(1))], price_log="Milk,100\n")
    requests = loaded.tick()
    assert days(requests) == [day(1)]
    assert loaded.run(requests) == [True]
    assert query("SELECT count(*) FROM mart.f_sales") == [(2,)]
    assert query("SELECT DISTINCT increment_id FROM raw.delivery WHERE kind = 'increment'") == before
    assert loaded.tick() == []


def test_a_new_report_renames_the_increments_and_changes_nothing(loaded: Daemon, query: Query) -> None:
    assert fetch_report(loaded.instance).success
    assert query("SELECT count(DISTINCT report_id) FROM raw.delivery WHERE kind = 'report'") == [(2,)]
    assert loaded.tick() == []


def test_an_increment_that_is_gone_is_no_news(loaded: Daemon, reports: ReportFolderBuilder) -> None:
    reports.without_increment(day(1))
    assert loaded.tick() == []


def test_a_listed_file_that_is_missing_is_waited_for(
    loaded: Daemon, report_api: StandIn, reports: ReportFolderBuilder
) -> None:
    reports.increment(day(2), [Order("b" * 32, day=day(2))])
    report_api.faults = Faults(lost_file="user_orders_log_inc")
    assert loaded.tick() == []
    report_api.faults = Faults()
    assert loaded.settle() == [day(2)]


def test_an_unreachable_api_is_a_failed_tick_and_the_next_goes_on(
    loaded: Daemon, reports: ReportFolderBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports.increment(day(2), [Order("b" * 32, day=day(2))])
    url = settings_module.settings().report_api_url
    for name, value in (("REPORT_API_URL", "http://127.0.0.1:1"), ("REPORT_API_PATIENCE", "0.1")):
        monkeypatch.setenv(name, value)
    settings_module.settings.cache_clear()
    with pytest.raises(TransientError, match="connection refused"):
        loaded.tick()
    monkeypatch.setenv("REPORT_API_URL", url)
    settings_module.settings.cache_clear()
    assert loaded.settle() == [day(2)]


def test_expired_links_are_a_failed_tick(loaded: Daemon, report_api: StandIn) -> None:
    assert fetch_report(loaded.instance).success  # other ids: their links were not handed out yet
    report_api.faults = Faults(expired_links=1)
    with pytest.raises(ReportApiError, match="403"):
        loaded.tick()
    assert loaded.tick() == []


def test_a_failed_load_is_asked_for_again_after_a_pause(
    loaded: Daemon, report_api: StandIn, reports: ReportFolderBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_DOWNLOAD_ATTEMPTS", 1)
    reports.increment(day(2), [Order("b" * 32, day=day(2))])
    report_api.faults = Faults(cut=1)
    assert loaded.run(loaded.tick()) == [False]
    assert loaded.tick() == []
    monkeypatch.setattr(sensors, "_LONGEST_PAUSE", dt.timedelta(0))
    again = loaded.tick()
    assert days(again) == [day(2)]
    assert loaded.run(again) == [False]
    report_api.faults = Faults()
    assert loaded.settle() == [day(2)]
    assert len(loaded.run_keys) == 3


def test_a_file_that_was_fetched_and_never_read_is_asked_for(loaded: Daemon, reports: ReportFolderBuilder) -> None:
    """As after a crash between the download and the load."""
    reports.increment(day(2), [Order("b" * 32, day=day(2))])
    assert load_days(loaded.instance, day(2), selection=[spec.key for spec in increment_specs()]).success
    assert loaded.settle() == [day(2)]


class BareStorage(StandIn):
    """A stand-in whose storage says nothing about versions."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def bare(message: Message) -> None:
            if message["type"] == "http.response.start":
                hidden = (b"etag", b"last-modified")
                message["headers"] = [pair for pair in message["headers"] if pair[0].lower() not in hidden]
            await send(message)

        await super().__call__(scope, receive, bare)


def test_without_versions_the_contents_themselves_are_compared(
    reports: ReportFolderBuilder, instance: dg.DagsterInstance, warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(BareStorage(reports.folder, api_key=KEY, report_seconds=0)) as url:
        monkeypatch.setenv("REPORT_API_URL", url)
        settings_module.settings.cache_clear()
        daemon = Daemon(instance)
        reports.increment(day(1), [Order("a" * 32, day=day(1))])
        assert fetch_report(instance).success
        assert daemon.settle() == [day(1)]
        reports.increment(day(1), [Order("a" * 32, day=day(1))])  # written anew, the same
        assert daemon.tick() == []
        reports.increment(day(1), [Order("b" * 32, day=day(1))])
        assert daemon.settle() == [day(1)]


def test_a_tick_that_takes_long_goes_on_where_it_was(loaded: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensors, "_TICK_SECONDS", -1)
    cursors = []
    for _ in range(8):
        assert loaded.tick() == []
        cursors.append(loaded.cursor)
    assert cursors == [day(before) for before in (7, 6, 5, 4, 3, 2, 1, 7)]
