"""The mailings' service under test."""

import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sales_assets.postgres.embedded import EmbeddedPostgres
from sales_assets_tests.conftest import copy_database
from sales_assets_tests.services.mailings.fixtures import Api, api_running
from sales_assets_tests.services.mailings.worker import Post, post_office


@pytest.fixture
def api(warehouse_url: str) -> Iterator[Api]:
    """The service over a database of the test's own."""
    with api_running(warehouse_url) as api:
        yield api


@pytest.fixture
def post(warehouse_url: str, tmp_path: Path) -> Iterator[Post]:
    """Clients, a sender and workers, over a database of the test's own."""
    with post_office(warehouse_url, tmp_path / "post") as post:
        yield post


@pytest.fixture(scope="module")
def shared_api(server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One service for the many tests of a module that need no database of their own."""
    with ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setenv("SALES_HOME", str(tmp_path_factory.mktemp("home")))
        database_url = copy_database(server, "migrated_template", f"shared_{secrets.token_hex(6)}")
        yield stack.enter_context(api_running(database_url))
