"""Report a load to Dagster: one materialization per day and asset, none for a day that failed."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from sales_assets.dagster_internals import log_materializations, set_asset_metadata
from sales_assets.defs.mart.dimensions import loaded_with
from sales_assets.defs.summaries import plottable
from sales_assets.partitions import format_days, key_of, ranges
from sales_assets.pipeline.load_report import F_SALES, LoadReport

_NAMED_CAUSES = 20
# Metadata of a failure: [[cause, [[first day, last day], ...]], ...].
CAUSES = "causes"
# Metadata of `mart/f_sales`, only if the load had to wait.
LOCK_WAITS = "load waited for locks, s"


def table_of(key: dg.AssetKey) -> str:
    """Return the table name that the engine uses for an asset."""
    return ".".join(key.path)


def report_load(
    context: dg.AssetExecutionContext, report: LoadReport, checks: Sequence[dg.AssetCheckResult]
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Yield the results of a load. With failing days, log the good days as events and raise `dagster.Failure`."""
    metadata = _metadata(report)
    if F_SALES in report.tables:
        log_materializations(context, loaded_with(report.good_days(F_SALES)))
    if report.failures:
        _log_good_days(context, report, metadata, checks)
        raise failure_of(report)
    set_asset_metadata(context, {(_key(table), key_of(day)): facts for (table, day), facts in metadata.items()})
    for table in report.tables:
        yield dg.MaterializeResult(asset_key=_key(table))
    yield from checks


def _key(table: str) -> dg.AssetKey:
    return dg.AssetKey(table.split("."))


def _metadata(report: LoadReport) -> dict[tuple[str, dt.date], dict[str, Any]]:
    metadata: dict[tuple[str, dt.date], dict[str, Any]] = {}
    # Of the whole load, which may have waited for other days of the range.
    waits = {LOCK_WAITS: round(report.lock_wait_seconds, 3)} if report.lock_wait_seconds else {}
    for (table, day), facts in report.facts.items():
        metadata[table, day] = plottable(facts)
        if table == F_SALES:
            metadata[table, day] |= {"net amount, exact": str(facts["net_amount"])} | waits
    return metadata


def _log_good_days(
    context: dg.AssetExecutionContext,
    report: LoadReport,
    metadata: Mapping[tuple[str, dt.date], Mapping[str, Any]],
    checks: Sequence[dg.AssetCheckResult],
) -> None:
    # A yielded output would mark the whole range as materialized, failing days included, and can't be revoked.
    for table in report.tables:
        log_materializations(
            context,
            [
                dg.AssetMaterialization(_key(table), partition=key_of(day), metadata=metadata.get((table, day), {}))
                for day in report.good_days(table)
            ],
        )
    for check in checks:
        assert check.asset_key is not None, "every check names its asset"
        assert check.check_name is not None, "every check has a name"
        context.log_event(
            dg.AssetCheckEvaluation(
                asset_key=check.asset_key,
                check_name=check.check_name,
                passed=check.passed,
                metadata=check.metadata,
                severity=check.severity,
                description=check.description,
            )
        )


def failure_of(report: LoadReport) -> dg.Failure:
    """Return the failure of a load: the failed days, and each cause once."""
    days = sorted(report.failures)
    # One unreadable report fails all of its days: list each cause once.
    causes: dict[str, list[dt.date]] = {}
    for day in days:
        causes.setdefault("; ".join(report.failures[day]), []).append(day)
    shown = dict(list(causes.items())[:_NAMED_CAUSES])
    named = "\n".join(f"{format_days(of)}: {cause}" for cause, of in shown.items())
    more = ""
    if len(causes) > _NAMED_CAUSES:
        further = f"{len(causes) - _NAMED_CAUSES} further causes"
        more = f"\n... and {further}"
        shown[further] = sorted({day for of in list(causes.values())[_NAMED_CAUSES:] for day in of})
    return dg.Failure(
        f"{len(days)} of {len(report.days)} days failed and have the rows of their last usable file; the other days "
        f"are loaded. Fix the cause, then load these days again:\n{named}{more}",
        metadata={
            "failed days": ", ".join(key_of(day) for day in days),
            CAUSES: dg.MetadataValue.json(
                [[cause, [[key_of(day) for day in span] for span in ranges(of)]] for cause, of in shown.items()]
            ),
        },
        allow_retries=False,
    )
