"""What is taken from Dagster beyond its public API does what the public API says, and is the code that was read."""

import hashlib
import inspect
import tomllib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import dagster as dg
import pytest
from dagster_graphql.implementation.execution.backfill import (
    cancel_partition_backfill,
    create_and_launch_partition_backfill,
)
from dagster_postgres import PostgresEventLogStorage
from packaging.requirements import Requirement

from sales_assets import dagster_internals as internals
from sales_assets_tests.architecture.modules import PACKAGE

Compute = Callable[[dg.AssetExecutionContext], Iterator[dg.MaterializeResult[None]]]

DAYS = dg.DailyPartitionsDefinition("2024-10-01", end_date="2024-10-06")
FIRST, LAST = "2024-10-02", "2024-10-04"
ASKED = ["2024-10-02", "2024-10-03", "2024-10-04"]
DAY_KEY, OTHER_KEY = dg.AssetKey("a"), dg.AssetKey("b")

# What `deploy.storage` calls and replaces of the event log, by the text that was read: a change of it has to be read.
READ = {
    "_connect": "a1935b91a983062d",
    "_event_insert_timestamp": "02e6947ee3f9408a",
    "_store_asset_check_evaluation_planned": "bbecef7ab5ce9d01",
    "_store_asset_event": "2dc70ccdb0feb5be",
    "_store_asset_event_tags": "85d6f17ef04b926f",
    "index_connection": "29a9ce7f3434f5ac",
    "index_transaction": "d4018b0dade43e19",
    "prepare_insert_event_batch": "3a4f48097f682f4f",
    "store_event": "4a2e37e5871bf2c8",
    "store_event_batch": "ff147ed514ba9786",
}


def materialize(instance: dg.DagsterInstance, compute: Compute) -> dg.ExecuteInProcessResult:
    """Run an op over the days FIRST..LAST of two assets."""

    @dg.multi_asset(
        name="days",
        specs=[dg.AssetSpec(DAY_KEY), dg.AssetSpec(OTHER_KEY)],
        partitions_def=DAYS,
        backfill_policy=dg.BackfillPolicy.single_run(),
        can_subset=True,
    )
    def days(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None]]:
        yield from compute(context)

    job = dg.Definitions(assets=[days], jobs=[dg.define_asset_job("all")]).resolve_job_def("all")
    return job.execute_in_process(instance=instance, tags=internals.range_tags(FIRST, LAST))


def both(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None]]:
    assert list(context.partition_keys) == ASKED
    for key in (DAY_KEY, OTHER_KEY):
        yield dg.MaterializeResult(asset_key=key, data_version=dg.DataVersion("17"))


def recorded(instance: dg.DagsterInstance, key: dg.AssetKey, day: str) -> dg.EventLogRecord:
    """The latest materialization of a day, by the public API."""
    (record,) = instance.fetch_materializations(dg.AssetRecordsFilter(key, asset_partitions=[day]), limit=1).records
    return record


def test_this_is_the_version_that_was_read() -> None:
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (asked,) = (line for line in map(Requirement, project["dependencies"]) if line.name == "dagster")
    assert str(asked.specifier) == f"=={dg.__version__}" == f"=={internals.WRITTEN_FOR}"


def test_range_tags_name_the_partitions_of_a_run(instance: dg.DagsterInstance) -> None:
    assert dg.RunRequest(tags=internals.range_tags(FIRST, LAST)).partition_key_range == dg.PartitionKeyRange(
        FIRST, LAST
    )
    assert materialize(instance, both).success
    assert instance.get_materialized_partitions(DAY_KEY) == set(ASKED)


def test_a_backfill_is_requested_as_the_ui_does(instance: dg.DagsterInstance) -> None:
    """By the text that was read; what the daemon makes of it, `deploy/test_distributed_runs` says."""
    read: list[tuple[Callable[..., Any], str]] = [
        (create_and_launch_partition_backfill, "0712e5d889b79cd6"),
        (cancel_partition_backfill, "c6eb0bc4d068e99e"),
    ]
    for function, text in read:
        assert hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:16] == text
    assets = [dg.AssetSpec(key, partitions_def=DAYS) for key in (DAY_KEY, OTHER_KEY)]
    definitions = dg.Definitions(assets=[dg.multi_asset(specs=assets, name="days")(lambda: None)])
    number = internals.request_backfill(instance, definitions, [DAY_KEY], ASKED)
    assert internals.backfill_partitions(instance, definitions, number, DAY_KEY) == ASKED
    assert internals.backfill_partitions(instance, definitions, number, OTHER_KEY) == []
    stored = instance.get_backfill(number)
    assert stored is not None
    assert (stored.status.value, internals.has_ended(stored.status)) == ("REQUESTED", False)
    internals.cancel_backfill(instance, number)
    canceling = instance.get_backfill(number)
    assert canceling is not None
    assert canceling.status.value == "CANCELING"
    for unknown in (
        lambda: internals.cancel_backfill(instance, "unknown"),
        lambda: internals.backfill_partitions(instance, definitions, "unknown", DAY_KEY),
    ):
        with pytest.raises(KeyError):
            unknown()


@pytest.mark.parametrize(
    ("status", "tags", "is_retried"),
    [("FAILURE", {"dagster/will_retry": "true"}, True), ("FAILURE", {"dagster/will_retry": "false"}, False),
     ("FAILURE", {}, False), ("SUCCESS", {"dagster/will_retry": "true"}, False)],
)  # fmt: skip
def test_a_run_that_is_retried_is_tagged(status: str, tags: dict[str, str], *, is_retried: bool) -> None:
    run = dg.DagsterRun(job_name="days", status=dg.DagsterRunStatus(status), tags=tags)
    assert internals.is_retried(run) == is_retried


def test_the_range_of_a_run_is_that_of_its_tags() -> None:
    assert internals.range_of(internals.range_tags(FIRST, LAST)) == (FIRST, LAST)
    assert internals.range_of({"dagster/partition": FIRST}) == (FIRST, FIRST)
    assert internals.range_of({}) == ("", "")


def test_event_numbers_are_those_of_the_records(instance: dg.DagsterInstance) -> None:
    before = internals.last_event_id(instance) or 0
    assert materialize(instance, both).success
    numbers = internals.last_materialization_ids(instance, OTHER_KEY)
    assert numbers == {day: recorded(instance, OTHER_KEY, day).storage_id for day in ASKED}
    assert before < min(numbers.values()) <= max(numbers.values()) <= (internals.last_event_id(instance) or 0)


def test_data_versions_are_those_that_were_given(instance: dg.DagsterInstance) -> None:
    assert materialize(instance, both).success
    instance.report_runless_asset_event(dg.AssetMaterialization(DAY_KEY, partition=LAST))
    instance.report_runless_asset_event(
        dg.AssetMaterialization(DAY_KEY, partition=FIRST, tags={internals.DATA_VERSION_TAG: "18"})
    )
    assert internals.data_versions(instance, DAY_KEY) == {ASKED[0]: "18", ASKED[1]: "17"}


def test_metadata_is_what_add_asset_metadata_would_make_of_it(instance: dg.DagsterInstance) -> None:
    metadata: dict[tuple[dg.AssetKey, str], dict[str, Any]] = {
        (key, day): {"rows": number, "file": f"{day}.csv"}
        for key in (DAY_KEY, OTHER_KEY)
        for number, day in enumerate(ASKED)
    }

    def at_once(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None]]:
        internals.set_asset_metadata(context, metadata)
        yield from both(context)

    def one_by_one(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None]]:
        for (key, day), facts in metadata.items():
            context.add_asset_metadata(facts, asset_key=key, partition_key=day)
        yield from both(context)

    def shown(compute: Compute) -> list[Any]:
        assert materialize(instance, compute).success
        found = [recorded(instance, key, day).asset_materialization for key, day in metadata]
        return [materialization and materialization.metadata for materialization in found]

    assert shown(at_once) == shown(one_by_one)
    assert shown(at_once)[1]["rows"] == dg.IntMetadataValue(1)


def test_logged_materializations_are_stored_together(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "100")
    stored: list[int] = []
    store = instance.event_log_storage.store_event_batch

    def count_and_store(events: Sequence[dg.EventLogEntry]) -> None:
        stored.append(len(events))
        store(events)

    monkeypatch.setattr(instance.event_log_storage, "store_event_batch", count_and_store)

    def compute(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None]]:
        internals.log_materializations(context, [])
        stored.clear()
        internals.log_materializations(
            context, [dg.AssetMaterialization(DAY_KEY, partition=day, metadata={"day": day}) for day in ASKED]
        )
        assert stored == [len(ASKED)]
        yield from ()
        raise dg.Failure("as it was asked to", allow_retries=False)

    with pytest.raises(dg.Failure):
        materialize(instance, compute)
    assert instance.get_materialized_partitions(DAY_KEY) == set(ASKED)
    assert instance.get_materialized_partitions(OTHER_KEY) == set()
    materialization = recorded(instance, DAY_KEY, LAST).asset_materialization
    assert materialization is not None
    assert materialization.metadata["day"].value == LAST


@pytest.mark.parametrize("name", READ)
def test_methods_of_the_event_log_are_those_that_were_read(name: str) -> None:
    source = inspect.getsource(getattr(PostgresEventLogStorage, name))
    assert hashlib.sha256(source.encode()).hexdigest()[:16] == READ[name]
