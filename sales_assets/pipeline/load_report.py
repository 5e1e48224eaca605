"""The outcome of a load, per table and day: counts, or the reason of a failure."""

import datetime as dt
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sales_assets.schemas.report_files import ReportFile

F_SALES = "mart.f_sales"

# Rules that a load verifies for the days that it replaces, named like the corresponding asset checks.
RECONCILIATION = "equal_to_staging"
UNIQUE_KEYS = "no_key_twice"
ONE_DATE = "uniq_id_on_one_date"
ROW_RULES = ("statuses", "signs", "legacy_rows_shipped")


def raw_table(file: ReportFile) -> str:
    """Return the name of the raw table for the increments of a file."""
    return f"raw.{file.name}_inc"


def staging_table(file: ReportFile) -> str:
    """Return the name of a file's staging table."""
    return f"staging.{file.name}"


class LoadReport:
    """Facts and failures by table and day. A day counts as good for a table until it fails.

    tables: schema-qualified names, in the order of the data flow.
    facts: {(table, day): metadata of the day}.
    failures: {day: reasons}.
    verified: {rule: days for which the load has verified it before the commit}; the asset check skips them.
    lock_wait_seconds: time that the load waited for other writers of its days.
    """

    def __init__(self, tables: Iterable[str], days: Sequence[dt.date]) -> None:
        self.tables = tuple(tables)
        self.days = list(days)
        self.facts: dict[tuple[str, dt.date], dict[str, Any]] = {}
        self.failures: dict[dt.date, list[str]] = {}
        self.verified: dict[str, set[dt.date]] = {}
        self.lock_wait_seconds = 0.0
        self._failed: dict[str, set[dt.date]] = {table: set() for table in self.tables}

    def add(self, table: str, day: dt.date, facts: Mapping[str, Any]) -> None:
        """Add facts about the day of a table."""
        self.facts.setdefault((table, day), {}).update(facts)

    def fail(self, day: dt.date, reason: str, tables: Collection[str]) -> None:
        """Record that the day was not loaded into these tables, with the reason."""
        for table in set(self.tables) & set(tables):
            self._failed[table].add(day)
        reasons = self.failures.setdefault(day, [])
        if reason not in reasons:
            reasons.append(reason)

    def good_days(self, table: str, days: Sequence[dt.date] | None = None) -> list[dt.date]:
        """Return the days that did not fail for a table, out of `days` or of all days."""
        failed = self._failed.get(table, set())
        return [day for day in (self.days if days is None else days) if day not in failed]
