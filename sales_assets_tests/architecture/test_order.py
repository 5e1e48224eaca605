"""Order of the tests: random, except for the slowest files, which start first."""

from types import SimpleNamespace
from typing import Any

import pytest

from sales_assets_tests.scheduling import SLOWEST, TESTS, longest_first


def test_the_order_is_random_and_its_seed_is_printed(request: pytest.FixtureRequest) -> None:
    """A merge once removed the plugin without being noticed."""
    assert request.config.pluginmanager.hasplugin("randomly")
    assert request.config.getoption("randomly_reorganize")
    assert isinstance(request.config.getoption("randomly_seed"), int)


def test_the_slowest_files_start_first_and_the_others_keep_their_order() -> None:
    files = ["a.py", SLOWEST[1], "b.py", SLOWEST[0], SLOWEST[1]]
    items: list[Any] = [SimpleNamespace(path=TESTS / file, number=n) for n, file in enumerate(files)]
    longest_first(items)
    assert [item.number for item in items] == [3, 1, 4, 0, 2]


def test_the_slowest_files_exist() -> None:
    assert [file for file in SLOWEST if not (TESTS / file).exists()] == []
