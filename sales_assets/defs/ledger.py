"""What became of each day and asset in a run of the day chain, and how Dagster is told.

Belongs here: the promise that a broken day is named, not shown as materialized, and hides no good one.
Does not belong here: loading anything.
"""

import datetime as dt
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from dagster._core.events import DagsterEvent, DagsterEventBatchMetadata
from dagster._core.execution.context.metadata_logging import (
    AssetMetadataHandle,
    OutputMetadataAccumulator,
    OutputMetadataHandle,
)

from sales_assets.partitions import key_of

_NAMED_DAYS = 20


class Ledger:
    """Outcome per selected asset and day. A day is good for an asset until it is broken for it."""

    def __init__(self, selected: Iterable[dg.AssetKey], days: Sequence[dt.date]) -> None:
        self.selected = tuple(selected)  # upstream first: Dagster takes the outputs of one op in that order only
        self._days = list(days)
        self._metadata: dict[tuple[dg.AssetKey, dt.date], dict[str, Any]] = {}
        self._broken: dict[dg.AssetKey, set[dt.date]] = {key: set() for key in self.selected}
        self._reasons: dict[dt.date, list[str]] = {}

    def describe(self, key: dg.AssetKey, day: dt.date, metadata: Mapping[str, Any]) -> None:
        """Add to what the UI shows for the day of an asset."""
        self._metadata.setdefault((key, day), {}).update(metadata)

    def break_day(self, day: dt.date, reason: str, keys: Collection[dg.AssetKey]) -> None:
        """Keep the day of these assets from being shown as materialized, and remember why."""
        for key in set(self.selected) & set(keys):
            self._broken[key].add(day)
        reasons = self._reasons.setdefault(day, [])
        if reason not in reasons:
            reasons.append(reason)

    def good_days(self, key: dg.AssetKey, days: Sequence[dt.date]) -> list[dt.date]:
        broken = self._broken.get(key, set())
        return [day for day in days if day not in broken]

    def report(
        self, context: dg.AssetExecutionContext, checks: Sequence[dg.AssetCheckResult]
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        """Tell Dagster. With broken days: the good ones by events of their own, then raises `dagster.Failure`."""
        if self._reasons:
            self._log_good_days(context, checks)
            raise self._failure()
        self._describe_days(context)
        for key in self.selected:
            yield dg.MaterializeResult(asset_key=key)
        yield from checks

    def _describe_days(self, context: dg.AssetExecutionContext) -> None:
        # `add_asset_metadata` copies and checks all that was added before: what it costs grows with the square of the
        # days, and was a tenth of a year's run.
        told: dict[OutputMetadataHandle | AssetMetadataHandle, dict[str, Any]] = {
            AssetMetadataHandle(asset_key=key, partition_key=key_of(day)): metadata
            for (key, day), metadata in self._metadata.items()
        }
        step = context.op_execution_context.get_step_execution_context()
        step._metadata_accumulator = OutputMetadataAccumulator(per_output_metadata=told)

    def _log_good_days(self, context: dg.AssetExecutionContext, checks: Sequence[dg.AssetCheckResult]) -> None:
        # An output that is yielded stands for the whole range, broken days included, and can't be taken back.
        step = context.op_execution_context.get_step_execution_context()
        for key in self.selected:
            good = [key_of(day) for day in self.good_days(key, self._days)]
            metadata = {key_of(day): self._metadata.get((key, day), {}) for day in self._days}
            # In batches, as Dagster tells of a range's days itself: one by one a year of nine assets took a minute.
            batch = secrets.token_hex(16)
            for partition in good:
                DagsterEvent.asset_materialization(
                    step,
                    dg.AssetMaterialization(key, partition=partition, metadata=metadata[partition]),
                    DagsterEventBatchMetadata(batch, is_end=partition == good[-1]),
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

    def _failure(self) -> dg.Failure:
        days = sorted(self._reasons)
        named = "\n".join(f"{day}: {'; '.join(self._reasons[day])}" for day in days[:_NAMED_DAYS])
        more = f"\n... and {len(days) - _NAMED_DAYS} more" if len(days) > _NAMED_DAYS else ""
        return dg.Failure(
            f"{len(days)} of {len(self._days)} days broke and stay as they were; the others are loaded. "
            f"Run these days again when the cause is gone:\n{named}{more}",
            metadata={"broken days": ", ".join(key_of(day) for day in days)},
            allow_retries=False,
        )
