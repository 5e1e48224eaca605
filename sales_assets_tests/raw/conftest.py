"""The shop of the tests of what was delivered."""

import pytest

from sales_assets_tests.fixtures import Shop


@pytest.fixture
def shop(engine_shop: Shop) -> Shop:
    """The engine's data rules need no runs of Dagster; tests that look at its records use `dagster_shop`."""
    return engine_shop
