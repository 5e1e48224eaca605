"""Asset checks as queries that return the offending rows, and their evaluation over the days of a run.

Checks are declared in the module of their table; their queries are in ``sql/checks``.
"""

import datetime as dt
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import dagster as dg

from sales_assets.partitions import FIRST_MONDAY
from sales_assets.schemas.calendar import date_id
from sales_assets.settings import settings

_SHOWN_DAYS = 31
_AT_ONCE = 2  # each query keeps about one processor of the server busy
_NEARBY = dt.timedelta(days=31)
_WHOLE_HISTORY = (dt.date(1000, 1, 1), dt.date(9999, 12, 31))  # eight digits each, as YYYYMMDD has


class Reader(Protocol):
    """A warehouse, or an open transaction to check rows before their commit."""

    def rows(self, file: str, name: str, /, **parameters: object) -> list[dict[str, Any]]: ...


@dataclass(frozen=True)
class SqlCheck:
    """A check that passes when ``sql/checks/<name>.sql`` returns no row (date_id, offending, example).

    query: name of a file that several checks share, for one pass over a large table; its rows also have a `check_name`.
    """

    name: str
    asset: dg.AssetKey
    description: str
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR
    query: str = ""

    @property
    def file(self) -> str:
        return f"checks/{self.query or self.name}"

    @property
    def key(self) -> dg.AssetCheckKey:
        return dg.AssetCheckKey(self.asset, self.name)

    def spec(self) -> dg.AssetCheckSpec:
        return dg.AssetCheckSpec(self.name, asset=self.asset, description=self.description)


def evaluate(
    warehouse: Reader,
    checks: Iterable[SqlCheck],
    days: Sequence[dt.date],
    verified: Mapping[str, Collection[dt.date]] = MappingProxyType({}),
) -> list[dg.AssetCheckResult]:
    """Evaluate each check over the span of the days; without days, over the whole history.

    verified: {check: days that the load has already verified before its commit}. Only the remaining days are queried;
    the metadata states the method.

    A check records one result per run, with the failing days in its metadata. A result per check and day would be most
    of what a year's run writes to the event log. As of Dagster 1.13.27, partitioned checks record their day only in
    runs of one day, leave the days of a range in the state "planned", and can't be executed over the whole history.
    """
    span = f"{min(days)} to {max(days)}" if days else "the whole history"
    checks = list(checks)
    files = list(dict.fromkeys(check.file for check in checks))
    # A query of several checks covers the days that any of them needs.
    to_query = {
        file: [
            day
            for day in days
            if any(day not in verified.get(check.name, ()) for check in checks if check.file == file)
        ]
        for file in files
    }

    def query(file: str) -> list[dict[str, Any]]:
        return [] if days and not to_query[file] else warehouse.rows(file, "offending", **_window(to_query[file]))

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="check") as pool:
        found = dict(zip(files, pool.map(query, files), strict=True))
    return [
        result_of(
            check,
            [row for row in found[check.file] if row.get("check_name", check.name) == check.name],
            {"days checked": span, "method": _method(len(days), len(to_query[check.file]))},
        )
        for check in checks
    ]


def _window(days: Sequence[dt.date]) -> dict[str, object]:
    first, last = (min(days), max(days)) if days else _WHOLE_HISTORY
    near_first, near_last = (first - _NEARBY, last + _NEARBY) if days else _WHOLE_HISTORY
    return {
        "timezone": settings().sales_timezone,
        "first_date_id": date_id(first),
        "last_date_id": date_id(last),
        "near_first_date_id": date_id(near_first),
        "near_last_date_id": date_id(near_last),
        "first_week_date_id": date_id(FIRST_MONDAY),
    }


def _method(days: int, queried: int) -> str:
    if queried == days:
        return "queried"
    return f"counted while loading; {queried} of {days} days queried" if queried else "counted while loading"


def result_of(check: SqlCheck, rows: Sequence[dict[str, object]], metadata: Mapping[str, Any]) -> dg.AssetCheckResult:
    """Return the result of a check from its failing rows (date_id, offending, example)."""
    if rows:
        shown = rows[:_SHOWN_DAYS]
        metadata = {
            **metadata,
            "failing days": len({row["date_id"] for row in rows}),
            "offending": sum(int(str(row["offending"])) for row in rows),
            "first failing days": dg.MetadataValue.table(
                [
                    dg.TableRecord(
                        {
                            "day": str(row["date_id"]),
                            "offending": int(str(row["offending"])),
                            "example": str(row["example"])[:300],
                        }
                    )
                    for row in shown
                ]
            ),
        }
    return dg.AssetCheckResult(
        asset_key=check.asset,
        check_name=check.name,
        passed=not rows,
        severity=check.severity,
        description=check.description,
        metadata=metadata,
    )
