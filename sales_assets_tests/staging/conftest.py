"""Fixtures for tests of staged and rejected rows."""

import contextlib
from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from sales_assets.cli import quarantine
from sales_assets.cli.quarantine import Replayed
from sales_assets.dagster_internals import range_tags
from sales_assets.defs.load_daily_sales import stored_specs
from sales_assets.postgres.warehouse import Warehouse
from sales_assets_tests.builders import definitions
from sales_assets_tests.fixtures import Shop

Replay = Callable[..., Replayed]


@pytest.fixture
def shop(engine_shop: Shop) -> Shop:
    """Return a shop that loads without Dagster runs; tests of Dagster's records use `dagster_shop`."""
    return engine_shop


@pytest.fixture
def replay(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Replay:
    """Return a function that replays rejected rows by their numbers; `shop` loads the days.

    `cli/test_quarantine` proves that the command loads the days with Dagster runs.
    """

    def load(_definitions: object, _instance: object, job: str, tags: dict[str, str], **options: Any) -> str | None:
        assert job == "load_resolved_days"
        first, last = (tags[name] for name in range_tags("", ""))
        return shop.try_to_load(first, last, [spec.key for spec in stored_specs()], **options)

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
