"""pytest plugin for the test runs of mutation testing."""

import json
import os
from pathlib import Path

import hypothesis
import pytest

# If set, tests that need a server, a broker or a browser are left out.
UNIT = "MUTANTS_UNIT"
# Test files or folders; if set, all other tests are left out.
TESTS = "MUTANTS_TESTS"

# The same examples for each mutant, without shrinking: nobody reads the failures.
hypothesis.settings.register_profile(
    "mutants",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=20,
    phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
)
hypothesis.settings.load_profile("mutants")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests; put first those that kill most mutants fastest: tests without a server, then short tests."""
    left_out = [item for item in items if _is_left_out(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not _is_left_out(item)]
    # mutmut writes this file to the folder in which it runs pytest.
    stats = Path("mutmut-stats.json")
    seconds = json.loads(stats.read_text(encoding="utf-8"))["duration_by_test"] if stats.exists() else {}
    items.sort(key=lambda item: (_needs_server(item), seconds.get(item.nodeid, 0)))


def _needs_server(item: pytest.Item) -> bool:
    return not {"server", "own_server"}.isdisjoint(getattr(item, "fixturenames", ()))


def _is_left_out(item: pytest.Item) -> bool:
    chosen = os.environ.get(TESTS, "").split(os.pathsep)
    return (UNIT in os.environ and _needs_server(item)) or not item.nodeid.startswith(tuple(chosen))
