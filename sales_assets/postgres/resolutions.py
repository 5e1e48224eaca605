"""Resolve rejected rows: store corrections and discards, or undo them, and record who did it and which days it changes.

The only implementation of docs/data-contracts/day-rules.md ("Resolution"), for the command and the pages. It loads
nothing: days recorded in ``staging.resolution_day`` are loaded by the command or requested by the sensor, and the load
marks them.
"""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from sales_assets.schemas.calendar import date_id
from sales_assets.schemas.line_rules import InvalidRecordError, LineRules, header_of, record_of, split_record
from sales_assets.schemas.report_files import REPORT_FILES
from sales_assets.settings import first_day

if TYPE_CHECKING:
    from sales_assets.postgres.warehouse import Transaction

Row = dict[str, Any]

CORRECT: Final = "correct"
DISCARD: Final = "discard"
PARSE_AGAIN: Final = "parse again"
REOPEN: Final = "reopen"

_SHOWN_FAULTS = 20


class ResolutionError(Exception):
    """Rows can't be resolved; the message has a line per row with its number and the reason. Nothing was stored."""


@dataclass(frozen=True)
class Resolution:
    """Resolution of a rejected row.

    text: replaces the row in its file; for `CORRECT` only. `PARSE_AGAIN` parses the row unchanged, after an upgrade
    with more lenient rules. `REOPEN` undoes a correction or a discard.
    """

    quarantine_id: int
    action: Literal["correct", "discard", "parse again", "reopen"]
    text: str | None = None


@dataclass(frozen=True)
class Resolved:
    """Result of storing resolutions.

    days: days that they can change, and that are to be loaded again; days outside the calendar are left out.
    inherited: numbers of identical rows of other contents, which inherited a resolution, or were reopened too.
    """

    days: list[dt.date]
    inherited: list[int]


def rejected_rows(transaction: "Transaction", ids: Sequence[int]) -> list[Row]:
    """Read rejected rows in detail. Raises `ResolutionError` for an unknown number."""
    rows = transaction.rows("staging/quarantine", "show", ids=list(ids))
    unknown = sorted(set(ids) - {row["quarantine_id"] for row in rows})
    if unknown:
        raise ResolutionError(
            f"not in quarantine: {', '.join(map(str, unknown))}; `sales-assets quarantine list --all` lists the rows"
        )
    return rows


def resolve(
    transaction: "Transaction",
    resolutions: Sequence[Resolution],
    *,
    by: str,
    via: Literal["command", "page"],
    seen: Mapping[int, dt.datetime | None] | None = None,
) -> Resolved:
    """Store resolutions of rejected rows, all or none. Idempotent but for the audit trail.

    Identical rows of other contents inherit the resolution, because these contents may be delivered again; for the same
    reason they are reopened together. Takes the lock of parse results: commit soon.

    Args:
        transaction: Open transaction; it has taken no other lock.
        resolutions: One per row.
        by: Name of the user.
        via: Interface of the user.
        seen: {quarantine_id: when the row was last resolved, as its user saw it}; a row that was resolved since then
            is refused.

    Raises:
        ResolutionError: A number is unknown, a correction breaks a line rule or names a customer who was erased, a row
            to be reopened was not resolved, or a row was resolved since it was seen.
    """
    transaction.run("locks", "parse_results")
    by_id = {resolution.quarantine_id: resolution for resolution in resolutions}
    rows = rejected_rows(transaction, list(by_id))
    # Read after the lock, which an erasure takes for each file after it has recorded its customer: a correction is
    # either refused here, or erased with its file.
    erased = {row["customer_id"] for row in transaction.rows("staging/erased_customer", "all")}
    faults = [fault for row in rows if (fault := _fault(row, by_id[row["quarantine_id"]], seen or {}, erased))]
    if faults:
        more = [f"and {len(faults) - _SHOWN_FAULTS} more"] if len(faults) > _SHOWN_FAULTS else []
        raise ResolutionError("\n".join([*faults[:_SHOWN_FAULTS], *more]))
    of_action = {
        action: [number for number, one in by_id.items() if one.action == action]
        for action in (CORRECT, DISCARD, PARSE_AGAIN, REOPEN)
    }
    texts = [by_id[number].text for number in of_action[CORRECT]]
    transaction.run("staging/quarantine", "correct", ids=of_action[CORRECT], texts=texts)
    transaction.run("staging/quarantine", "discard", ids=of_action[DISCARD])
    transaction.run("staging/quarantine", "touch", ids=of_action[PARSE_AGAIN])
    transaction.run("staging/quarantine", "reopen", ids=of_action[REOPEN])
    changed = [*of_action[CORRECT], *of_action[DISCARD], *of_action[REOPEN]]
    inherited = transaction.rows("staging/quarantine", "inherit", fetch_ids=[], ids=changed, reopened=of_action[REOPEN])
    numbers = _record(transaction, by_id, by, via)
    former = {row["quarantine_id"]: row["corrected_text"] for row in rows if row["state"] != "discarded"}
    for heir in inherited:
        if heir["quarantine_id"] not in by_id:
            former[heir["quarantine_id"]] = heir["former_text"]
            # The origin may be an earlier resolution, which was not inherited then.
            numbers[heir["quarantine_id"]] = numbers.get(heir["origin"]) or min(numbers.values())
    affected = rejected_rows(transaction, list(numbers))
    days = _record_days(transaction, affected, former, numbers)
    return Resolved(days, sorted(numbers.keys() - by_id.keys()))


def check_correction(row: Row, text: str, erased: Collection[int]) -> str | None:
    """Return the reason why a corrected text is refused, or None if it is valid by itself.

    erased: customers whose names were erased, and which a correction must not bring back; columns that are not in the
    contract may have names too. Rules between lines, such as conflicting keys or a day outside the period of the file,
    are checked by the load.
    """
    if row["header"] is None:  # parsed by a version that did not record it: the load checks all rules
        return "NUL byte" if "\0" in text else None
    file = REPORT_FILES[row["file"]]
    header = header_of(row["header"], file)
    record = record_of(text)
    try:
        values = LineRules(file, header).read(record)
    except InvalidRecordError as error:
        return str(error)
    if values.get("customer_id") not in erased:
        return None
    personal = {*file.personal, *header.extra_columns}
    cells = zip(header.columns, split_record(record.decode()), strict=True)
    named = [column for column, cell in cells if column in personal and cell]
    return (
        f"the names of customer {values['customer_id']} were erased: leave {', '.join(named)} empty" if named else None
    )


def _fault(
    row: Row, resolution: Resolution, seen: Mapping[int, dt.datetime | None], erased: Collection[int]
) -> str | None:
    number = row["quarantine_id"]
    if number in seen and seen[number] != row["corrected_at"]:
        return f"{number}: was resolved by another user meanwhile"
    fault = None
    if resolution.action == CORRECT:
        fault = check_correction(row, resolution.text or "", erased)
    elif resolution.action == REOPEN and row["state"] != "discarded" and row["corrected_text"] is None:
        fault = "was neither corrected nor discarded"
    return f"{number}: {fault}" if fault else None


def _record(transaction: "Transaction", by_id: Mapping[int, Resolution], by: str, via: str) -> dict[int, int]:
    """Write the audit trail; returns {quarantine_id: resolution_id}."""
    recorded = transaction.rows(
        "staging/resolution",
        "record",
        quarantine_ids=list(by_id),
        actions=[resolution.action for resolution in by_id.values()],
        texts=[resolution.text for resolution in by_id.values()],
        resolved_by=by,
        via=via,
    )
    return {row["quarantine_id"]: row["resolution_id"] for row in recorded}


def _record_days(
    transaction: "Transaction",
    affected: Sequence[Row],
    former: Mapping[int, str | None],
    numbers: Mapping[int, int],
) -> list[dt.date]:
    """Record the days to load.

    former: {quarantine_id: corrected text before the resolution}.
    numbers: {quarantine_id: resolution_id}; a row that inherits a resolution has the resolution_id of its origin.
    """
    last_day = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1)
    places = sorted(
        {
            (numbers[row["quarantine_id"]], row["fetch_id"], day)
            for row in affected
            for day in _days(row, former.get(row["quarantine_id"]), first_day(), last_day)
        }
    )
    days = sorted({day for _, _, day in places})
    transaction.run(
        "staging/resolution_day",
        "record",
        date_ids=[date_id(day) for day in days],
        resolution_ids=[resolution_id for resolution_id, _, _ in places],
        fetch_ids=[fetch_id for _, fetch_id, _ in places],
        days=[date_id(day) for _, _, day in places],
    )
    return days


def _days(row: Row, former: str | None, first: dt.date, last: dt.date) -> set[dt.date]:
    """Find the days that a resolved row can change: those of its delivered, corrected and formerly corrected text.

    For a file without dates, or of which every row was rejected, these are all days that it covers: with its first
    valid row it becomes selectable for all of them.
    """
    begin, end = max(row["first_day"], first), min(row["last_day"], last)
    span = {begin + dt.timedelta(days=n) for n in range((end - begin).days + 1)}
    file = REPORT_FILES[row["file"]]
    if row["verdict"] == "failed" or row["header"] is None or not file.is_dated:
        return span
    numbers = {row["date_id"]}
    rules = LineRules(file, header_of(row["header"], file))
    for text in {row["corrected_text"] or row["line_text"], former or row["line_text"]}:
        with suppress(InvalidRecordError):  # its day is that of the delivered text, if it has one
            numbers.add(rules.read(record_of(text))["date_id"])
    covered = {row["first_day"] + dt.timedelta(days=n) for n in range((row["last_day"] - row["first_day"]).days + 1)}
    named = {day for day in covered if date_id(day) in numbers}
    return named & span if named else span
