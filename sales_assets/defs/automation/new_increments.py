"""Sensor that loads new and changed increments of the last seven days from the report API.

It never requests a report: with a new report every increment gets a new id, so that all of them would look new.
"""

import datetime as dt
import hashlib
import time
from collections.abc import Mapping
from typing import Any

import dagster as dg

from sales_assets.defs.automation.decorators import sensor
from sales_assets.defs.automation.jobs import load_days
from sales_assets.defs.automation.run_requests import log_failure, request_once
from sales_assets.partitions import DAYS, days_of, key_of
from sales_assets.pipeline.erasure import NameEraser, erased_customers
from sales_assets.pipeline.file_selection import select_files, unparsed_files
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.resources.report_api import FileMissing, LinkExpired, ReportApi, ReportApiError
from sales_assets.schemas.calendar import day_of
from sales_assets.schemas.report_files import REPORT_FILES, ReportFile

_WINDOW_DAYS = 7  # increments exist for D-7 .. D-1
_RUNS_PER_TICK = 3
_TICK_SECONDS = 40  # the daemon aborts a tick after 60
# Seconds for which a call is retried: all days of the window have to fit into a tick, and the next tick retries anyway.
_PATIENCE_SECONDS = 2


@sensor(job=load_days, minimum_interval_seconds=60)
def new_increments(
    context: dg.SensorEvaluationContext, warehouse: dg.ResourceParam[Warehouse], report_api: dg.ResourceParam[ReportApi]
) -> dg.SensorResult | dg.SkipReason:
    """Load increments of the last seven days that are new or have changed.

    An increment's id derives from date and report, so changed contents keep their id. Each file is compared by the
    storage's ETag, else Last-Modified, and by its hash if that is new: backends of one storage may have different ETags
    for the same contents. A day whose files can't be compared is logged and never blocks the others; if nothing else is
    new it fails the tick: an unreachable API is not "nothing new". A failed load is retried with growing pauses.
    """
    report = warehouse.rows("raw/delivery", "latest_report")
    if not report:
        return dg.SkipReason("No report was fetched yet; increments are requested by its id. Run `load_report` once.")
    days = days_of(DAYS.get_partition_keys()[-_WINDOW_DAYS:])
    kept = _stored_contents(warehouse, days)
    unfinished = _unfinished_days(warehouse, days)
    deadline = time.monotonic() + _TICK_SECONDS
    eraser = NameEraser(erased_customers(warehouse))
    requests: list[dg.RunRequest] = []
    failures: dict[str, Exception] = {}
    # A tick that ran out of time continues after the last day it checked.
    after = [day for day in days if key_of(day) > (context.cursor or "")]
    cursor = ""
    with report_api.patient_for(_PATIENCE_SECONDS):
        for day in after or days:
            try:
                report_id, is_unfinished = report[0]["report_id"], day in unfinished
                contents = _contents(report_api, report_id, day, kept, is_unfinished, deadline, eraser)
                if contents is not None:
                    request = request_once(context.instance, load_days.name, f"{day}.{contents}", day=key_of(day))
                    requests += [request] if request else []
            except Exception as error:  # noqa: BLE001  a failing day never blocks the others, however it fails
                log_failure(context, key_of(day), error)
                failures[key_of(day)] = error
            if len(requests) == _RUNS_PER_TICK or time.monotonic() > deadline:
                cursor = key_of(day)
                break
    if requests:
        return dg.SensorResult(requests, cursor=cursor)
    if failures and not cursor and not context.cursor:
        raise next(iter(failures.values()))
    # A failed tick keeps its old cursor, so a tick that checked only some days must not fail.
    failed = "".join(f" {day} failed: {type(error).__name__}: {error}." for day, error in failures.items())
    nothing = f"Nothing new from {(after or days)[0]} to {cursor or days[-1]}."
    return dg.SensorResult(cursor=cursor, skip_reason=dg.SkipReason(nothing + failed))


def _stored_contents(warehouse: Warehouse, days: list[dt.date]) -> dict[tuple[dt.date, str], dict[str, Any]]:
    rows = warehouse.rows("raw/fetch", "latest_contents", first_day=days[0], last_day=days[-1])
    return {(row["day"], row["file"]): row for row in rows}


def _unfinished_days(warehouse: Warehouse, days: list[dt.date]) -> set[dt.date]:
    """Return days with files that were fetched but not parsed, or parsed but not staged, after a killed load."""
    found: set[dt.date] = set()
    with warehouse.transaction("sales_assets new_increments", read_only=True) as transaction:
        for file in REPORT_FILES.values():
            unparsed = unparsed_files(transaction, file, days)
            found |= {raw_file.first_day for raw_file in unparsed if raw_file.kind == "increment"}
            found |= {day_of(selected.date_id) for selected in select_files(transaction, file, days)}
    return found


def _contents(
    api: ReportApi,
    report_id: str,
    day: dt.date,
    kept: Mapping[tuple[dt.date, str], dict[str, Any]],
    is_unfinished: bool,
    deadline: float,
    eraser: NameEraser,
) -> str | None:
    """Compute a digest of the contents of the day's increment; None if there is nothing to load."""
    increment = api.increment(report_id, day)
    if not increment.found and not is_unfinished:
        return None
    contents, changed = [], is_unfinished
    for file, url in sorted(increment.links.items()):
        last = kept.get((day, file))
        try:
            found = _identify(api, REPORT_FILES[file], url, last, deadline, eraser)
        except FileMissing:
            continue  # listed, but missing: the next tick checks again
        contents.append(f"{file}={found}")
        changed = changed or last is None or found != last["sha256"]
    return hashlib.sha256("\n".join(contents).encode()).hexdigest()[:16] if changed else None


def _identify(
    api: ReportApi, file: ReportFile, url: str, last: Mapping[str, Any] | None, deadline: float, eraser: NameEraser
) -> str:
    """Return the hash of a file's contents: the stored hash if ETag or Last-Modified is known, else that of a download.

    The names of erased customers are blanked before the contents are hashed, as in the stored file.

    A file that can't be downloaded in time is identified by its ETag or Last-Modified, and so counts as new: the load
    compares its contents, or fails with the reason.
    """
    content = api.content(url)
    mark, known = (content.etag, "etags") if content.etag else (content.last_modified, "last_modified")
    if last is not None and mark and mark in last[known]:
        return str(last["sha256"])
    digest = hashlib.sha256()
    try:
        with api.download(url) as download:
            for chunk in eraser.erase(file, download.chunks):
                digest.update(chunk)
                if mark and time.monotonic() > deadline:
                    return mark
    except (FileMissing, LinkExpired):
        raise
    except ReportApiError:
        if not mark:
            raise
        return mark
    return digest.hexdigest()
