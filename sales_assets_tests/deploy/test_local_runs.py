"""The run launcher of one machine: which runs its health check gives up. A live code server: `test_daemon.py`."""

import json
from pathlib import Path

import dagster as dg
import pytest

from sales_assets.dagster_internals import WorkerStatus
from sales_assets.deploy.local_runs import LocalRunLauncher
from sales_assets_tests.deploy.queued_location import nothing

pytestmark = pytest.mark.external


@pytest.fixture
def launcher(instance: dg.DagsterInstance) -> LocalRunLauncher:
    made = LocalRunLauncher()
    made.register_instance(instance)
    return made


def started(instance: dg.DagsterInstance, **tags: str) -> dg.DagsterRun:
    return instance.create_run_for_job(nothing, status=dg.DagsterRunStatus.STARTED, tags=tags)


def test_a_run_ends_with_its_code_server(
    instance: dg.DagsterInstance, launcher: LocalRunLauncher, tmp_path: Path
) -> None:
    """Not at the first silence: a busy server may miss one."""
    server = json.dumps({"host": "localhost", "socket": str(tmp_path / "gone")})
    run = started(instance, **{".dagster/grpc_info": server})
    looks = [launcher.check_run_worker_health(run).status for _ in range(3)]
    assert looks == [WorkerStatus.RUNNING, WorkerStatus.RUNNING, WorkerStatus.NOT_FOUND]


def test_a_run_of_a_command_is_left_alone(instance: dg.DagsterInstance, launcher: LocalRunLauncher) -> None:
    """`sales-assets load` runs a job in its process, of which no code server knows."""
    run = started(instance)
    assert {launcher.check_run_worker_health(run).status for _ in range(5)} == {WorkerStatus.RUNNING}
