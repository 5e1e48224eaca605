"""Fixtures of the mailings service."""

import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sales_assets.postgres.embedded import EmbeddedPostgres
from sales_assets_tests.conftest import copy_database
from sales_assets_tests.services.mailings.fixtures import Api, api_running
from sales_assets_tests.services.mailings.worker import MailingsEnvironment, mailings_environment


@pytest.fixture
def api(warehouse_url: str) -> Iterator[Api]:
    """The service with a separate database."""
    with api_running(warehouse_url) as api:
        yield api


@pytest.fixture
def mailings_env(warehouse_url: str, tmp_path: Path) -> Iterator[MailingsEnvironment]:
    """Clients, a simulated sender and workers, with a separate database."""
    with mailings_environment(warehouse_url, tmp_path / "post") as mailings_env:
        yield mailings_env


@pytest.fixture(scope="module")
def shared_api(server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One service shared by the tests of a module that do not need a separate database."""
    with ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setenv("SALES_HOME", str(tmp_path_factory.mktemp("home")))
        database_url = copy_database(server, "migrated_template", f"shared_{secrets.token_hex(6)}")
        yield stack.enter_context(api_running(database_url))
