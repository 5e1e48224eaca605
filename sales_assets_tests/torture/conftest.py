"""Torture runs when it is asked for by name (`make torture`, `pytest -m torture`), and never beside the quick tests."""

from pathlib import Path

import pytest

from sales_assets_tests.services.partner_orders.conftest import start
from sales_assets_tests.services.partner_orders.test_random_sequences import world

__all__ = ["start", "world"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "torture" in config.option.markexpr:
        return
    here = Path(__file__).parent
    kept = [item for item in items if here not in item.path.parents]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept
