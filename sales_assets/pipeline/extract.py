"""Extract: request reports and increments, download their files, record them in ``raw.delivery`` and ``raw.fetch``.

HTTP is in `sales_assets.resources.report_api`; nothing is read from the files here.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

from psycopg.types.json import Jsonb
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from sales_assets.pipeline.erasure import NameEraser, erased_customers
from sales_assets.postgres.warehouse import Transaction, Warehouse
from sales_assets.resources.raw_files import RawFiles, RawFilesError, StoredFile
from sales_assets.resources.report_api import (
    Content,
    FileMissing,
    LinkExpired,
    ReportApi,
    ReportApiError,
    TransientError,
    without_query,
)
from sales_assets.schemas.report_files import REPORT_FILES, USER_ORDERS_LOG

# A download is restarted from its beginning; other API calls are retried inside `ReportApi`.
_DOWNLOAD_ATTEMPTS = 4
# The API responds in tens of milliseconds and a day takes five calls: a few concurrent days hide the latency.
_FETCHERS = 6

# URLs by file
Links = Mapping[str, str]
# {file: {sha256: path}} of the contents stored for one kind and period
KnownContents = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class FetchedFile:
    """A delivered file and its stored copy."""

    file: str
    url: str
    stored: StoredFile
    content: Content


@dataclass(frozen=True)
class Delivery:
    """One response of the report API and its outcome; `reason` explains what is missing."""

    kind: Literal["report", "increment"]
    first_day: dt.date
    last_day: dt.date
    outcome: Literal["delivered", "not_found", "failed"]
    reason: str | None = None
    report_id: str | None = None
    increment_id: str | None = None
    files: Mapping[str, FetchedFile] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)

    def facts(self, file: str, recorded: "RecordedFile | None") -> dict[str, Any]:
        """Return the metadata of one of the four files."""
        facts: dict[str, Any] = {"response": self._outcome_of(file)}
        if self.kind == "report":
            facts["period"] = f"{self.first_day} to {self.last_day}"
        fetched = self.files.get(file)
        if fetched is not None and recorded is not None:
            facts |= {
                "fetch number": recorded.fetch_id,
                "delivery number": recorded.number,
                "contents": f"same as fetch {recorded.fetch_id}" if recorded.is_repeated else "new",
                "bytes": fetched.stored.bytes,
                "lines": fetched.stored.line_count,
                "sha256": fetched.stored.sha256,
                "path": fetched.stored.path,
                "url": fetched.url,
            }
        return facts

    def _outcome_of(self, file: str) -> str:
        if file in self.files:
            return "delivered"
        if self.outcome == "not_found":
            return f"NOT FOUND: {self.reason}"
        return self.missing.get(file, self.reason or "not listed in the response")


@dataclass(frozen=True)
class RecordedFile:
    """A recorded file: the number of its delivery, and the fetch that holds its contents."""

    number: int
    fetch_id: int

    @property
    def is_repeated(self) -> bool:
        return self.number != self.fetch_id


def known_contents(
    warehouse: Warehouse, kind: Literal["report", "increment"], first_day: dt.date, last_day: dt.date
) -> dict[tuple[dt.date, dt.date], KnownContents]:
    """Read {period: contents} stored for the files of one kind whose period begins in this range."""
    known: dict[tuple[dt.date, dt.date], dict[str, dict[str, str]]] = {}
    for row in warehouse.rows("raw/fetch", "contents", kind=kind, first_day=first_day, last_day=last_day):
        files = known.setdefault((row["first_day"], row["last_day"]), {})
        files.setdefault(row["file"], {})[row["sha256"]] = row["path"]
    return {**known}


def fetch_report(
    api: ReportApi, raw_files: RawFiles, warehouse: Warehouse, progress: Callable[[str], None]
) -> Delivery:
    """Request a report, wait for it and store its files. Raises `ReportApiError`."""
    report = api.make_report(progress)
    first, last = report.first_day, report.last_day
    ids = {"report_id": report.report_id, "first_day": first, "last_day": last}

    def store(file: str, url: str) -> FetchedFile:
        progress(f"downloading {file}")
        return _store(api, raw_files, eraser, file, f"{file}/{first}_{last}", ids, known.get(file, {}), url)

    eraser = NameEraser(erased_customers(warehouse))
    known = known_contents(warehouse, "report", first, first).get((first, last), {})
    files, missing = _store_all(store, report.links, lambda: api.report_again(report).links)
    reason = _reason_without_orders(missing)
    return Delivery("report", first, last, "delivered", reason, report.report_id, files=files, missing=missing)


def fetch_increments(
    api: ReportApi, raw_files: RawFiles, warehouse: Warehouse, report_id: str, groups: Iterable[Sequence[dt.date]]
) -> Iterator[list[Delivery]]:
    """Fetch the increments of groups of days; a day that fails gives a Delivery with the outcome "failed".

    One group is downloaded while the caller loads the previous one. More prefetching would fill memory in a long range
    and send the API a burst of requests.
    """

    def fetch(day: dt.date, known: KnownContents) -> Delivery:
        try:
            return fetch_increment(api, raw_files, report_id, day, known, eraser)
        except (ReportApiError, RawFilesError) as error:
            return Delivery("increment", day, day, "failed", str(error), report_id)

    def submit(group: Sequence[dt.date]) -> list[Future[Delivery]]:
        known = known_contents(warehouse, "increment", group[0], group[-1])
        return [pool.submit(fetch, day, known.get((day, day), {})) for day in group]

    eraser = NameEraser(erased_customers(warehouse))
    with ThreadPoolExecutor(_FETCHERS, thread_name_prefix="fetch") as pool:
        submitted = map(submit, groups)
        prefetched = next(submitted, None)
        while prefetched is not None:
            group, prefetched = prefetched, next(submitted, None)
            yield [delivery.result() for delivery in group]


def fetch_increment(
    api: ReportApi, raw_files: RawFiles, report_id: str, day: dt.date, known: KnownContents, eraser: NameEraser
) -> Delivery:
    """Request the increment of a day and store its files. Raises `ReportApiError`."""
    increment = api.increment(report_id, day)
    if not increment.found:
        return Delivery("increment", day, day, "not_found", increment.reason, report_id)
    ids = {"report_id": report_id, "increment_id": increment.increment_id, "day": day}

    def store(file: str, url: str) -> FetchedFile:
        return _store(api, raw_files, eraser, file, f"{file}_inc/{day}", ids, known.get(file, {}), url)

    files, missing = _store_all(store, increment.links, lambda: api.increment(report_id, day).links)
    reason = _reason_without_orders(missing)
    return Delivery(
        "increment", day, day, "delivered", reason, report_id, increment.increment_id, files=files, missing=missing
    )


def _reason_without_orders(missing: Mapping[str, str]) -> str | None:
    why = missing.get(USER_ORDERS_LOG.name)
    return f"no order file delivered: {why}" if why else None


def _store_all(
    store: Callable[[str, str], FetchedFile], links: Links, request_links: Callable[[], Links]
) -> tuple[dict[str, FetchedFile], dict[str, str]]:
    """Store each of the four files; returns ({file: stored}, {file: reason why it is missing}).

    If a link expired meanwhile, fresh links are requested once per file, and used for the remaining files too.
    """
    files, missing = {}, {}
    for file in REPORT_FILES:
        if file not in links:
            missing[file] = "not listed in the response"
            continue
        try:
            try:
                files[file] = store(file, links[file])
            except LinkExpired:
                links = request_links()
                if file not in links:
                    raise FileMissing(f"{file} is no longer listed") from None
                files[file] = store(file, links[file])
        except FileMissing as error:
            missing[file] = str(error)
    return files, missing


def _store(
    api: ReportApi,
    raw_files: RawFiles,
    eraser: NameEraser,
    file: str,
    folder: str,
    ids: Mapping[str, object],
    known: Mapping[str, str],
    url: str,
) -> FetchedFile:
    def attempt() -> FetchedFile:
        with api.download(url) as download:
            content = download.content

            def manifest(stored: StoredFile) -> Mapping[str, object]:
                return {
                    "file": file,
                    "url": without_query(url),
                    "sha256": stored.sha256,
                    "bytes": stored.bytes,
                    "lines": stored.line_count,
                    "fetched_at": stored.fetched_at.isoformat(),
                    "etag": content.etag,
                    "last_modified": content.last_modified,
                    **ids,
                }

            chunks = eraser.erase(REPORT_FILES[file], download.chunks)
            stored_file = raw_files.add(folder, chunks, manifest, known)
            return FetchedFile(file, without_query(url), stored_file, content)

    retrying = Retrying(
        retry=retry_if_exception_type(TransientError),
        stop=stop_after_attempt(_DOWNLOAD_ATTEMPTS),
        wait=wait_exponential_jitter(multiplier=0.3, max=10),
        reraise=True,
    )
    return retrying(attempt)


def record(transaction: Transaction, deliveries: Sequence[Delivery], run_id: str) -> list[Mapping[str, RecordedFile]]:
    """Record deliveries and their files; contents recorded before get a new delivery, but no new fetch."""
    responses = [
        {
            "kind": delivery.kind,
            "first_day": delivery.first_day.isoformat(),
            "last_day": delivery.last_day.isoformat(),
            "outcome": delivery.outcome,
            "reason": delivery.reason,
            "report_id": delivery.report_id,
            "increment_id": delivery.increment_id,
            "run_id": run_id,
        }
        for delivery in deliveries
    ]
    transaction.run("raw/fetch", "lock")
    recorded = transaction.rows("raw/delivery", "record", deliveries=Jsonb(responses))
    delivery_ids = [row["delivery_id"] for row in recorded]
    files = Jsonb(
        [
            {
                "delivery_id": delivery_id,
                "file": file,
                "kind": delivery.kind,
                "first_day": delivery.first_day.isoformat(),
                "last_day": delivery.last_day.isoformat(),
                "url": fetched.url,
                "path": fetched.stored.path,
                "sha256": fetched.stored.sha256,
                "bytes": fetched.stored.bytes,
                "line_count": fetched.stored.line_count,
                "etag": fetched.content.etag,
                "last_modified": fetched.content.last_modified,
                "fetched_at": fetched.stored.fetched_at.isoformat(),
            }
            for delivery_id, delivery in zip(delivery_ids, deliveries, strict=True)
            for file, fetched in delivery.files.items()
        ]
    )
    transaction.run("raw/fetch", "record", files=files)
    numbers: dict[int, dict[str, RecordedFile]] = {delivery_id: {} for delivery_id in delivery_ids}
    for row in transaction.rows("raw/fetch", "record_deliveries", files=files):
        numbers[row["delivery_id"]][row["file"]] = RecordedFile(row["number"], row["fetch_id"])
    return [numbers[delivery_id] for delivery_id in delivery_ids]
