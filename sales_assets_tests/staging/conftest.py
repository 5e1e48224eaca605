"""Fixtures for tests of what is staged and rejected."""

import contextlib
from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from sales_assets.cli import quarantine
from sales_assets.cli.quarantine import Replayed
from sales_assets.dagster_internals import range_tags
from sales_assets.postgres.warehouse import Warehouse
from sales_assets_tests.builders import definitions
from sales_assets_tests.fixtures import Shop

Settle = Callable[..., Replayed]


@pytest.fixture
def shop(engine_shop: Shop) -> Shop:
    """The engine's data rules need no runs of Dagster; tests that look at its records use `dagster_shop`."""
    return engine_shop


@pytest.fixture
def settle(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Settle:
    """Replay rejected rows by their numbers; the days are loaded as `shop` loads them.

    `cli/test_quarantine` proves that the command does it by runs of Dagster.
    """

    def load(_definitions: object, _instance: object, job: str, tags: dict[str, str], **options: Any) -> str | None:
        assert job == "load_days"
        first, last = (tags[name] for name in range_tags("", ""))
        return shop.try_to_load(first, last, **options)

    monkeypatch.setattr("sales_assets.deploy.instance.prepare_dagster_home", lambda: None)
    monkeypatch.setattr("sales_assets.definitions.defs", definitions)
    monkeypatch.setattr(dg.DagsterInstance, "get", lambda: contextlib.nullcontext())
    monkeypatch.setattr("sales_assets.deploy.runs.run_job", load)
    monkeypatch.setattr("sales_assets.deploy.runs.failures_of", lambda failure: [failure] if failure else [])

    def run(corrections: dict[int, str] | None = None, *, discard: int = 0, again: int = 0) -> Replayed:
        return quarantine.replay(
            Warehouse(),
            corrections=corrections or {},
            discarded=[discard] if discard else [],
            as_they_are=[again] if again else [],
        )

    return run
