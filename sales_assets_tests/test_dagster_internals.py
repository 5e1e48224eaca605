"""Private API of Dagster: it behaves like the public API, and its source equals the reviewed one."""

import datetime as dt
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
REQUESTED_DAYS = ["2024-10-02", "2024-10-03", "2024-10-04"]
DAY_KEY, OTHER_KEY = dg.AssetKey("a"), dg.AssetKey("b")

# The methods of the event log that `deploy.storage` calls or replaces, with the hashes of their reviewed source: a
# changed method has to be reviewed again.
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
    """Run an op for the days FIRST..LAST of two assets."""

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
    assert list(context.partition_keys) == REQUESTED_DAYS
    for key in (DAY_KEY, OTHER_KEY):
        yield dg.MaterializeResult(asset_key=key, data_version=dg.DataVersion("17"))


def recorded(instance: dg.DagsterInstance, key: dg.AssetKey, day: str) -> dg.EventLogRecord:
    """Return the latest materialization of a day, by the public API."""
    (record,) = instance.fetch_materializations(dg.AssetRecordsFilter(key, asset_partitions=[day]), limit=1).records
    return record


def test_the_installed_version_is_the_reviewed_one() -> None:
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (requirement,) = (line for line in map(Requirement, project["dependencies"]) if line.name == "dagster")
    assert str(requirement.specifier) == f"=={dg.__version__}" == f"=={internals.WRITTEN_FOR}"


def test_range_tags_name_the_partitions_of_a_run(instance: dg.DagsterInstance) -> None:
    assert dg.RunRequest(tags=internals.range_tags(FIRST, LAST)).partition_key_range == dg.PartitionKeyRange(
        FIRST, LAST
    )
    assert materialize(instance, both).success
    assert instance.get_materialized_partitions(DAY_KEY) == set(REQUESTED_DAYS)


def test_a_backfill_is_requested_in_the_same_way_as_in_the_ui(instance: dg.DagsterInstance) -> None:
    """The source of the UI equals the reviewed one; `deploy/test_distributed_runs` tests the execution."""
    read: list[tuple[Callable[..., Any], str]] = [
        (create_and_launch_partition_backfill, "0712e5d889b79cd6"),
        (cancel_partition_backfill, "c6eb0bc4d068e99e"),
    ]
    for function, text in read:
        assert hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:16] == text
    assets = [dg.AssetSpec(key, partitions_def=DAYS) for key in (DAY_KEY, OTHER_KEY)]
    definitions = dg.Definitions(assets=[dg.multi_asset(specs=assets, name="days")(lambda: None)])
    number = internals.request_backfill(instance, definitions, [DAY_KEY], REQUESTED_DAYS)
    assert internals.backfill_partitions(instance, definitions, number, DAY_KEY) == REQUESTED_DAYS
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
def test_a_retried_run_is_recognised_by_its_tag(status: str, tags: dict[str, str], *, is_retried: bool) -> None:
    run = dg.DagsterRun(job_name="days", status=dg.DagsterRunStatus(status), tags=tags)
    assert internals.is_retried(run) == is_retried


def test_the_range_of_a_run_is_read_from_its_tags() -> None:
    assert internals.range_of(internals.range_tags(FIRST, LAST)) == (FIRST, LAST)
    assert internals.range_of({"dagster/partition": FIRST}) == (FIRST, FIRST)
    assert internals.range_of({}) == ("", "")


def test_event_numbers_equal_those_of_the_records(instance: dg.DagsterInstance) -> None:
    before = internals.last_event_id(instance) or 0
    assert materialize(instance, both).success
    numbers = internals.last_materialization_ids(instance, OTHER_KEY)
    assert numbers == {day: recorded(instance, OTHER_KEY, day).storage_id for day in REQUESTED_DAYS}
    assert before < min(numbers.values()) <= max(numbers.values()) <= (internals.last_event_id(instance) or 0)


def test_data_versions_equal_the_reported_ones(instance: dg.DagsterInstance) -> None:
    assert materialize(instance, both).success
    instance.report_runless_asset_event(dg.AssetMaterialization(DAY_KEY, partition=LAST))
    instance.report_runless_asset_event(
        dg.AssetMaterialization(DAY_KEY, partition=FIRST, tags={internals.DATA_VERSION_TAG: "18"})
    )
    assert internals.data_versions(instance, DAY_KEY) == {REQUESTED_DAYS[0]: "18", REQUESTED_DAYS[1]: "17"}


def test_metadata_set_together_equals_that_of_add_asset_metadata(instance: dg.DagsterInstance) -> None:
    metadata: dict[tuple[dg.AssetKey, str], dict[str, Any]] = {
        (key, day): {"rows": number, "file": f"{day}.csv"}
        for key in (DAY_KEY, OTHER_KEY)
        for number, day in enumerate(REQUESTED_DAYS)
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
            context, [dg.AssetMaterialization(DAY_KEY, partition=day, metadata={"day": day}) for day in REQUESTED_DAYS]
        )
        assert stored == [len(REQUESTED_DAYS)]
        yield from ()
        raise dg.Failure("as it was asked to", allow_retries=False)

    with pytest.raises(dg.Failure):
        materialize(instance, compute)
    assert instance.get_materialized_partitions(DAY_KEY) == set(REQUESTED_DAYS)
    assert instance.get_materialized_partitions(OTHER_KEY) == set()
    materialization = recorded(instance, DAY_KEY, LAST).asset_materialization
    assert materialization is not None
    assert materialization.metadata["day"].value == LAST


@pytest.mark.parametrize("name", READ)
def test_methods_of_the_event_log_equal_the_reviewed_ones(name: str) -> None:
    source = inspect.getsource(getattr(PostgresEventLogStorage, name))
    assert hashlib.sha256(source.encode()).hexdigest()[:16] == READ[name]


def test_events_are_read_in_order_of_their_numbers_without_gaps(instance: dg.DagsterInstance) -> None:
    types = (dg.DagsterEventType.RUN_SUCCESS, dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    long_ago = dt.datetime(2024, 10, 1, tzinfo=dt.UTC)
    runs = []
    for name in ("a", "b"):
        runs.append(materialize(instance, both).run_id)
        instance.report_runless_asset_event(dg.AssetCheckEvaluation(asset_key=DAY_KEY, check_name=name, passed=True))
    found = internals.events_after(instance, types, None, long_ago, 10)
    assert [entry.run_id for _, entry in found if entry.run_id] == runs
    evaluations = [entry.dagster_event.asset_check_evaluation_data for _, entry in found[1::2] if entry.dagster_event]
    assert [evaluation.check_name for evaluation in evaluations] == ["a", "b"]
    (latest,) = instance.fetch_run_status_changes(dg.DagsterEventType.RUN_SUCCESS, limit=1).records
    assert found[2][0] == latest.storage_id

    one_by_one, after = [], None
    while some := internals.events_after(instance, types, after, long_ago, 1):
        after = some[-1][0]
        one_by_one += some
    assert [number for number, _ in one_by_one] == [number for number, _ in found]
    assert internals.events_after(instance, types, None, dt.datetime.now(dt.UTC) + dt.timedelta(days=1), 10) == []


def test_the_assets_of_a_run_are_its_selection_or_those_of_its_job() -> None:
    @dg.asset
    def a() -> None: ...

    @dg.asset
    def b() -> None: ...

    @dg.asset_check(asset=DAY_KEY)
    def passes() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    job = dg.define_asset_job("all")
    definitions = dg.Definitions(assets=[a, b], asset_checks=[passes], jobs=[job])
    repository = definitions.get_repository_def()

    def assets_of(job: str = "all", **selected: Any) -> set[dg.AssetKey]:
        return set(internals.assets_of_run(dg.DagsterRun(job_name=job, **selected), repository))

    assert assets_of() == assets_of(asset_selection=frozenset()) == {DAY_KEY, OTHER_KEY}
    assert assets_of(asset_selection=frozenset({OTHER_KEY})) == {OTHER_KEY}
    assert assets_of(asset_selection=frozenset(), asset_check_selection=frozenset({passes.check_key})) == set()
    assert assets_of("another") == set()


def test_upstream_assets_of_a_repository_equal_the_dependencies_of_definitions() -> None:
    source = dg.AssetSpec("source")

    @dg.asset(deps=[source])
    def a() -> None: ...

    @dg.asset(deps=[a, source])
    def b() -> None: ...

    repository = dg.Definitions(assets=[a, b, source]).get_repository_def()
    upstream = {key: internals.upstream_assets(repository, dg.AssetKey(key)) for key in ("a", "b", "source", "another")}
    assert upstream == {"a": [source.key], "b": [DAY_KEY, source.key], "source": [], "another": []}
