"""Fixtures that run the command, in a separate process or (where only the output matters) in this one."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sales_assets_tests.cli.processes import Command, run_here

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    """`sales-assets` on whatever the settings of the test say when it is run; processes left over are killed."""
    made = Command(tmp_path)
    yield made
    made.kill_what_is_left()


@pytest.fixture
def loading(command: Command, warehouse_url: str, dagster_storage: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command on a migrated warehouse."""
    monkeypatch.setenv("DAGSTER_STORAGE_URL", dagster_storage)
    return command


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command in this process, on whatever the settings of the test say when it is run."""
    return lambda *arguments: run_here(arguments, capsys, monkeypatch)


@pytest.fixture
def loading_here(here: Run, warehouse_url: str, dagster_storage: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command in this process, on a migrated warehouse."""
    monkeypatch.setenv("DAGSTER_STORAGE_URL", dagster_storage)
    return here
