"""The command as people run it: a process of its own, in a folder and a home of its own."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from sales_assets.embedded import EmbeddedPostgres
from sales_assets_tests.commands.running import Command


@pytest.fixture(scope="session")
def dagster_storage(server: EmbeddedPostgres) -> str:
    """A database for Dagster's storage that the commands of this test process share: making one takes a second."""
    with psycopg.connect(server.url("sales"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE dagster_of_commands")
    return server.url("dagster_of_commands")


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
