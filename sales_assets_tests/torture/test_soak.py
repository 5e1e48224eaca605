"""Three years of days loaded by the sensor; `faults/soaking.py` simulates the days.

SOAK_DAYS sets the number of days (1095 are three years). TORTURE_SECONDS ends the test early and checks the days done
by then; the databases and files stay in pytest's cache, and the next run of the same code continues with them.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from sales_assets.postgres import migrations
from sales_assets.postgres.embedded import EmbeddedPostgres
from sales_assets_tests.automation.test_housekeeping import instance, storage
from sales_assets_tests.faults.soaking import Soak
from sales_assets_tests.fixtures import Shop
from sales_assets_tests.torture.code import code_under_test

__all__ = ["instance", "storage"]

_DAYS = int(os.environ.get("SOAK_DAYS", "1095"))
_SECONDS = float(os.environ.get("TORTURE_SECONDS", "1500"))
_MEMORY = "soak.pickle"


@pytest.fixture
def tmp_path(pytestconfig: pytest.Config) -> Iterator[Path]:
    """A folder that survives an unfinished soak; it contains SALES_HOME, the reports and the server."""
    assert pytestconfig.cache is not None
    soaks = pytestconfig.cache.mkdir("soak")
    folder = soaks / f"{_DAYS}-{code_under_test()}"
    for other in soaks.iterdir():
        if other != folder:
            shutil.rmtree(other)
    folder.mkdir(exist_ok=True)
    yield folder
    if not (folder / _MEMORY).exists():
        shutil.rmtree(folder)


@pytest.fixture
def new_database(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Yield a function that returns the URL of a template's database on a separate server; the first run creates it."""
    server = EmbeddedPostgres(tmp_path / "postgres")
    server.ensure_running()

    def make(template: str = "migrated_template") -> str:
        name = f"soak_{template}"
        with psycopg.connect(server.url("sales"), autocommit=True) as connection:
            if connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        if template == "migrated_template":
            migrations.migrate(server.url(name))
        return server.url(name)

    yield make
    server.stop()


@pytest.mark.torture
@pytest.mark.timeout(_SECONDS + 300)
def test_years_of_days_equal_the_reference_model(shop: Shop, storage: str, tmp_path: Path) -> None:
    soak = Soak(shop, storage)
    soak.run(_DAYS, _SECONDS, memory=tmp_path / _MEMORY)
    soak.check_result()
    if len(soak.days) < _DAYS:
        pytest.skip(f"{len(soak.days)} of {_DAYS} days, all of them right; run it again for the others")
    (tmp_path / _MEMORY).unlink()
