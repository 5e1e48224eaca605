"""Extract: the files and records of report API responses, and the reasons of missing files."""

import contextlib
import datetime as dt
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from tenacity import wait_none

from sales_assets.pipeline import extract
from sales_assets.pipeline.erasure import NameEraser
from sales_assets.pipeline.extract import (
    Delivery,
    FetchedFile,
    RecordedFile,
    _store_all,
    fetch_increment,
    fetch_increments,
    record,
)
from sales_assets.resources.raw_files import RawFilesError, StoredFile
from sales_assets.resources.report_api import Content, FileMissing, LinkExpired, TransientError
from sales_assets.schemas.report_files import REPORT_FILES
from sales_assets.simulators.report_api.faults import Faults
from sales_assets_tests.builders import Order
from sales_assets_tests.fixtures import stored_files
from sales_assets_tests.pipeline.conftest import Engine

FIRST, SECOND, THIRD = DAYS = [dt.date(2024, 10, day) for day in (1, 2, 3)]
LINKS = {file: f"http://files/{file}?signed" for file in REPORT_FILES}
NOT_LISTED = "not listed in the response"


def fetched(file: str, url: str = "http://files/x") -> FetchedFile:
    stored_file = StoredFile(f"{file}/1.csv", "abc", 7, 2, dt.datetime(2024, 10, 5, tzinfo=dt.UTC))
    return FetchedFile(file, url, stored_file, Content(None, None))


def no_links() -> dict[str, str]:
    raise AssertionError("links were requested again")


def test_each_listed_file_is_stored() -> None:
    listed = {file: url for file, url in LINKS.items() if file != "price_log"} | {"unknown": "http://files/u"}
    files, missing = _store_all(fetched, listed, no_links)
    assert {file: stored.url for file, stored in files.items()} == {file: LINKS[file] for file in files}
    assert files.keys() == LINKS.keys() - {"price_log"}
    assert missing == {"price_log": NOT_LISTED}


def test_a_file_behind_a_dead_link_is_missing_and_the_others_are_stored() -> None:
    def store(file: str, url: str) -> FetchedFile:
        if file == "custom_research":
            raise FileMissing("there is no such file (404)")
        return fetched(file, url)

    files, missing = _store_all(store, LINKS, no_links)
    assert files.keys() == LINKS.keys() - {"custom_research"}
    assert missing == {"custom_research": "there is no such file (404)"}


def test_expired_links_are_requested_again_and_used_for_the_remaining_files() -> None:
    fresh = {file: f"{url}&fresh" for file, url in LINKS.items() if file != "price_log"}
    requests = []

    def store(file: str, url: str) -> FetchedFile:
        if not url.endswith("&fresh"):
            raise LinkExpired("403")
        return fetched(file, url)

    def request() -> dict[str, str]:
        requests.append("links")
        return fresh

    files, missing = _store_all(store, LINKS, request)
    assert {file: stored.url for file, stored in files.items()} == fresh
    assert missing == {"price_log": NOT_LISTED}
    assert requests == ["links"]


def test_a_file_that_the_fresh_links_lack_is_missing() -> None:
    def store(file: str, url: str) -> FetchedFile:
        if url == LINKS["price_log"]:
            raise LinkExpired("403")
        return fetched(file, url)

    files, missing = _store_all(store, LINKS, dict)
    assert files.keys() == LINKS.keys() - {"price_log"}
    assert missing == {"price_log": "price_log is no longer listed"}


@pytest.mark.parametrize(
    ("delivery", "response"),
    [
        (Delivery("increment", FIRST, FIRST, "not_found", "too early"), "NOT FOUND: too early"),
        (Delivery("increment", FIRST, FIRST, "failed", "502"), "502"),
        (Delivery("increment", FIRST, FIRST, "delivered", missing={"price_log": "404"}), "404"),
        (Delivery("increment", FIRST, FIRST, "delivered"), NOT_LISTED),
    ],
)
def test_the_metadata_of_a_file_that_was_not_delivered(delivery: Delivery, response: str) -> None:
    assert delivery.facts("price_log", None) == {"response": response}


def test_the_metadata_of_a_delivered_file() -> None:
    delivery = Delivery("report", FIRST, THIRD, "delivered", files={"price_log": fetched("price_log")})
    facts = {
        "response": "delivered",
        "period": "2024-10-01 to 2024-10-03",
        "fetch number": 5,
        "delivery number": 5,
        "contents": "new",
        "bytes": 7,
        "lines": 2,
        "sha256": "abc",
        "path": "price_log/1.csv",
        "url": "http://files/x",
    }
    assert delivery.facts("price_log", RecordedFile(5, 5)) == facts
    repeated = {"delivery number": 6, "contents": "same as fetch 5"}
    assert delivery.facts("price_log", RecordedFile(6, 5)) == facts | repeated
    assert delivery.facts("price_log", None) == {"response": "delivered", "period": facts["period"]}


def manifests() -> dict[str, dict[str, Any]]:
    found = [json.loads(contents) for path, contents in stored_files().items() if path.endswith(".json")]
    return {manifest["file"]: manifest for manifest in found}


def test_a_report_is_stored_with_its_period(engine: Engine) -> None:
    engine.reports.report([Order("a"), Order("b", day=str(SECOND))], price_log="Milk,100\n")
    delivery = engine.fetch_report()
    assert (delivery.kind, delivery.first_day, delivery.last_day) == ("report", FIRST, SECOND)
    assert (delivery.outcome, delivery.reason, delivery.increment_id) == ("delivered", None, None)
    assert delivery.missing == dict.fromkeys(("custom_research", "user_activity_log"), NOT_LISTED)
    assert engine.progress.steps[-2:] == ["downloading user_orders_log", "downloading price_log"]
    prices = delivery.files["price_log"]
    assert prices.stored.path.startswith("price_log/2024-10-01_2024-10-02/")
    content = prices.content
    expected = {
        "file": "price_log",
        "url": prices.url,
        "sha256": prices.stored.sha256,
        "bytes": 9,
        "lines": 1,
        "fetched_at": prices.stored.fetched_at.isoformat(),
        "etag": content.etag,
        "last_modified": content.last_modified,
        "report_id": delivery.report_id,
        "first_day": "2024-10-01",
        "last_day": "2024-10-02",
    }
    assert manifests()["price_log"] == expected
    columns = "kind, first_day::text, last_day::text, outcome, reason, report_id, increment_id, run_id"
    row = ("report", "2024-10-01", "2024-10-02", "delivered", None, delivery.report_id, None, "report run")
    assert engine.query(f"SELECT {columns} FROM raw.delivery") == [row]
    columns = "path, kind, first_day::text, last_day::text, url, sha256, bytes, line_count, etag, last_modified"
    of_file = [expected[name] for name in ("url", "sha256", "bytes", "lines", "etag", "last_modified")]
    stored = engine.query(f"SELECT {columns}, fetched_at FROM raw.fetch WHERE file = 'price_log'")
    assert stored == [(prices.stored.path, *row[:1], *row[1:3], *of_file, prices.stored.fetched_at)]


def test_contents_that_are_stored_are_not_stored_again(engine: Engine) -> None:
    """A second report of the same period has new links, but its file is the one already stored."""
    engine.reports.report([Order("a")])
    first = engine.fetch_report()
    again = engine.fetch_report()
    assert again.report_id != first.report_id
    assert again.files["user_orders_log"].stored.path == first.files["user_orders_log"].stored.path
    assert manifests()["user_orders_log"]["report_id"] == first.report_id
    with engine.pipeline.warehouse.transaction("record") as transaction:
        (third,) = record(transaction, [again], "run")
    assert third["user_orders_log"].is_repeated
    assert not RecordedFile(1, 1).is_repeated


def increments(engine: Engine, report_id: str, groups: Sequence[Sequence[dt.date]]) -> Iterator[list[Delivery]]:
    pipeline = engine.pipeline
    return fetch_increments(pipeline.report_api, pipeline.raw_files, pipeline.warehouse, report_id, groups)


def test_increments_are_fetched_and_stored_by_day(engine: Engine) -> None:
    """The days have an order file, have none, are before the end of the report, or are fetched a second time."""
    engine.reports.report([Order("r", day="2024-09-30")])
    report = engine.fetch_report()
    assert report.report_id
    engine.reports.increment(str(FIRST), [Order("a")])
    engine.reports.increment(str(SECOND), None, price_log="Milk,100\n")
    early = dt.date(2024, 9, 30)
    ((first, second, none),) = increments(engine, report.report_id, [[FIRST, SECOND, early]])
    assert (first.kind, first.first_day, first.last_day, first.outcome) == ("increment", FIRST, FIRST, "delivered")
    assert (first.report_id, first.reason) == (report.report_id, None)
    assert first.missing.keys() == LINKS.keys() - {"user_orders_log"}
    assert first.files["user_orders_log"].stored.path.startswith("user_orders_log_inc/2024-10-01/")
    of_first = {"report_id": report.report_id, "increment_id": first.increment_id, "day": "2024-10-01"}
    assert of_first.items() <= manifests()["user_orders_log"].items()
    assert second.outcome == "delivered"
    assert second.reason == f"no order file delivered: {NOT_LISTED}"
    assert (none.kind, none.first_day, none.last_day, none.outcome) == ("increment", early, early, "not_found")
    assert none.reason == "no increments on or before 2024-09-30, the last day of the report"
    assert (none.report_id, none.increment_id) == (report.report_id, None)
    with engine.pipeline.warehouse.transaction("record") as transaction:
        recorded = record(transaction, [first, second, none], "run")
    assert [{*files} for files in recorded] == [{"user_orders_log"}, {"price_log"}, set()]
    path = first.files["user_orders_log"].stored.path
    ((again,),) = increments(engine, report.report_id, [[FIRST]])
    assert again.files["user_orders_log"].stored.path == path
    assert [stored for stored in stored_files() if re.fullmatch(r"user_orders_log_inc/.*\.csv", stored)] == [path]


def test_a_day_that_cannot_be_fetched_or_stored_is_a_failed_delivery(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full, or the API refuses the request."""
    engine.reports.report([Order("r", day="2024-09-30")])
    report_id = str(engine.fetch_report().report_id)
    engine.reports.increment(str(FIRST), [Order("a")])

    def full(*_: object, **__: object) -> None:
        raise RawFilesError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(type(engine.pipeline.raw_files), "add", full)
        ((first, second),) = increments(engine, report_id, [[FIRST, SECOND]])
    assert first == Delivery("increment", FIRST, FIRST, "failed", "no space left", report_id)
    assert second.outcome == "not_found"
    ((unknown,),) = increments(engine, "no report", [[FIRST]])
    assert unknown.outcome == "failed"
    assert "refused with 404" in str(unknown.reason)


def test_one_group_of_days_is_prefetched(engine: Engine) -> None:
    engine.reports.report([Order("r", day="2024-09-30")])
    report_id = str(engine.fetch_report().report_id)
    taken = []

    def groups() -> Iterator[list[dt.date]]:
        for day in DAYS:
            taken.append(day)
            yield [day]

    found = []
    for deliveries in increments(engine, report_id, groups()):  # type: ignore[arg-type]
        found += [delivery.first_day for delivery in deliveries]
        assert taken == DAYS[: len(found) + 1]
    assert found == DAYS


def test_expired_links_of_an_increment_are_requested_for_its_day(engine: Engine) -> None:
    engine.reports.report([Order("r", day="2024-09-30")])
    report_id = str(engine.fetch_report().report_id)
    engine.reports.increment(str(FIRST), [Order("a")])
    engine.api.faults = Faults(expired_links=1)
    pipeline = engine.pipeline
    delivery = fetch_increment(pipeline.report_api, pipeline.raw_files, report_id, FIRST, {}, NameEraser(()))
    assert delivery.files.keys() == {"user_orders_log"}
    assert engine.api.count("/get_increment") == 2


@pytest.mark.parametrize(("failures", "succeeds"), [(3, True), (4, False)])
def test_a_download_is_restarted_three_times(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, failures: int, succeeds: bool
) -> None:
    monkeypatch.setattr(extract, "wait_exponential_jitter", lambda **_: wait_none())
    engine.reports.report([Order("r")])
    download = type(engine.pipeline.report_api).download
    attempts = []

    @contextlib.contextmanager
    def flaky(api: Any, url: str) -> Iterator[Any]:
        attempts.append(url)
        if len(attempts) <= failures:
            raise TransientError("the connection was lost")
        with download(api, url) as found:
            yield found

    monkeypatch.setattr(type(engine.pipeline.report_api), "download", flaky)
    with contextlib.nullcontext() if succeeds else pytest.raises(TransientError, match="connection was lost"):
        engine.fetch_report()
    assert len(attempts) == 4
