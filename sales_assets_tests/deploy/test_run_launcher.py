"""Launcher of runs on Celery workers: its configuration, and when it reports a run as lost."""

import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dagster as dg
import psycopg
import pytest
from celery import Celery
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG
from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.exceptions import OperationalError

from sales_assets import settings as settings_module
from sales_assets.dagster_internals import LaunchRunContext, WorkerStatus
from sales_assets.deploy import run_launcher, run_workers
from sales_assets.deploy.run_launcher import RunLauncher
from sales_assets.deploy.run_lock import command_lock, is_executed, is_lost, run_lock
from sales_assets_tests.deploy.topology import DAGSTER_YAML
from sales_assets_tests.services.partner_orders.fixtures import BROKER_URL, need_broker, until

SECRET = "hush-hush"


@dg.job
def nothing() -> None:
    """A job whose runs are never executed."""


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunLauncher]:
    """The launcher configured in the dagster.yaml of the tests, with a file-based storage."""
    url = f"amqp://guest:{SECRET}@127.0.0.1:9//"
    monkeypatch.setenv("RABBITMQ_URL", url)
    for name in ("broker_read_url", "broker_write_url"):
        monkeypatch.setitem(run_workers.app.conf.changes, name, url)  # the application may have read another URL before
    monkeypatch.setenv("SALES_RUNS_QUEUE", "runs_of_a_test")
    settings_module.settings.cache_clear()
    text = DAGSTER_YAML[DAGSTER_YAML.index("run_launcher:") :]  # includes the run queue
    (tmp_path / "dagster.yaml").write_text(text)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert isinstance(instance.run_launcher, RunLauncher)
        assert SECRET not in repr(instance.get_ref())
        yield instance.run_launcher


def started(launcher: RunLauncher, **tags: str) -> dg.DagsterRun:
    return launcher._instance.create_run_for_job(nothing, tags=tags, status=dg.DagsterRunStatus.STARTED)


def health_checks(launcher: RunLauncher, run: dg.DagsterRun, number: int) -> list[WorkerStatus]:
    return [launcher.check_run_worker_health(run).status for _ in range(number)]


def found(monkeypatch: pytest.MonkeyPatch, *, locked: bool = False, tasks: set[str] | None = None) -> None:
    monkeypatch.setattr(run_launcher, "is_executed", lambda _run_id: locked)
    monkeypatch.setattr(RunLauncher, "_active_tasks", lambda _self: tasks or set())


def test_run_is_lost_after_three_failed_checks_in_a_row(launcher: RunLauncher, monkeypatch: pytest.MonkeyPatch) -> None:
    run = started(launcher, **{DAGSTER_CELERY_TASK_ID_TAG: "the task"})
    running, lost = WorkerStatus.RUNNING, WorkerStatus.FAILED
    found(monkeypatch)
    assert health_checks(launcher, run, 2) == [running, running]
    found(monkeypatch, locked=True)
    assert health_checks(launcher, run, 1) == [running]
    found(monkeypatch)
    assert health_checks(launcher, run, 2) == [running, running]
    found(monkeypatch, tasks={"the task"})
    assert health_checks(launcher, run, 1) == [running]
    found(monkeypatch, tasks={"another task"})
    assert health_checks(launcher, run, 3) == [running, running, lost]


def test_runs_of_commands_are_never_lost(launcher: RunLauncher, monkeypatch: pytest.MonkeyPatch) -> None:
    """`dg launch` and former versions of `sales-assets load` execute their runs without a worker and without a lock."""
    found(monkeypatch)
    run = started(launcher)
    assert set(health_checks(launcher, run, 5)) == {WorkerStatus.RUNNING}
    assert not launcher.terminate(run.run_id)


def test_runs_of_killed_commands_are_lost(launcher: RunLauncher, monkeypatch: pytest.MonkeyPatch) -> None:
    run = started(launcher)
    monkeypatch.setattr(run_launcher, "is_lost", lambda _instance, _run: True, raising=False)
    assert health_checks(launcher, run, 3) == [WorkerStatus.RUNNING, WorkerStatus.RUNNING, WorkerStatus.FAILED]


def test_lost_runs_are_not_resumed(launcher: RunLauncher) -> None:
    assert not launcher.supports_resume_run


@pytest.mark.external
def test_unreachable_broker_does_not_count_as_a_failed_check(
    launcher: RunLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = started(launcher, **{DAGSTER_CELERY_TASK_ID_TAG: "the task"})
    monkeypatch.setattr(run_launcher, "is_executed", lambda _run_id: False)
    with pytest.raises(OSError, match="refused"):
        launcher.check_run_worker_health(run)
    found(monkeypatch)
    assert health_checks(launcher, run, 3)[1] == WorkerStatus.RUNNING, "counted"


@pytest.fixture
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit a launch to about one second in total."""
    monkeypatch.setattr(run_workers, "_REACH_SECONDS", 0.3)
    monkeypatch.setattr(run_workers, "_BROKER_SECONDS", 0.5)
    monkeypatch.setitem(run_workers.app.conf.changes, "broker_connection_timeout", 0.5)


# The job's origin as Dagster stores it: a run that is queued again must have one, and the classes are not public.
_JOB = """{"__class__": "ExternalPipelineOrigin",
"external_repository_origin": {"__class__": "ExternalRepositoryOrigin",
"repository_location_origin": {"__class__": "RegisteredRepositoryLocationOrigin", "location_name": "sales_assets"},
"repository_name": "__repository__"}, "pipeline_name": "nothing"}"""


def launch(launcher: RunLauncher, monkeypatch: pytest.MonkeyPatch, url: str) -> tuple[dg.DagsterRun, list[str]]:
    """Launch a run with this broker, as the run queue does; return the run and the messages of its log."""
    monkeypatch.setitem(run_workers.app.conf.changes, "broker_write_url", url)
    code = dg.reconstructable(nothing).get_python_origin()
    run = launcher._instance.create_run_for_job(
        nothing,
        status=dg.DagsterRunStatus.STARTING,
        job_code_origin=code,
        remote_job_origin=dg.deserialize_value(_JOB),  # type: ignore[arg-type]
    )
    launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
    found = launcher._instance.get_run_by_id(run.run_id)
    assert found is not None
    return found, [entry.message for entry in launcher._instance.all_logs(run.run_id)]


@pytest.mark.external
@pytest.mark.usefixtures("short_timeouts")
def test_run_is_queued_again_if_the_broker_is_unreachable(
    launcher: RunLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, messages = launch(launcher, monkeypatch, f"amqp://guest:{SECRET}@127.0.0.1:9//")
    assert run.status == dg.DagsterRunStatus.QUEUED
    assert "RabbitMQ can't be reached, the run is queued again: [Errno 111] Connection refused" in messages
    assert SECRET not in "".join(messages)


@pytest.mark.external
@pytest.mark.timeout(60)  # without a timeout kombu would wait forever
@pytest.mark.usefixtures("short_timeouts")
def test_run_is_queued_again_if_the_broker_does_not_respond(
    launcher: RunLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        run, messages = launch(launcher, monkeypatch, f"amqp://guest:guest@127.0.0.1:{silent.getsockname()[1]}//")
    assert run.status == dg.DagsterRunStatus.QUEUED
    assert "RabbitMQ can't be reached, the run is queued again: timed out" in messages, messages


@pytest.mark.broker
@pytest.mark.external
@pytest.mark.timeout(60)
@pytest.mark.usefixtures("short_timeouts")
def test_run_is_queued_again_without_a_confirm_from_the_broker(
    launcher: RunLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RabbitMQ with a full disk accepts connections, but stops reading from publishers."""
    need_broker()
    queue = f"test_{secrets.token_hex(6)}"
    launcher.default_queue = queue
    monkeypatch.setitem(run_workers.app.amqp.queues, queue, Queue(queue, Exchange(queue), f"{queue}.#"))
    try:
        with broker_that_stops_at(b"execute_job") as url:
            run, messages = launch(launcher, monkeypatch, url)
        assert run.status == dg.DagsterRunStatus.QUEUED
        assert "RabbitMQ can't be reached, the run is queued again: timed out" in messages, messages
    finally:
        with Connection(BROKER_URL, connect_timeout=5) as connection, connection.channel() as channel:
            channel.queue_delete(queue)
            channel.exchange_delete(queue)


@contextmanager
def broker_that_stops_at(mark: bytes) -> Iterator[str]:
    """Proxy connections to RabbitMQ until a client sends these bytes, which are dropped; yield the proxy's URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:

        def forward(source: socket.socket, target: socket.socket) -> None:
            with suppress(OSError):
                while (data := source.recv(65536)) and mark not in data:
                    target.sendall(data)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client = stack.enter_context(listener.accept()[0])
                    parts = urlsplit(BROKER_URL)
                    server = stack.enter_context(socket.create_connection((parts.hostname, parts.port or 5672)))
                    for ends in ((client, server), (server, client)):
                        threading.Thread(target=forward, args=ends, daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        parts = urlsplit(BROKER_URL)
        yield parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{listener.getsockname()[1]}").geturl()
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.external
@pytest.mark.usefixtures("short_timeouts")
def test_canceled_run_is_not_queued_again(launcher: RunLauncher, monkeypatch: pytest.MonkeyPatch) -> None:
    def canceled(run_id: str) -> dg.DagsterRun | None:
        run = dg.DagsterInstance.get_run_by_id(launcher._instance, run_id)
        assert run is not None
        return run.with_status(dg.DagsterRunStatus.CANCELED)

    monkeypatch.setattr(launcher._instance, "get_run_by_id", canceled)
    _, messages = launch(launcher, monkeypatch, "amqp://127.0.0.1:9//")
    assert not [message for message in messages if "queued again" in message]


@pytest.mark.external
@pytest.mark.usefixtures("short_timeouts")
def test_run_without_a_queue_fails_if_the_broker_is_unreachable(
    launcher: RunLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a run queue nothing would launch the run again, so it must fail."""
    monkeypatch.setattr(dg.DagsterInstance, "run_coordinator", None)
    with pytest.raises(OperationalError, match="refused"):
        launch(launcher, monkeypatch, "amqp://127.0.0.1:9//")


@pytest.mark.broker
@pytest.mark.external
def test_active_tasks_are_empty_without_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    need_broker()
    monkeypatch.setenv("RABBITMQ_URL", BROKER_URL)
    settings_module.settings.cache_clear()
    launcher = RunLauncher(silent_looks=3, answer_seconds=0.2)
    launcher.celery = Celery("runs", set_as_current=False)
    launcher.celery.add_defaults(run_workers._configuration)
    assert launcher._active_tasks() == set()


def test_run_lock_is_held_during_execution(new_database: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_STORAGE_URL", new_database("template1"))
    settings_module.settings.cache_clear()
    run_id, other = "ffffffff-0000-4000-8000-000000000001", "00000001-0000-4000-8000-000000000001"
    with run_lock(run_id) as session:
        assert session is not None
        assert is_executed(run_id)
        assert not is_executed(other)
    assert not is_executed(run_id)


def test_lock_of_a_command_is_taken_again_after_a_lost_session(
    new_database: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a restart of PostgreSQL would make a running load a lost one."""
    url = new_database("template1")
    with dg.DagsterInstance.ephemeral() as instance:
        monkeypatch.setattr(instance.run_storage, "postgres_url", url, raising=False)
        run = instance.create_run_for_job(nothing, status=dg.DagsterRunStatus.STARTED)
        assert not is_lost(instance, run), "it holds no lock"
        with command_lock(instance, run.run_id) as tags:
            instance.add_run_tags(run.run_id, tags)
            run = instance.get_runs()[0]
            assert not is_lost(instance, run)
            with psycopg.connect(url, autocommit=True) as connection:
                ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE %s"
                connection.execute(ended, [f"%{run.run_id}"])
            until(lambda: is_lost(instance, run))
            until(lambda: not is_lost(instance, run))
        until(lambda: is_lost(instance, run))


def launched(launcher: RunLauncher, **tags: str) -> dg.DagsterRun:
    return launcher._instance.create_run_for_job(
        nothing,
        tags=tags,
        status=dg.DagsterRunStatus.STARTING,
        remote_job_origin=dg.deserialize_value(_JOB),  # type: ignore[arg-type]
    )


def waiting(monkeypatch: pytest.MonkeyPatch, *, messages: int = 0, tasks: set[str] | None = None) -> None:
    """Let the queue have this number of messages, and the workers these tasks."""
    monkeypatch.setattr(RunLauncher, "_messages", lambda _self, _queue: messages)
    monkeypatch.setattr(RunLauncher, "_known_tasks", lambda _self: tasks or set())


def status_of(launcher: RunLauncher, run: dg.DagsterRun) -> dg.DagsterRunStatus:
    record = launcher._instance.get_run_by_id(run.run_id)
    assert record is not None
    return record.status


def test_a_run_lost_while_it_was_launched_is_queued_again(
    launcher: RunLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon was killed before the message, or RabbitMQ has lost the message of a run that has a task."""
    runs = [launched(launcher), launched(launcher, **{DAGSTER_CELERY_TASK_ID_TAG: "the task"})]
    executed = started(launcher)
    found(monkeypatch)
    waiting(monkeypatch)
    assert [len(launcher.requeue_lost_launches()) for _ in range(3)] == [0, 0, 2]
    assert {status_of(launcher, run) for run in runs} == {dg.DagsterRunStatus.QUEUED}
    assert status_of(launcher, executed) == dg.DagsterRunStatus.STARTED
    assert launcher.requeue_lost_launches() == []


@pytest.mark.parametrize(
    "seen",
    [{"messages": 1}, {"tasks": {"the task"}}, {"locked": True}],
    ids=["message in the queue", "task of a worker", "process"],
)
def test_a_run_that_a_worker_will_start_is_not_queued_again(
    launcher: RunLauncher, monkeypatch: pytest.MonkeyPatch, seen: dict[str, Any]
) -> None:
    run = launched(launcher, **{DAGSTER_CELERY_TASK_ID_TAG: "the task"})
    found(monkeypatch)
    waiting(monkeypatch)
    assert [launcher.requeue_lost_launches() for _ in range(2)] == [[], []]
    locked = bool(seen.pop("locked", False))
    found(monkeypatch, locked=locked)
    waiting(monkeypatch, **seen)
    assert launcher.requeue_lost_launches() == []
    # The checks start anew.
    found(monkeypatch)
    waiting(monkeypatch)
    assert [launcher.requeue_lost_launches() for _ in range(3)] == [[], [], [run.run_id]]


@pytest.mark.external
def test_lost_launches_are_not_counted_while_the_broker_is_unreachable(
    launcher: RunLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched(launcher)
    found(monkeypatch)
    with pytest.raises(OSError, match="refused"):
        launcher.requeue_lost_launches()


@pytest.mark.broker
@pytest.mark.external
def test_messages_of_a_queue_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    need_broker()
    monkeypatch.setenv("RABBITMQ_URL", BROKER_URL)
    settings_module.settings.cache_clear()
    launcher = RunLauncher(silent_looks=3, answer_seconds=0.2)
    launcher.celery = Celery("runs", set_as_current=False)
    launcher.celery.add_defaults(run_workers._configuration)
    queue = f"test_{secrets.token_hex(6)}"
    assert launcher._messages(queue) == 0, "there is no such queue"
    assert launcher._known_tasks() == set()
    with Connection(BROKER_URL, connect_timeout=5) as connection, connection.channel() as channel:
        try:
            channel.queue_declare(queue)
            assert launcher._messages(queue) == 0
            connection.Producer(channel).publish("run", routing_key=queue)
            until(lambda: launcher._messages(queue) == 1)
        finally:
            channel.queue_delete(queue)


def test_a_run_that_could_not_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster's database was lost between the start of the process and that of the run."""
    attempts: list[str] = []
    monkeypatch.setattr(run_workers, "sent_run_id", lambda _arguments: "the run")
    monkeypatch.setattr(run_workers, "run_lock", lambda _run_id: nullcontext("the session"))
    monkeypatch.setattr(run_workers.execute_run, "run", attempts.append)
    monkeypatch.setattr(run_workers, "_is_starting", lambda _run_id: True, raising=False)
    with pytest.raises(Exception, match="run the run could not be started"):
        run_workers.execute_run({})
    monkeypatch.setattr(run_workers, "_is_starting", lambda _run_id: False)
    run_workers.execute_run({})
    assert len(attempts) == 2


def test_redelivered_run_is_not_executed_concurrently(monkeypatch: pytest.MonkeyPatch) -> None:
    """RabbitMQ redelivers a message after a lost connection, while the run continues."""
    monkeypatch.setattr(run_workers, "sent_run_id", lambda _arguments: "the run")
    monkeypatch.setattr(run_workers, "run_lock", lambda _run_id: nullcontext())
    assert run_workers.execute_run({}) is None
    monkeypatch.setattr(run_workers, "run_lock", lambda _run_id: nullcontext("the session"))
    with pytest.raises(Exception, match="dict"):  # the run was executed: Dagster has read the arguments
        run_workers.execute_run({})


@pytest.mark.external
@pytest.mark.parametrize("module", ["run_launcher", "run_workers"])
def test_missing_extra_is_reported(module: str, tmp_path: Path) -> None:
    script = f"import sys; sys.modules['dagster_celery'] = None; import sales_assets.deploy.{module}"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr.endswith(
        "ImportError: runs by Celery need the extra `workers`: pip install 'sales_assets[workers]'\n"
    )


@pytest.mark.external
def test_one_machine_setup_does_not_import_celery(tmp_path: Path) -> None:
    script = (
        "import sys, sales_assets.definitions as d, sales_assets.cli; d.defs(); print('dagster_celery' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
