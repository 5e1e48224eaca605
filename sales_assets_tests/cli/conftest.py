"""Fixtures that run `sales-assets` in a separate process, or in this process if only its output matters."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sales_assets_tests.cli.processes import Command, run_command_in_process

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    """The command as a process, with the settings at the time of the call; leftover processes are killed."""
    made = Command(tmp_path)
    yield made
    made.kill_remaining()


@pytest.fixture
def loading(command: Command, warehouse_url: str, dagster_storage: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command as a process, with a migrated warehouse."""
    monkeypatch.setenv("DAGSTER_STORAGE_URL", dagster_storage)
    return command


@pytest.fixture
def run_in_process(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command run in this process, with the settings at the time of the call."""
    return lambda *arguments: run_command_in_process(arguments, capsys, monkeypatch)


@pytest.fixture
def run_with_warehouse(
    run_in_process: Run, warehouse_url: str, dagster_storage: str, monkeypatch: pytest.MonkeyPatch
) -> Run:
    """The command run in this process, with a migrated warehouse."""
    monkeypatch.setenv("DAGSTER_STORAGE_URL", dagster_storage)
    return run_in_process
