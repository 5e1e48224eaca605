"""Torture tests run only on request (`make torture`, `pytest -m torture`), never together with the other tests."""

from pathlib import Path

import pytest

from sales_assets_tests.services.partner_orders.conftest import start
from sales_assets_tests.services.partner_orders.test_random_sequences import harness

__all__ = ["harness", "start"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "torture" in config.option.markexpr:
        return
    torture_folder = Path(__file__).parent
    selected = [item for item in items if torture_folder not in item.path.parents]
    config.hook.pytest_deselected(items=[item for item in items if item not in selected])
    items[:] = selected
