"""Find raw files that are not parsed yet, and select the file of each day.

The rule itself (docs/data-contracts/day-rules.md, "Selection") is one SQL statement: `candidates` in
``sql/staging/staged_day.sql``.
"""

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sales_assets.postgres.warehouse import Transaction
from sales_assets.schemas.report_files import ReportFile


@dataclass(frozen=True)
class RawFile:
    """A raw file to be parsed, as recorded in ``raw.fetch``.

    corrected: whether it was parsed before and may give other rows now: a rejected row was resolved since, or the
        unusable file was delivered again.
    found_at: when it was looked up.
    resolved_at: when a rejected row of it was last resolved, as of `found_at`.
    read_at: time of its recorded parse, as of `found_at`; None if it was never parsed.
    is_quarantined: whether rows of it were ever rejected.
    """

    fetch_id: int
    kind: str
    path: str
    sha256: str
    first_day: dt.date
    last_day: dt.date
    line_count: int
    corrected: bool
    found_at: dt.datetime
    resolved_at: dt.datetime | None = None
    read_at: dt.datetime | None = None
    is_quarantined: bool = False


@dataclass(frozen=True)
class SelectedFile:
    """The file selected for a day.

    staged: whether staging already has rows of the day, from another file or an earlier parse of this one.
    """

    date_id: int
    fetch_id: int
    revision: int
    staged: bool


def unparsed_files(transaction: Transaction, file: ReportFile, days: Sequence[dt.date]) -> list[RawFile]:
    """Find raw files that cover some of the days and have to be parsed.

    These are files that were never parsed, that have rows resolved since, or that were unusable and delivered again.
    Increments come first: days loaded from them need no report.
    """
    rows = transaction.rows(
        "staging/fetch_reading", "unparsed", file=file.name, first_day=min(days), last_day=max(days)
    )
    return [RawFile(**row) for row in rows]


def files_to_parse_again(transaction: Transaction, file: ReportFile, days: Sequence[dt.date]) -> list[RawFile]:
    """Find parsed files that are now selected for days that staging has from another file or not at all."""
    return look_up_files(transaction, {selected.fetch_id for selected in select_files(transaction, file, days)})


def look_up_files(transaction: Transaction, fetch_ids: Collection[int]) -> list[RawFile]:
    """Look up files that were parsed before, to parse them again unchanged."""
    rows = transaction.rows("staging/fetch_reading", "parsed", fetch_ids=sorted(fetch_ids))
    return [RawFile(**row) for row in rows]


def select_files(transaction: Transaction, file: ReportFile, days: Sequence[dt.date]) -> list[SelectedFile]:
    """Select a file for each day; days that staging already has from that file are left out."""
    rows = transaction.rows("staging/staged_day", "candidates", file=file.name, days=list(days), every=False)
    return [SelectedFile(row["date_id"], row["fetch_id"], row["revision"], bool(row["is_staged"])) for row in rows]


def corrections_of(transaction: Transaction, raw_files: Sequence[RawFile]) -> dict[int, dict[int, str | None]]:
    """Read the resolved rows of files as {fetch_id: {line number: replacement text, or None if discarded}}."""
    corrections: dict[int, dict[int, str | None]] = {raw_file.fetch_id: {} for raw_file in raw_files}
    for row in transaction.rows("staging/fetch_reading", "corrections", fetch_ids=list(corrections)):
        corrections[row["fetch_id"]][row["line_no"]] = row["text"]
    return corrections
