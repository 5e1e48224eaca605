"""Fixtures for tests of raw files and deliveries."""

import pytest

from sales_assets_tests.fixtures import Shop


@pytest.fixture
def shop(engine_shop: Shop) -> Shop:
    """Return a shop that loads without Dagster runs; tests of Dagster's records use `dagster_shop`."""
    return engine_shop
