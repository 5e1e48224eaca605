"""Wrappers around Dagster's private API; the only module that imports ``dagster._*``.

Written against the version that pyproject.toml pins: a new version may rename or change any part without notice.
``sales_assets_tests/test_dagster_internals.py`` compares each part with Dagster's behaviour and reports changes.

========================================  ============================================================================
part                                      because the public API
========================================  ============================================================================
tags of a range of partitions             has no names for them; they mark a run over many partitions
tag of a data version                     writes it (`dg.DataVersion`) and reads it only for one asset and partition
event numbers of the event log            does not order events of several assets, and reads one partition per query
events of several types by number         reads evaluations of checks for one check at a time, and deprecates the rest
assets of a job                           does not list them; a run of a whole job has no asset selection
metadata of the partitions of a run       copies and checks all entries with each one: quadratic in the days of a range
batches of materializations               stores the events of a step one by one: the 3 285 of a year took a minute
tables and events of the event log        has no storage that writes planned events together (`deploy.storage`)
arguments and results of run launchers    has no types for them; `deploy.run_launcher` needs them
arguments of a run sent to a worker       has no reader for them; `deploy.run_workers` needs the id before the run
runs of a code server                     has no list of them; a restarted server does not know its earlier runs
backfills of assets                       requests them only through GraphQL, which needs a running web server
handlers of finished runs in the daemon   retries a lost run at once, and gives it up if its code server is down too
tag of a retried run                      has no name for it; a backfill's failures are the failed runs without it
graph of the assets                       knows upstream assets only of definitions, not of a sensor's repository
========================================  ============================================================================
"""

import datetime as dt
import logging
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.errors import DagsterCodeLocationLoadError, DagsterUserCodeUnreachableError
from dagster._core.events import DagsterEvent, DagsterEventBatchMetadata
from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES, BulkActionStatus, PartitionBackfill
from dagster._core.execution.context.metadata_logging import (
    AssetMetadataHandle,
    OutputMetadataAccumulator,
    OutputMetadataHandle,
)
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.dagster_run import RunRecord
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    BACKFILL_ID_TAG,
    PARTITION_NAME_TAG,
    WILL_RETRY_TAG,
)
from dagster._core.utils import make_new_backfill_id
from dagster._core.workspace.context import IWorkspaceProcessContext
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult, ExecuteRunArgs
from dagster._serdes import serialize_value, unpack_value

__all__ = [
    "DATA_VERSION_TAG",
    "WRITTEN_FOR",
    "AssetCheckEvaluationPlanned",
    "AssetCheckExecutionRecordStatus",
    "AssetCheckExecutionsTable",
    "CheckRunHealthResult",
    "DagsterUserCodeUnreachableError",
    "LaunchRunContext",
    "SqlEventLogStorageTable",
    "WorkerStatus",
    "assets_of_run",
    "backfill_partitions",
    "backfill_tags",
    "cancel_backfill",
    "data_versions",
    "events_after",
    "executes",
    "has_ended",
    "is_retried",
    "last_event_id",
    "last_materialization_ids",
    "log_materializations",
    "range_of",
    "range_tags",
    "request_backfill",
    "retry_runs_when_code_is_reachable",
    "sent_run_id",
    "serialize_value",
    "set_asset_metadata",
    "upstream_assets",
]

# Dagster's version. Read the source of a new version before pinning it.
WRITTEN_FOR = "1.13.27"


def upstream_assets(repository: dg.RepositoryDefinition, asset: dg.AssetKey) -> list[dg.AssetKey]:
    """Return the sorted keys of the direct upstream assets; empty if the repository does not have the asset."""
    graph = repository.asset_graph
    return sorted(graph.get(asset).parent_keys) if graph.has(asset) else []


def range_tags(first: str, last: str) -> dict[str, str]:
    """Return the tags of a run over the partitions first..last (inclusive)."""
    return {ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last}


def range_of(tags: Mapping[str, str]) -> tuple[str, str]:
    """Return the first and last partition of a run by its tags; both are empty for a run without partitions."""
    only = tags.get(PARTITION_NAME_TAG, "")
    return tags.get(ASSET_PARTITION_RANGE_START_TAG, only), tags.get(ASSET_PARTITION_RANGE_END_TAG, only)


def is_retried(run: dg.DagsterRun) -> bool:
    """Return whether a run failed and is retried by another run."""
    return run.status == dg.DagsterRunStatus.FAILURE and run.tags.get(WILL_RETRY_TAG) == "true"


def request_backfill(
    instance: dg.DagsterInstance, definitions: dg.Definitions, assets: Sequence[dg.AssetKey], partitions: Sequence[str]
) -> str:
    """Request a backfill, as the UI's "Materialize" does, and return its id; the daemon launches its runs."""
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
    """Return the tags of the runs of a backfill."""
    return {BACKFILL_ID_TAG: backfill_id}


def has_ended(status: BulkActionStatus) -> bool:
    """Return whether a backfill has ended: it launches no further runs."""
    return status in BULK_ACTION_TERMINAL_STATUSES


def cancel_backfill(instance: dg.DagsterInstance, backfill_id: str) -> None:
    """Request that the daemon cancels a backfill and its runs. Raises `KeyError` for an unknown backfill."""
    backfill = instance.get_backfill(backfill_id)
    if backfill is None:
        raise KeyError(backfill_id)
    if not has_ended(backfill.status):
        instance.update_backfill(backfill._replace(status=BulkActionStatus.CANCELING))


def sent_run_id(packed: Mapping[str, Any]) -> str:
    """Return the run's id in the arguments that a run launcher sends to a worker."""
    return unpack_value(packed, as_type=ExecuteRunArgs).run_id


def executes(client: DagsterGrpcClient, run_id: str) -> bool:
    """Return whether a code server has the process of a run. Raises `DagsterUserCodeUnreachableError`."""
    answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run_id))
    return dg.deserialize_value(answer, CanCancelExecutionResult).can_cancel


def retry_runs_when_code_is_reachable() -> None:
    """Have the daemon of this process wait for an unreachable code server before it retries runs.

    Dagster retries a run right after its loss, which needs the code server. If both were lost together, as on one
    machine, it would mark the run as not to be retried, and end its backfill.
    """
    # Imported here: only the daemon needs it.
    from dagster._daemon.auto_run_reexecution.event_log_consumer import EventLogConsumerDaemon

    handlers = property(lambda _daemon: [_retry_when_code_is_reachable])
    EventLogConsumerDaemon.handle_updated_runs_fns = handlers  # type: ignore[method-assign, assignment]


def _retry_when_code_is_reachable(
    context: IWorkspaceProcessContext[Any], records: Sequence[RunRecord], logger: logging.Logger
) -> Iterator[None]:
    from dagster._daemon.auto_run_reexecution.auto_run_reexecution import consume_new_runs_for_automatic_reexecution

    retried = [record.dagster_run for record in records if is_retried(record.dagster_run)]
    origins = (run.remote_job_origin for run in retried)
    for name in sorted({origin.repository_origin.code_location_origin.location_name for origin in origins if origin}):
        is_logged = False
        while not _is_reachable(context, name):
            if not is_logged:
                logger.warning(f"Retries of runs wait for the code server of {name}, which can't be reached")
                is_logged = True
            yield  # the daemon sends its heartbeat
            time.sleep(1)
    yield from consume_new_runs_for_automatic_reexecution(context, records, logger)


def _is_reachable(context: IWorkspaceProcessContext[Any], location: str) -> bool:
    """Return whether the code of a location is loaded and its server responds; True for a removed location."""
    try:
        client = getattr(context.create_request_context().get_code_location(location), "client", None)
        if client is not None:
            client.ping("")
    except (DagsterCodeLocationLoadError, DagsterUserCodeUnreachableError):
        return False
    except dg.DagsterError:
        return True
    return True


def last_event_id(instance: dg.DagsterInstance) -> int | None:
    """Return the number of the newest event of the event log; numbers increase."""
    return instance.event_log_storage.get_maximum_record_id()


def events_after(
    instance: dg.DagsterInstance,
    event_types: Sequence[dg.DagsterEventType],
    after: int | None,
    since: dt.datetime,
    limit: int,
) -> list[tuple[int, dg.EventLogEntry]]:
    """Return up to `limit` events of these types, with their numbers in ascending order.

    after: number of the last event that was read; None: read the events since the time `since`.
    """
    found = []
    for event_type in event_types:
        records = instance.event_log_storage.get_event_records(
            dg.EventRecordsFilter(
                event_type, after_cursor=after, after_timestamp=since.timestamp() if after is None else None
            ),
            limit=limit,
            ascending=True,
        )
        found += [(record.storage_id, record.event_log_entry) for record in records]
    # No event is skipped: the first `limit` events of each type are included.
    return sorted(found, key=lambda numbered: numbered[0])[:limit]


def assets_of_run(run: dg.DagsterRun, repository: dg.RepositoryDefinition | None) -> frozenset[dg.AssetKey]:
    """Return the assets that a run materializes; none if its job is not in the repository."""
    if run.asset_selection or run.asset_check_selection:
        return frozenset(run.asset_selection or ())
    if repository is None or not repository.has_job(run.job_name):
        return frozenset()
    return frozenset(repository.get_job(run.job_name).asset_layer.selected_asset_keys)


def last_materialization_ids(instance: dg.DagsterInstance, asset: dg.AssetKey) -> Mapping[str, int]:
    """Return {partition: number of its latest materialization event}."""
    return instance.event_log_storage.get_latest_storage_id_by_partition(
        asset, dg.DagsterEventType.ASSET_MATERIALIZATION
    )


def data_versions(instance: dg.DagsterInstance, asset: dg.AssetKey) -> dict[str, str]:
    """Return {partition: data version of its latest materialization}; partitions without a version are left out."""
    tags = instance.event_log_storage.get_latest_tags_by_partition(
        asset, dg.DagsterEventType.ASSET_MATERIALIZATION, [DATA_VERSION_TAG]
    )
    return {partition: of[DATA_VERSION_TAG] for partition, of in tags.items()}


def set_asset_metadata(
    context: dg.AssetExecutionContext, metadata: Mapping[tuple[dg.AssetKey, str], Mapping[str, Any]]
) -> None:
    """Set the metadata of all (asset, partition) pairs of a step at once; replaces metadata that was added before.

    Much faster than a call of `context.add_asset_metadata` for each pair.
    """
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
