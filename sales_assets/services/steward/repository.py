"""Repository of the steward's pages: runs statements of ``sql/staging`` in a thread, one transaction per request."""

import asyncio
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import psycopg
import structlog

from sales_assets.postgres.connection import connect
from sales_assets.postgres.explanation import Explanation, explain
from sales_assets.postgres.resolutions import (
    CORRECT,
    Resolution,
    ResolutionError,
    Resolved,
    rejected_rows,
    resolve,
)
from sales_assets.postgres.warehouse import Transaction
from sales_assets.schemas.calendar import date_id

_log = structlog.get_logger()

T = TypeVar("T")
Row = dict[str, Any]

# A page must not wait longer for a statement or for the lock of parse results, which loads hold briefly.
_STATEMENT_MS = 10_000
_NEIGHBOURS = 3
# Maximum rows of one transaction, which holds the lock of parse results for some seconds.
MOST_AT_ONCE = 10_000

Action = Literal["correct", "discard", "parse again", "reopen"]
State = Literal["open", "corrected", "discarded", "resolved"]


class UnavailableError(Exception):
    """The warehouse can't be used."""


@dataclass(frozen=True)
class Filters:
    """Filters of rejected rows; None: no restriction. reason: text in the reason; `…` stands for any text."""

    day: dt.date | None = None
    file: str | None = None
    reason: str | None = None
    state: State | None = "open"

    @property
    def parameters(self) -> dict[str, object]:
        return {
            "day": self.day,
            "date_id": date_id(self.day) if self.day else None,
            "file": self.file,
            "reason": _pattern(self.reason) if self.reason else None,
            "state": self.state,
        }


@dataclass(frozen=True)
class Change:
    """An action on several rejected rows. find, replacement: for a correction, the text to replace in each row."""

    action: Action
    find: str = ""
    replacement: str = ""

    def of(self, row: Row) -> Resolution:
        """Return the resolution of one row. Raises `ResolutionError` if the row does not contain the text."""
        number, text = row["quarantine_id"], row["line_text"]
        if self.action != CORRECT:
            return Resolution(number, self.action)
        if not self.find or self.find not in text:
            raise ResolutionError(f"{number}: does not contain the text to replace")
        return Resolution(number, CORRECT, text.replace(self.find, self.replacement))


@dataclass(frozen=True)
class Found:
    """A page of rejected rows; reasons: [{reason, rows, matching}] without the values in them; count: all rows."""

    rows: list[Row]
    reasons: list[Row]
    count: int


@dataclass(frozen=True)
class RejectedRow:
    """A rejected row with its neighbours and resolutions.

    staged, rejected: neighbours of the file, as they are staged or rejected; staged is empty if the days of the file
    are loaded from other files.
    history: earlier resolutions. days: days that these changed, with totals and progress.
    """

    row: Row
    staged: list[Row]
    rejected: list[Row]
    history: list[Row]
    days: list[Row]


@dataclass(frozen=True)
class ResolutionPage:
    """Resolutions, latest first, and their days by resolution_id."""

    rows: list[Row]
    days: Mapping[int, list[Row]]
    count: int


class StewardRepository:
    """Repository of the pages. Every method raises `UnavailableError` when the warehouse can't be used."""

    def __init__(self, warehouse_url: str) -> None:
        self._url = warehouse_url

    async def search(self, filters: Filters, *, limit: int, offset: int) -> Found:
        def read(transaction: Transaction) -> Found:
            reasons = transaction.rows("staging/quarantine", "reasons", **filters.parameters)
            rows = transaction.rows("staging/quarantine", "list", **filters.parameters, limit=limit, offset=offset)
            return Found(rows, reasons, sum(reason["matching"] for reason in reasons))

        return await self._run(read, writing=False)

    async def rejected_row(self, quarantine_id: int) -> RejectedRow:
        """Read a row with its neighbours in the file. Raises `ResolutionError` for an unknown number."""

        def read(transaction: Transaction) -> RejectedRow:
            (row,) = rejected_rows(transaction, [quarantine_id])
            lines = {"first_line": row["line_no"] - _NEIGHBOURS, "last_line": row["line_no"] + _NEIGHBOURS}
            staged = transaction.rows(
                f"staging/{row['file']}",
                "around",
                fetch_id=row["fetch_id"],
                first_date_id=date_id(row["first_day"]),
                last_date_id=date_id(row["last_day"]),
                limit=4 * _NEIGHBOURS,
                **lines,
            )
            rejected = transaction.rows("staging/quarantine", "around", fetch_id=row["fetch_id"], **lines)
            history = transaction.rows(
                "staging/resolution",
                "history",
                quarantine_id=quarantine_id,
                inherited_from=row["inherited_from"],
            )
            days = _days_of(transaction, history)
            return RejectedRow(row, staged, rejected, history, days)

        return await self._run(read, writing=False)

    async def resolve(
        self, resolutions: Sequence[Resolution], *, by: str, seen: Mapping[int, dt.datetime | None] | None = None
    ) -> Resolved:
        """Store resolutions, all or none. Raises `ResolutionError`."""
        return await self._run(
            lambda transaction: resolve(transaction, resolutions, by=by, via="page", seen=seen), writing=True
        )

    async def change(
        self, numbers: Sequence[int], change: Change, *, by: str, seen: Mapping[int, dt.datetime | None] | None = None
    ) -> Resolved:
        """Resolve several rows, all or none. Raises `ResolutionError`."""
        return await self._run(
            lambda transaction: _change(transaction, rejected_rows(transaction, numbers), change, by, seen),
            writing=True,
        )

    async def change_matching(self, filters: Filters, count: int, change: Change, *, by: str) -> Resolved:
        """Resolve all rows that match the filters, all or none.

        count: number of matching rows that the page showed. Raises `ResolutionError`, also if the number has changed or
        is above `MOST_AT_ONCE`.
        """

        def work(transaction: Transaction) -> Resolved:
            # Lock before reading the rows, so that no other resolution or load intervenes.
            transaction.run("locks", "parse_results")
            limit = MOST_AT_ONCE + 1
            rows = transaction.rows("staging/quarantine", "list", **filters.parameters, limit=limit, offset=0)
            if len(rows) > MOST_AT_ONCE:
                raise ResolutionError(f"More than {MOST_AT_ONCE} rows match: narrow the filter")
            if len(rows) != count:
                raise ResolutionError(f"{len(rows)} rows match the filter now, {count} when the page was shown")
            return _change(transaction, rows, change, by)

        return await self._run(work, writing=True)

    async def resolutions(self, *, limit: int, offset: int) -> ResolutionPage:
        def read(transaction: Transaction) -> ResolutionPage:
            rows = transaction.rows("staging/resolution", "page", limit=limit, offset=offset)
            days: dict[int, list[Row]] = {row["resolution_id"]: [] for row in rows}
            for day in _days_of(transaction, rows):
                days[day["resolution_id"]].append(day)
            count = transaction.rows("staging/resolution", "count")[0]["count"]
            return ResolutionPage(rows, days, count)

        return await self._run(read, writing=False)

    async def explanation(self, day: dt.date, *, limit: int, offset: int) -> tuple[Explanation, list[Row]]:
        """Explain a day, with a page of the rows of the mart and their source lines."""

        def read(transaction: Transaction) -> tuple[Explanation, list[Row]]:
            lines = transaction.rows("staging/why", "lines", date_id=date_id(day), limit=limit, offset=offset)
            return explain(transaction, day), lines

        return await self._run(read, writing=False)

    async def audit_trail(self, *, limit: int, offset: int) -> tuple[list[Row], int]:
        """Read a page of the audit trail, latest first, and the number of all entries."""

        def read(transaction: Transaction) -> tuple[list[Row], int]:
            rows = transaction.rows("staging/resolution", "audit", limit=limit, offset=offset)
            return rows, transaction.rows("staging/resolution", "audit_count")[0]["count"]

        return await self._run(read, writing=False)

    async def _run(self, work: Callable[[Transaction], T], *, writing: bool) -> T:
        def run() -> T:
            purpose = "sales_assets steward"
            with connect(self._url, purpose, writing=writing, patience=0, statement_ms=_STATEMENT_MS) as connection:
                connection.read_only = not writing
                return work(Transaction(connection))

        try:
            return await asyncio.to_thread(run)
        except (psycopg.OperationalError, psycopg.errors.QueryCanceled) as error:
            _log.error("the warehouse is unavailable", error=type(error).__name__)
            raise UnavailableError from error


def _change(
    transaction: Transaction,
    rows: Sequence[Row],
    change: Change,
    by: str,
    seen: Mapping[int, dt.datetime | None] | None = None,
) -> Resolved:
    return resolve(transaction, [change.of(row) for row in rows], by=by, via="page", seen=seen)


def _days_of(transaction: Transaction, resolutions: Sequence[Row]) -> list[Row]:
    ids = [row["resolution_id"] for row in resolutions]
    return transaction.rows("staging/resolution_day", "of_resolutions", resolution_ids=ids)


def _pattern(text: str) -> str:
    r"""Return a LIKE pattern that finds a text anywhere; `…` matches any text; `\`, `%` and `_` match themselves."""
    escaped = text.translate({ord(character): f"\\{character}" for character in r"\%_"})
    return f"%{escaped.replace('…', '%')}%"
