"""Fixtures for tests of rejected rows."""

import contextlib
from collections.abc import Callable

import dagster as dg
import pytest

from sales_assets.cli import quarantine
from sales_assets.cli.quarantine import Replayed
from sales_assets.postgres.warehouse import Warehouse
from sales_assets_tests.shop import Shop

Settle = Callable[..., Replayed]


@pytest.fixture
def settle(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Settle:
    """Replay rejected rows by their numbers, with the test's Dagster instance."""
    monkeypatch.setattr("sales_assets.deploy.instance.prepare_dagster_home", lambda: None)
    monkeypatch.setattr(dg.DagsterInstance, "get", lambda: contextlib.nullcontext(shop.instance))

    def run(corrections: dict[int, str] | None = None, *, discard: int = 0, again: int = 0) -> Replayed:
        return quarantine.replay(
            Warehouse(),
            corrections=corrections or {},
            discarded=[discard] if discard else [],
            as_they_are=[again] if again else [],
        )

    return run
