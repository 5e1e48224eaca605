"""Fixtures for tests of the overview: sales in the mart, and names that are special in HTML, formulas and fonts."""

import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sales_assets_tests.lake.conftest import insert_sale
from sales_assets_tests.ui.conftest import browser

__all__ = ["browser", "insert_sale"]

Query = Callable[..., list[tuple[Any, ...]]]

LAST = dt.date(2024, 10, 2)
HOSTILE = [
    "<script>alert(1)</script>",
    "](javascript:alert(1))",
    "$\\frac$ & x",
    "日本\u202eкофе\nno line \x07",
    '" onerror="alert(1)',
]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for Matplotlib's font list, which takes a second to build; one per test process."""
    return tmp_path_factory.mktemp("matplotlib")


@pytest.fixture(autouse=True, scope="module")
def one_cache(cache: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MPLCONFIGDIR", str(cache))
        yield


@pytest.fixture
def names(query: Query) -> None:
    """Insert hostile names for some of the seven items and three cities of `insert_sale`; the others have no name."""
    for number, name in enumerate(HOSTILE):
        query("INSERT INTO mart.d_item (item_id, item_name) VALUES (%s, %s)", number, name)
    query("INSERT INTO mart.d_city (city_id, city_name) VALUES (0, %s), (1, 'Тверь')", HOSTILE[0])


def days_before(last: dt.date, number: int) -> list[dt.date]:
    """Return the last `number` days up to `last`, oldest first."""
    return [last - dt.timedelta(days=ago) for ago in reversed(range(number))]
