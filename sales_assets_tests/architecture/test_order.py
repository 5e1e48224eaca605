"""Tests run in random order."""

import pytest


def test_the_order_is_random_and_its_seed_is_printed(request: pytest.FixtureRequest) -> None:
    """A merge once lost the plugin, and nobody noticed."""
    assert request.config.pluginmanager.hasplugin("randomly")
    assert request.config.getoption("randomly_reorganize")
    assert isinstance(request.config.getoption("randomly_seed"), int)
