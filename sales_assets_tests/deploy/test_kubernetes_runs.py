"""Launcher of runs as Kubernetes jobs: which runs its health check reports as lost."""

import dagster as dg
import pytest
from dagster_k8s import K8sRunLauncher

from sales_assets.dagster_internals import CheckRunHealthResult, WorkerStatus
from sales_assets.deploy import kubernetes_runs
from sales_assets.deploy.kubernetes_runs import KubernetesRunLauncher
from sales_assets_tests.deploy.queued_location import nothing

_JOB = """{"__class__": "ExternalPipelineOrigin",
"external_repository_origin": {"__class__": "ExternalRepositoryOrigin",
"repository_location_origin": {"__class__": "RegisteredRepositoryLocationOrigin", "location_name": "sales_assets"},
"repository_name": "__repository__"}, "pipeline_name": "nothing"}"""
_MOST = kubernetes_runs._SILENT_LOOKS


@pytest.fixture
def launcher(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> KubernetesRunLauncher:
    monkeypatch.setattr("kubernetes.config.load_incluster_config", lambda: None)
    names = {"service_account_name": "sales-assets", "instance_config_map": "dagster", "dagster_home": "/home"}
    launcher = KubernetesRunLauncher(**names)
    launcher.register_instance(instance)
    return launcher


def statuses(launcher: KubernetesRunLauncher, run: dg.DagsterRun, number: int) -> list[WorkerStatus]:
    return [launcher.check_run_worker_health(run).status for _ in range(number)]


def test_run_whose_job_cannot_be_read_for_a_while_is_not_lost(
    instance: dg.DagsterInstance, launcher: KubernetesRunLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = instance.create_run_for_job(
        nothing,
        status=dg.DagsterRunStatus.STARTED,
        remote_job_origin=dg.deserialize_value(_JOB),  # type: ignore[arg-type]
    )

    def job_is(status: WorkerStatus) -> None:
        found = CheckRunHealthResult(status)
        monkeypatch.setattr(K8sRunLauncher, "check_run_worker_health", lambda _self, _run: found)

    job_is(WorkerStatus.UNKNOWN)
    assert set(statuses(launcher, run, _MOST - 1)) == {WorkerStatus.RUNNING}
    job_is(WorkerStatus.RUNNING)
    assert statuses(launcher, run, 1) == [WorkerStatus.RUNNING]
    job_is(WorkerStatus.UNKNOWN)
    assert statuses(launcher, run, _MOST)[-2:] == [WorkerStatus.RUNNING, WorkerStatus.UNKNOWN]
    job_is(WorkerStatus.FAILED)
    assert statuses(launcher, run, 1) == [WorkerStatus.FAILED]


def test_run_of_a_command_is_lost_only_with_its_lock(
    instance: dg.DagsterInstance, launcher: KubernetesRunLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = instance.create_run_for_job(nothing, status=dg.DagsterRunStatus.STARTED)
    assert set(statuses(launcher, run, _MOST + 1)) == {WorkerStatus.RUNNING}
    monkeypatch.setattr(kubernetes_runs, "is_lost", lambda _instance, _run: True)
    assert statuses(launcher, run, _MOST)[-2:] == [WorkerStatus.RUNNING, WorkerStatus.UNKNOWN]
