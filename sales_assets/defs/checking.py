"""Asset checks as queries that return the offending rows, and their evaluation over the days of a run.

Belongs here: what a check is and how its result is told. Does not belong here: the checks themselves (``checks.py``
of each stage) and their queries (``sql/checks``).
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import dagster as dg

from sales_assets.partitions import date_id
from sales_assets.resources.warehouse import Warehouse
from sales_assets.settings import settings

_SHOWN_DAYS = 31
_AT_ONCE = 2  # each query keeps about one processor of the server busy
_NEARBY = dt.timedelta(days=31)
_WHOLE_HISTORY = (dt.date(1000, 1, 1), dt.date(9999, 12, 31))  # eight digits each, as YYYYMMDD has


@dataclass(frozen=True)
class SqlCheck:
    """A check that passes when ``sql/checks/<name>.sql`` returns no row (date_id, offending, example)."""

    name: str
    asset: dg.AssetKey
    description: str
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR

    @property
    def key(self) -> dg.AssetCheckKey:
        return dg.AssetCheckKey(self.asset, self.name)

    def spec(self) -> dg.AssetCheckSpec:
        return dg.AssetCheckSpec(self.name, asset=self.asset, description=self.description)


def evaluate(warehouse: Warehouse, checks: Iterable[SqlCheck], days: Sequence[dt.date]) -> list[dg.AssetCheckResult]:
    """Ask each check about the span of the days; without days, about the whole history.

    The failing days are named in the metadata: a check records one result per run, not one per day, because a
    result per check and day would be most of what a year's run writes to the event log.
    """
    first, last = (min(days), max(days)) if days else _WHOLE_HISTORY
    near_first, near_last = (first - _NEARBY, last + _NEARBY) if days else _WHOLE_HISTORY
    window: dict[str, object] = {
        "timezone": settings().sales_timezone,
        "first_date_id": date_id(first),
        "last_date_id": date_id(last),
        "near_first_date_id": date_id(near_first),
        "near_last_date_id": date_id(near_last),
    }
    span = f"{first} to {last}" if days else "the whole history"

    def ask(check: SqlCheck) -> dg.AssetCheckResult:
        return _result(check, warehouse.rows(f"checks/{check.name}", "offending", **window), span)

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="check") as pool:
        return list(pool.map(ask, checks))


def _result(check: SqlCheck, rows: Sequence[dict[str, object]], span: str) -> dg.AssetCheckResult:
    metadata: dict[str, dg.RawMetadataValue] = {"days asked": span}
    if rows:
        shown = rows[:_SHOWN_DAYS]
        metadata |= {
            "failing days": len(rows),
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
