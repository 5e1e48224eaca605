"""Run launcher for one machine: the runs that its health check reports as lost. `test_daemon.py` has a code server."""

import json
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest

from sales_assets.dagster_internals import WorkerStatus
from sales_assets.deploy import local_runs
from sales_assets.deploy.local_runs import LocalRunLauncher
from sales_assets_tests.cli.processes import free_port
from sales_assets_tests.deploy.daemons import code_server
from sales_assets_tests.deploy.queued_location import nothing

pytestmark = pytest.mark.external


@pytest.fixture
def launcher(instance: dg.DagsterInstance) -> LocalRunLauncher:
    local_launcher = LocalRunLauncher()
    local_launcher.register_instance(instance)
    return local_launcher


def started(instance: dg.DagsterInstance, **tags: str) -> dg.DagsterRun:
    return instance.create_run_for_job(nothing, status=dg.DagsterRunStatus.STARTED, tags=tags)


def test_run_without_its_code_server_is_lost(
    instance: dg.DagsterInstance, launcher: LocalRunLauncher, tmp_path: Path
) -> None:
    """The run is reported as lost after three failed checks: a busy server may miss one."""
    server = json.dumps({"host": "localhost", "socket": str(tmp_path / "gone")})
    run = started(instance, **{".dagster/grpc_info": server})
    health_checks = [launcher.check_run_worker_health(run).status for _ in range(3)]
    assert health_checks == [WorkerStatus.RUNNING, WorkerStatus.RUNNING, WorkerStatus.NOT_FOUND]


def test_run_of_a_code_server_that_was_restarted_on_its_port_is_lost(
    instance: dg.DagsterInstance, launcher: LocalRunLauncher, tmp_path: Path
) -> None:
    """The new server answers, but has not the processes of the old one."""
    port = free_port()
    run = started(instance, **{".dagster/grpc_info": json.dumps({"host": "127.0.0.1", "port": port})})
    with code_server(tmp_path, "", port, runs=0):
        health_checks = [launcher.check_run_worker_health(run) for _ in range(3)]
    assert [check.status for check in health_checks] == [
        WorkerStatus.RUNNING,
        WorkerStatus.RUNNING,
        WorkerStatus.NOT_FOUND,
    ]
    assert health_checks[-1].msg == "its code server was restarted"


def test_run_of_its_code_server_is_not_lost(
    instance: dg.DagsterInstance, launcher: LocalRunLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = started(instance)
    known = [True, False, False, True, False, False]
    server = SimpleNamespace(port=4000)
    monkeypatch.setattr(launcher, "_get_grpc_client_for_termination", lambda _run_id: server)
    monkeypatch.setattr(local_runs, "executes", lambda _client, _run_id: known.pop(0), raising=False)
    assert {launcher.check_run_worker_health(run).status for _ in range(6)} == {WorkerStatus.RUNNING}


def test_run_of_a_command_is_never_lost(instance: dg.DagsterInstance, launcher: LocalRunLauncher) -> None:
    """`dg launch` runs a job in its own process, without a code server and without a lock."""
    run = started(instance)
    assert {launcher.check_run_worker_health(run).status for _ in range(5)} == {WorkerStatus.RUNNING}


def test_run_of_a_killed_command_is_lost(
    instance: dg.DagsterInstance, launcher: LocalRunLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two such runs would take both places of `max_concurrent_runs` permanently."""
    monkeypatch.setattr(local_runs, "is_lost", lambda _instance, _run: True, raising=False)
    run = started(instance)
    health_checks = [launcher.check_run_worker_health(run).status for _ in range(3)]
    assert health_checks == [WorkerStatus.RUNNING, WorkerStatus.RUNNING, WorkerStatus.NOT_FOUND]
