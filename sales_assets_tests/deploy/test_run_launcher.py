"""The launcher of runs on Celery workers: its configuration, and when it takes a run for lost."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import dagster as dg
import pytest
from celery import Celery
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

from sales_assets import settings as settings_module
from sales_assets.dagster_internals import WorkerStatus
from sales_assets.deploy import run_launcher, run_workers
from sales_assets.deploy.run_launcher import RunLauncher
from sales_assets_tests.deploy.topology import DAGSTER_YAML
from sales_assets_tests.services.partner_orders.fixtures import BROKER_URL, need_broker

SECRET = "hush-hush"


@dg.job
def nothing() -> None:
    """A job whose runs are never executed."""


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunLauncher]:
    """The launcher of the dagster.yaml of the tests, on a storage in a file."""
    monkeypatch.setenv("RABBITMQ_URL", f"amqp://guest:{SECRET}@127.0.0.1:9//")
    monkeypatch.setenv("SALES_RUNS_QUEUE", "runs_of_a_test")
    settings_module.settings.cache_clear()
    text = DAGSTER_YAML[DAGSTER_YAML.index("run_launcher:") :]
    (tmp_path / "dagster.yaml").write_text(text)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert isinstance(instance.run_launcher, RunLauncher)
        assert SECRET not in repr(instance.get_ref())
        yield instance.run_launcher


def started(launcher: RunLauncher, **tags: str) -> dg.DagsterRun:
    return launcher._instance.create_run_for_job(nothing, tags=tags, status=dg.DagsterRunStatus.STARTED)


def looks(launcher: RunLauncher, run: dg.DagsterRun, number: int) -> list[WorkerStatus]:
    return [launcher.check_run_worker_health(run).status for _ in range(number)]


def found(monkeypatch: pytest.MonkeyPatch, *, locked: bool = False, tasks: set[str] | None = None) -> None:
    monkeypatch.setattr(run_launcher, "is_executed", lambda _run_id: locked)
    monkeypatch.setattr(RunLauncher, "_active_tasks", lambda _self: tasks or set())


def test_a_run_is_lost_after_three_looks_in_a_row(launcher: RunLauncher, monkeypatch: pytest.MonkeyPatch) -> None:
    run = started(launcher, **{DAGSTER_CELERY_TASK_ID_TAG: "the task"})
    running, lost = WorkerStatus.RUNNING, WorkerStatus.FAILED
    found(monkeypatch)
    assert looks(launcher, run, 2) == [running, running]
    found(monkeypatch, locked=True)
    assert looks(launcher, run, 1) == [running]
    found(monkeypatch)
    assert looks(launcher, run, 2) == [running, running]
    found(monkeypatch, tasks={"the task"})
    assert looks(launcher, run, 1) == [running]
    found(monkeypatch, tasks={"another task"})
    assert looks(launcher, run, 3) == [running, running, lost]


def test_runs_of_commands_are_left_alone(launcher: RunLauncher, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sales-assets load` executes its runs itself, and no worker knows of them."""
    found(monkeypatch)
    run = started(launcher)
    assert set(looks(launcher, run, 5)) == {WorkerStatus.RUNNING}
    assert not launcher.terminate(run.run_id)


def test_lost_runs_are_not_continued_in_the_middle(launcher: RunLauncher) -> None:
    assert not launcher.supports_resume_run


@pytest.mark.external
def test_an_unreachable_broker_says_nothing_about_a_run(launcher: RunLauncher, monkeypatch: pytest.MonkeyPatch) -> None:
    run = started(launcher, **{DAGSTER_CELERY_TASK_ID_TAG: "the task"})
    monkeypatch.setattr(run_launcher, "is_executed", lambda _run_id: False)
    with pytest.raises(OSError, match="refused"):
        launcher.check_run_worker_health(run)
    found(monkeypatch)
    assert looks(launcher, run, 3)[1] == WorkerStatus.RUNNING, "counted"


@pytest.mark.broker
@pytest.mark.external
def test_without_workers_nobody_lists_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    need_broker()
    monkeypatch.setenv("RABBITMQ_URL", BROKER_URL)
    settings_module.settings.cache_clear()
    launcher = RunLauncher(silent_looks=3, answer_seconds=0.2)
    launcher.celery = Celery("runs", set_as_current=False)
    launcher.celery.add_defaults(run_workers._configuration)
    assert launcher._active_tasks() == set()


def test_the_lock_of_a_run_lasts_as_long_as_its_process(
    new_database: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_STORAGE_URL", new_database("template1"))
    settings_module.settings.cache_clear()
    run_id, other = "ffffffff-0000-4000-8000-000000000001", "00000001-0000-4000-8000-000000000001"
    with run_workers._run_lock(run_id) as is_taken:
        assert is_taken
        assert run_workers.is_executed(run_id)
        assert not run_workers.is_executed(other)
    assert not run_workers.is_executed(run_id)


def test_a_run_is_not_executed_beside_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """RabbitMQ delivers a message again after a lost connection, while the run goes on."""
    monkeypatch.setattr(run_workers, "sent_run_id", lambda _arguments: "the run")
    monkeypatch.setattr(run_workers, "_run_lock", lambda _run_id: nullcontext(enter_result=False))
    assert run_workers.execute_run({}) is None
    monkeypatch.setattr(run_workers, "_run_lock", lambda _run_id: nullcontext(enter_result=True))
    with pytest.raises(Exception, match="dict"):  # executed: Dagster has read the arguments
        run_workers.execute_run({})


@pytest.mark.external
@pytest.mark.parametrize("module", ["run_launcher", "run_workers"])
def test_the_missing_extra_is_named(module: str, tmp_path: Path) -> None:
    script = f"import sys; sys.modules['dagster_celery'] = None; import sales_assets.deploy.{module}"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr.endswith(
        "ImportError: runs by Celery need the extra `workers`: pip install 'sales_assets[workers]'\n"
    )


@pytest.mark.external
def test_one_machine_does_without_the_extra(tmp_path: Path) -> None:
    script = (
        "import sys, sales_assets.definitions as d, sales_assets.cli; d.defs(); print('dagster_celery' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
