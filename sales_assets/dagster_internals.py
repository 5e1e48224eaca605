"""Everything that the platform takes from Dagster beyond its public API; the only module that imports ``dagster._*``.

Written against the version that pyproject.toml pins: a new version may rename or change any of it without notice.
``sales_assets_tests/test_dagster_internals.py`` compares each part with what Dagster does and names what has changed.

========================================  ============================================================================
taken                                     because the public API
========================================  ============================================================================
tags of a range of partitions             has no name for them; they are how one run covers many partitions
tag of a data version                     writes it (`dg.DataVersion`) and reads it only for one asset and partition
event numbers of the event log            has no order of events over several assets, and reads one partition a query
metadata of the partitions of a run       copies and checks all entries with each one: quadratic in the days of a range
batches of materializations               stores the events of a step one by one: 3 285 of a year took a minute
tables and events of the event log        has no storage that writes planned events together (`deploy.storage`)
health of a run's worker                  has the run launcher as a class, but not the result of its health check
========================================  ============================================================================
"""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.events import DagsterEvent, DagsterEventBatchMetadata
from dagster._core.execution.context.metadata_logging import (
    AssetMetadataHandle,
    OutputMetadataAccumulator,
    OutputMetadataHandle,
)
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from dagster._serdes import serialize_value

__all__ = [
    "DATA_VERSION_TAG",
    "WRITTEN_FOR",
    "AssetCheckEvaluationPlanned",
    "AssetCheckExecutionRecordStatus",
    "AssetCheckExecutionsTable",
    "CheckRunHealthResult",
    "DagsterUserCodeUnreachableError",
    "SqlEventLogStorageTable",
    "WorkerStatus",
    "data_versions",
    "last_event_id",
    "last_materialization_ids",
    "log_materializations",
    "range_tags",
    "serialize_value",
    "set_asset_metadata",
]

# Dagster's version. Another one has to be read before it is pinned.
WRITTEN_FOR = "1.13.27"


def range_tags(first: str, last: str) -> dict[str, str]:
    """Tags of a run over the partitions first..last (inclusive)."""
    return {ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last}


def last_event_id(instance: dg.DagsterInstance) -> int | None:
    """Return the number of the newest event of the event log; numbers grow."""
    return instance.event_log_storage.get_maximum_record_id()


def last_materialization_ids(instance: dg.DagsterInstance, asset: dg.AssetKey) -> Mapping[str, int]:
    """{partition: number of its latest materialization event}."""
    return instance.event_log_storage.get_latest_storage_id_by_partition(
        asset, dg.DagsterEventType.ASSET_MATERIALIZATION
    )


def data_versions(instance: dg.DagsterInstance, asset: dg.AssetKey) -> dict[str, str]:
    """{partition: data version of its latest materialization}, without those that have none."""
    tags = instance.event_log_storage.get_latest_tags_by_partition(
        asset, dg.DagsterEventType.ASSET_MATERIALIZATION, [DATA_VERSION_TAG]
    )
    return {partition: of[DATA_VERSION_TAG] for partition, of in tags.items()}


def set_asset_metadata(
    context: dg.AssetExecutionContext, metadata: Mapping[tuple[dg.AssetKey, str], Mapping[str, Any]]
) -> None:
    """Set the metadata of all (asset, partition) of a run at once, as calls of `context.add_asset_metadata` would."""
    by_handle: dict[OutputMetadataHandle | AssetMetadataHandle, Mapping[str, Any]] = {
        AssetMetadataHandle(asset_key=asset, partition_key=partition): facts
        for (asset, partition), facts in metadata.items()
    }
    step = context.op_execution_context.get_step_execution_context()
    step._metadata_accumulator = OutputMetadataAccumulator(per_output_metadata=by_handle)


def log_materializations(
    context: dg.AssetExecutionContext, materializations: Sequence[dg.AssetMaterialization]
) -> None:
    """Log materializations in one batch, as Dagster does with the partitions of an output."""
    step = context.op_execution_context.get_step_execution_context()
    batch = secrets.token_hex(16)
    for number, materialization in enumerate(materializations, start=1):
        is_end = number == len(materializations)
        DagsterEvent.asset_materialization(step, materialization, DagsterEventBatchMetadata(batch, is_end=is_end))
