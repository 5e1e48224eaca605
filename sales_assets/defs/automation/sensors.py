"""The sensor that notices new increments and changed contents of the last seven days.

Belongs here: telling what is new, cheaply, and asking for runs, each exactly once. Does not belong here: loading,
or having a report made: a new report renames every increment, and a sensor that made one would see only news.
"""

import datetime as dt
import hashlib
import time
from collections.abc import Mapping
from typing import Any

import dagster as dg

from sales_assets.defs.automation.jobs import load_days
from sales_assets.partitions import DAYS, days_of, key_of
from sales_assets.pipeline.file_selection import select_files, unparsed_files
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.resources.report_api import FileMissing, LinkExpired, ReportApi, ReportApiError
from sales_assets.schemas.calendar import day_of
from sales_assets.schemas.report_api import Increment
from sales_assets.schemas.report_files import REPORT_FILES

_WINDOW_DAYS = 7  # increments exist for D-7 .. D-1
_RUNS_PER_TICK = 3
_TICK_SECONDS = 40  # the daemon gives up on a tick after 60
_CONTENT_TAG = "sales_assets/content"
_LONGEST_PAUSE = dt.timedelta(hours=1)


@dg.sensor(job=load_days, minimum_interval_seconds=60)
def new_increments(
    context: dg.SensorEvaluationContext, warehouse: dg.ResourceParam[Warehouse], report_api: dg.ResourceParam[ReportApi]
) -> dg.SensorResult | dg.SkipReason:
    """Ask for the increments of the last seven days and load those that are new or have changed.

    An increment's id derives from date and report, so changed contents keep their id. Each file is compared by the
    marks that storage has given for its contents (ETag, else Last-Modified), and by its hash where the mark is a new
    one: backends of one storage may mark the same contents differently. An unreachable API is a failed tick, not
    "nothing new". A failed load is asked for again, with growing pauses.
    """
    report = warehouse.rows("raw/delivery", "latest_report")
    if not report:
        return dg.SkipReason("No report was fetched yet; increments are asked for by its id. Run `load_report` once.")
    days = days_of(DAYS.get_partition_keys()[-_WINDOW_DAYS:])
    kept = _kept_contents(warehouse, days)
    unfinished = _unfinished_days(warehouse, days)
    deadline = time.monotonic() + _TICK_SECONDS
    requests: list[dg.RunRequest] = []
    # A tick that ran out of time goes on behind the last day it has looked at.
    after = [day for day in days if key_of(day) > (context.cursor or "")]
    cursor = ""
    for day in after or days:
        increment = report_api.increment(report[0]["report_id"], day)
        if increment.found or day in unfinished:
            contents = _contents(report_api, increment, kept, day in unfinished, deadline)
            if contents is not None:
                request = _request(context.instance, day, contents)
                requests += [request] if request else []
        if len(requests) == _RUNS_PER_TICK or time.monotonic() > deadline:
            cursor = key_of(day)
            break
    if not requests:
        return dg.SensorResult(cursor=cursor, skip_reason=dg.SkipReason(f"Nothing new from {days[0]} to {days[-1]}."))
    return dg.SensorResult(requests, cursor=cursor)


def _kept_contents(warehouse: Warehouse, days: list[dt.date]) -> dict[tuple[dt.date, str], dict[str, Any]]:
    rows = warehouse.rows("raw/fetch", "latest_contents", first_day=days[0], last_day=days[-1])
    return {(row["day"], row["file"]): row for row in rows}


def _unfinished_days(warehouse: Warehouse, days: list[dt.date]) -> set[dt.date]:
    """Days of which contents were delivered and not parsed, or parsed and not staged: a load has died in between."""
    found: set[dt.date] = set()
    with warehouse.transaction("sales_assets new_increments", read_only=True) as transaction:
        for file in REPORT_FILES.values():
            unparsed = unparsed_files(transaction, file, days)
            found |= {raw_file.first_day for raw_file in unparsed if raw_file.kind == "increment"}
            found |= {day_of(selected.date_id) for selected in select_files(transaction, file, days)}
    return found


def _contents(
    api: ReportApi,
    increment: Increment,
    kept: Mapping[tuple[dt.date, str], dict[str, Any]],
    is_unfinished: bool,
    deadline: float,
) -> str | None:
    """A digest of what the increment's files hold now, or None when there is nothing to load."""
    contents, changed = [], is_unfinished
    for file, url in sorted(increment.links.items()):
        last = kept.get((increment.day, file))
        try:
            found = _identify(api, url, last, deadline)
        except FileMissing:
            continue  # listed, but not there: the next tick asks again
        contents.append(f"{file}={found}")
        changed = changed or last is None or found != last["sha256"]
    return hashlib.sha256("\n".join(contents).encode()).hexdigest()[:16] if changed else None


def _identify(api: ReportApi, url: str, last: Mapping[str, Any] | None, deadline: float) -> str:
    """The hash of a file's contents: of the contents kept last where storage gives a mark of theirs, else computed.

    A file that can't be downloaded, or not before the tick must end, is known by its mark, and so taken for new: the
    load compares it, or fails with the reason.
    """
    content = api.content(url)
    mark, known = (content.etag, "etags") if content.etag else (content.last_modified, "last_modified")
    if last is not None and mark and mark in last[known]:
        return str(last["sha256"])
    digest = hashlib.sha256()
    try:
        with api.download(url) as download:
            for chunk in download.chunks:
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


def _request(instance: dg.DagsterInstance, day: dt.date, contents: str) -> dg.RunRequest | None:
    """A run for these contents of the day, unless one is under way or has just failed."""
    tag = f"{day}.{contents}"
    earlier = instance.get_run_records(dg.RunsFilter(tags={_CONTENT_TAG: tag}))
    if any(not record.dagster_run.is_finished for record in earlier):
        return None
    if earlier:
        pause = min(dt.timedelta(minutes=2 ** len(earlier)), _LONGEST_PAUSE)
        ended = max(record.update_timestamp for record in earlier)
        if dt.datetime.now(dt.UTC) - ended.replace(tzinfo=dt.UTC) < pause:
            return None
    return dg.RunRequest(run_key=f"{tag}.{len(earlier)}", partition_key=key_of(day), tags={_CONTENT_TAG: tag})
