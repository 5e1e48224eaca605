"""`sales-assets quarantine`: seeing bad lines, settling them, and taking them back to where they came from.

Belongs here: marking lines as corrected or discarded and running the days that they concern again, through Dagster.
Does not belong here: how a corrected line is read (`sales_assets.pipeline.parse_file`).
"""

import datetime as dt
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from sales_assets.definitions import defs
from sales_assets.defs.facts.assets import F_SALES
from sales_assets.defs.staging.assets import staging_key
from sales_assets.deploy.instance import prepare_dagster_home
from sales_assets.deploy.runs import failures_of, range_tags, run_job
from sales_assets.partitions import DAYS, days_of, key_of, ranges
from sales_assets.pipeline.csv_reader import ReportReader, UnreadableFile, parse_line
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.resources.raw_files import RawFiles, RawFilesError
from sales_assets.schemas.calendar import date_id
from sales_assets.schemas.report_files import REPORT_FILES, USER_ORDERS_LOG
from sales_assets.settings import first_day

Row = dict[str, Any]


class QuarantineError(Exception):
    """A line can't be settled as asked; the message says which and why."""


@dataclass(frozen=True)
class Replayed:
    """The rows after the replay, and what went wrong while their days were loaded.

    also: the very same rows of other contents, which have taken over the resolution.
    """

    lines: list[Row]
    failures: list[str]
    also: list[int]


def list_lines(warehouse: Warehouse, *, day: dt.date | None, all_states: bool, limit: int) -> list[Row]:
    return warehouse.rows(
        "staging/quarantine",
        "list",
        day=day,
        date_id=date_id(day) if day else None,
        all_states=all_states,
        limit=limit,
    )


def show_lines(warehouse: Warehouse, ids: Sequence[int]) -> list[Row]:
    """Everything known of some lines. Raises `QuarantineError` for an unknown number."""
    rows = warehouse.rows("staging/quarantine", "show", ids=list(ids))
    _require_all(ids, rows)
    return rows


def corrections_in(file: Path) -> dict[int, str]:
    """{quarantine_id: line} of a file of JSON lines, as `quarantine list --json` writes them."""
    corrections = {}
    try:
        # Not splitlines(): it knows further line ends, which a bad line may hold and JSON leaves as they are.
        lines = file.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise QuarantineError(f"{file} is not UTF-8 ({error.reason} at byte {error.start})") from error
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
            corrections[int(row["quarantine_id"])] = str(row["line_text"])
        except (ValueError, KeyError, TypeError) as error:
            raise QuarantineError(
                f"{file}, line {number}: expected a JSON object with quarantine_id and line_text ({error})"
            ) from error
    return corrections


def replay(
    warehouse: Warehouse,
    *,
    corrections: Mapping[int, str],
    discarded: Collection[int],
    as_they_are: Collection[int],
) -> Replayed:
    """Settle lines and load the days they concern again, from the fetches that are kept.

    A corrected row takes the place of the rejected one in its fetch, with its line number; a discarded one is left out
    for good. The very same row of other contents takes over the resolution, because these may be delivered again. Then
    the choice between fetches is made again. Doing it twice changes nothing.
    """
    ids = [*corrections, *discarded, *as_they_are]
    show_lines(warehouse, ids)
    with warehouse.writing() as writer, writer.transaction("sales_assets quarantine replay") as transaction:
        for number, text in corrections.items():
            transaction.run("staging/quarantine", "correct", id=number, text=text)
        for number in discarded:
            transaction.run("staging/quarantine", "discard", id=number)
        transaction.run("staging/quarantine", "touch", ids=list(as_they_are))
        resolved = [*corrections, *discarded]
        inherited = transaction.rows("staging/quarantine", "inherit", fetch_ids=[], ids=resolved)
    also = sorted({row["quarantine_id"] for row in inherited} - set(ids))
    failures = _load_again(_days_by_file(show_lines(warehouse, [*ids, *also])))
    return Replayed(warehouse.rows("staging/quarantine", "states", ids=ids), failures, also)


def _require_all(ids: Iterable[int], rows: Sequence[Row]) -> None:
    unknown = sorted(set(ids) - {row["quarantine_id"] for row in rows})
    if unknown:
        raise QuarantineError(f"there is no line {', '.join(map(str, unknown))} in quarantine")


def _days(line: Row) -> set[dt.date]:
    """The days of the fetch that a resolved row can change; all of an undated file's, or of a fetch of no use.

    Where the new text can be parsed, it says which day it belongs to; the old day changes as well.
    """
    text = line["corrected_text"] or line["line_text"]
    span = {line["first_day"] + dt.timedelta(days=n) for n in range((line["last_day"] - line["first_day"]).days + 1)}
    if line["verdict"] == "failed":
        return span  # with its first good line the fetch becomes one to choose, for all of its days
    file = REPORT_FILES[line["file"]]
    try:
        reader = ReportReader(RawFiles().chunks(line["path"]), file)
        parsed = parse_line(text, file, reader.header, line["line_no"]).lines
    except (UnreadableFile, RawFilesError):
        return span  # the load names the days that the file fails
    numbers = {line["date_id"]}
    if "date_id" in parsed.schema.names:
        numbers |= set(parsed.column("date_id").to_pylist())
    else:
        return span
    return {day for day in span if date_id(day) in numbers} or span


def _days_by_file(lines: Sequence[Row]) -> dict[str, set[dt.date]]:
    by_file: dict[str, set[dt.date]] = {}
    for line in lines:
        by_file.setdefault(line["file"], set()).update(_days(line))
    return by_file


def _load_again(days_by_file: Mapping[str, set[dt.date]]) -> list[str]:
    prepare_dagster_home()
    definitions = defs()
    latest = days_of([DAYS.get_last_partition_key() or ""])[0]
    failures: list[str] = []
    with dg.DagsterInstance.get() as instance:
        for name, days in days_by_file.items():
            file = REPORT_FILES[name]
            selection = [staging_key(file), *([F_SALES] if file is USER_ORDERS_LOG else [])]
            for first, last in ranges(day for day in days if first_day() <= day <= latest):
                tags = range_tags(key_of(first), key_of(last))
                run = run_job(definitions, instance, "load_days", tags, selection=selection)
                failures += failures_of(run)
    return failures
