"""Isolation: a failing item does not affect the items loaded with it."""

from collections.abc import Sequence

import psycopg
import pytest

from sales_assets.pipeline.isolation import together_or_one_by_one


class Loads:
    """Recorder of loaded items that raises for the items configured to fail."""

    def __init__(self, **failing: Exception) -> None:
        self.failing = failing
        self.tried: list[list[str]] = []
        self.failed: list[tuple[str, Exception]] = []

    def load(self, items: Sequence[str]) -> None:
        self.tried.append(list(items))
        for item in items:
            if item in self.failing:
                raise self.failing[item]

    def on_failure(self, item: str, error: Exception) -> None:
        self.failed.append((item, error))


@pytest.mark.parametrize(
    ("items", "failing", "tried"),
    [
        ("", "", []),
        ("a", "", ["a"]),
        ("abc", "", ["abc"]),
        ("a", "a", ["a"]),
        ("abc", "b", ["abc", "a", "b", "c"]),
        ("abc", "ac", ["abc", "a", "b", "c"]),
    ],
)
def test_items_are_loaded_together_and_after_a_failure_one_by_one(items: str, failing: str, tried: list[str]) -> None:
    errors = {item: ValueError(item) for item in failing}
    loads = Loads(**errors)
    together_or_one_by_one(list(items), loads.load, loads.on_failure)
    assert loads.tried == [list(together) for together in tried]
    assert loads.failed == list(errors.items())


def test_a_lost_connection_is_raised() -> None:
    loads = Loads(a=psycopg.OperationalError())
    with pytest.raises(psycopg.OperationalError):
        together_or_one_by_one(["a", "b"], loads.load, loads.on_failure)
    assert (loads.tried, loads.failed) == ([["a", "b"]], [])
