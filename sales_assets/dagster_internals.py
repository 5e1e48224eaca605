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
answers to checks of a run's process      has no types for them; `deploy.run_launcher` gives them
arguments of a run sent to a worker       has no reader for them; `deploy.run_workers` needs the run's id before
backfills of assets                       requests them by GraphQL only, from a web server that may not exist
tag of a retried run                      has no name for it; a backfill's failures are those of runs without it
========================================  ============================================================================
"""

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.events import DagsterEvent, DagsterEventBatchMetadata
from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES, BulkActionStatus, PartitionBackfill
from dagster._core.execution.context.metadata_logging import (
    AssetMetadataHandle,
    OutputMetadataAccumulator,
    OutputMetadataHandle,
)
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    BACKFILL_ID_TAG,
    PARTITION_NAME_TAG,
    WILL_RETRY_TAG,
)
from dagster._core.utils import make_new_backfill_id
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import serialize_value, unpack_value

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
    "backfill_partitions",
    "backfill_tags",
    "cancel_backfill",
    "data_versions",
    "has_ended",
    "is_retried",
    "last_event_id",
    "last_materialization_ids",
    "log_materializations",
    "range_of",
    "range_tags",
    "request_backfill",
    "sent_run_id",
    "serialize_value",
    "set_asset_metadata",
]

# Dagster's version. Another one has to be read before it is pinned.
WRITTEN_FOR = "1.13.27"


def range_tags(first: str, last: str) -> dict[str, str]:
    """Tags of a run over the partitions first..last (inclusive)."""
    return {ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last}


def range_of(tags: Mapping[str, str]) -> tuple[str, str]:
    """Return the first and last partition of a run by its tags; the first is empty for a run without partitions."""
    only = tags.get(PARTITION_NAME_TAG, "")
    return tags.get(ASSET_PARTITION_RANGE_START_TAG, only), tags.get(ASSET_PARTITION_RANGE_END_TAG, only)


def is_retried(run: dg.DagsterRun) -> bool:
    """Whether another run takes the place of this one, which failed."""
    return run.status == dg.DagsterRunStatus.FAILURE and run.tags.get(WILL_RETRY_TAG) == "true"


def request_backfill(
    instance: dg.DagsterInstance, definitions: dg.Definitions, assets: Sequence[dg.AssetKey], partitions: Sequence[str]
) -> str:
    """Store the request of a backfill, as the UI's "Materialize" does, and return its id; the daemon makes its runs."""
    backfill = PartitionBackfill.from_asset_partitions(
        backfill_id=make_new_backfill_id(),
        asset_graph=definitions.get_repository_def().asset_graph,
        partition_names=partitions,
        asset_selection=assets,
        backfill_timestamp=time.time(),
        tags={},
        dynamic_partitions_store=instance,
        all_partitions=False,
        title=None,
        description=None,
        run_config=None,
    )
    instance.add_backfill(backfill)
    return backfill.backfill_id


def backfill_partitions(
    instance: dg.DagsterInstance, definitions: dg.Definitions, backfill_id: str, asset: dg.AssetKey
) -> list[str]:
    """List the partitions of an asset that a backfill was requested for. Raises `KeyError` for an unknown backfill."""
    backfill = instance.get_backfill(backfill_id)
    if backfill is None or not backfill.is_asset_backfill:
        raise KeyError(backfill_id)
    graph = definitions.get_repository_def().asset_graph
    requested = backfill.get_asset_backfill_data(graph).target_subset
    subset = requested.partitions_subsets_by_asset_key.get(asset)
    return sorted(subset.get_partition_keys()) if subset else []


def backfill_tags(backfill_id: str) -> dict[str, str]:
    """Tags of the runs of a backfill."""
    return {BACKFILL_ID_TAG: backfill_id}


def has_ended(status: BulkActionStatus) -> bool:
    """Whether nothing of a backfill will run any more."""
    return status in BULK_ACTION_TERMINAL_STATUSES


def cancel_backfill(instance: dg.DagsterInstance, backfill_id: str) -> None:
    """Request that the daemon cancels a backfill and its runs. Raises `KeyError` for an unknown one."""
    backfill = instance.get_backfill(backfill_id)
    if backfill is None:
        raise KeyError(backfill_id)
    if not has_ended(backfill.status):
        instance.update_backfill(backfill._replace(status=BulkActionStatus.CANCELING))


def sent_run_id(packed: Mapping[str, Any]) -> str:
    """Return the run's id in the arguments that a run launcher sends to a worker."""
    return unpack_value(packed, as_type=ExecuteRunArgs).run_id


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
