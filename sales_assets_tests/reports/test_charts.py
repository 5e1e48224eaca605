"""Charts: PNG of bounded size for any mart, with hostile names, and tables with the exact figures."""

import dataclasses
import datetime as dt
import functools
import io
import random
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sales_assets.postgres.warehouse import Warehouse
from sales_assets.reports import charts as charts_module
from sales_assets.reports.charts import BLUE, VERMILION, Chart, draw, money, percent
from sales_assets.reports.figures import Overview, Ranked, ReportError, Series, overview
from sales_assets_tests.reports.conftest import HOSTILE, LAST, days_before

# Size of all charts together, as Dagster stores them: in base64, a third longer than in bytes.
MAX_BYTES = 200_000


pytestmark = pytest.mark.external  # Matplotlib runs a program to list the machine's fonts


def figures(days: int) -> Overview:
    """Return figures of a busy mart: all bars differ, and every name is long."""
    of = random.Random(days)
    steps = days_before(LAST, days)

    def amount(most: int) -> Decimal:
        return Decimal(of.randint(0, most)) / 100

    amounts = [{"step": day, "net_amount": amount(10**9), "refunded_amount": -amount(10**8)} for day in steps]
    shares = [{"step": day, "shipped_amount": amount(10**9), "refunded_amount": -amount(10**8)} for day in steps[::7]]
    rows = [{"step": day, "rows": of.randint(0, 10**6), "rejected_rows": of.randint(0, 10**5)} for day in steps]
    names = [f"{HOSTILE[place % len(HOSTILE)]} Щ{'ЖЫW' * 20}" for place in range(10)]
    top = [Ranked(place, name, amount(10**10), 3, 1) for place, name in enumerate(names)]
    totals = {"net_amount": Decimal("123456.78"), "refunded_amount": Decimal("-234.50"), "rows": 1234}
    series = (Series("day", amounts), Series("week", shares), top, top, Series("day", rows))
    return Overview(steps[0], steps[-1], totals, *series)


@functools.cache
def drawn_of(days: int, cache: Path) -> list[Chart]:
    return draw(figures(days), "RUB", cache)


def picture(chart: Chart) -> Image.Image:
    image = Image.open(io.BytesIO(chart.png))
    image.load()
    return image.convert("RGB")


def pixels(chart: Chart, color: str) -> int:
    wanted = tuple(bytes.fromhex(color.removeprefix("#")))
    image = picture(chart)
    return sum(number for number, found in image.getcolors(image.width * image.height) or [] if found == wanted)


@pytest.mark.parametrize("days", [5, 160])
def test_the_charts_of_a_busy_mart_are_small(cache: Path, days: int) -> None:
    drawn = drawn_of(days, cache)
    assert [chart.title for chart in drawn] == [
        "Net and refunded amount per day", "Refund share per week", "Top items", "Top cities",
        "Rows and rejected rows per day",
    ]  # fmt: skip
    assert sum(len(chart.base64) for chart in drawn) < MAX_BYTES
    assert {picture(chart).size for chart in drawn} == {(1120, 640)}


def test_bars_are_drawn_in_both_colours(cache: Path) -> None:
    busy = figures(5)
    amounts, _, _, _, rows = drawn_of(5, cache)
    assert pixels(amounts, BLUE) > 10_000
    assert pixels(amounts, VERMILION) > 1_000
    assert pixels(rows, VERMILION) > 1_000

    none = Series("day", [{**row, "rejected_rows": 0} for row in busy.rows.rows])
    quiet = draw(dataclasses.replace(busy, rows=none), "", cache)[4]
    assert pixels(quiet, VERMILION) < pixels(rows, VERMILION)


def test_charts_are_drawn_for_an_empty_mart_without_warnings(warehouse_url: str, cache: Path) -> None:
    empty = overview(Warehouse(), days=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = draw(empty, "RUB", cache)
    assert [len(chart.rows) for chart in drawn] == [3, len(empty.refund_share.rows), 0, 0, 3]
    assert {row[-1] for row in drawn[1].rows} == {"–"}
    assert [picture(chart).size for chart in drawn] == [(1120, 640)] * 5


@pytest.mark.parametrize("days", [1, 1096])
def test_any_period_is_drawn_from_the_mart(
    insert_sale: Callable[..., None], names: None, cache: Path, days: int
) -> None:
    insert_sale(LAST)
    insert_sale(LAST - dt.timedelta(days=days - 1))
    drawn = draw(overview(Warehouse(), days=days), "RUB", cache)
    assert sum(len(chart.base64) for chart in drawn) < MAX_BYTES
    assert pixels(drawn[0], BLUE) > 100


def test_names_are_drawn_as_plain_text_without_warnings(cache: Path) -> None:
    """Text between dollar signs is not parsed as a formula; a missing glyph is drawn as a box."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        top = draw(figures(5), "$\\frac$", cache)[2]
    assert [str(warning.message) for warning in warned] == []
    assert [row[0] for row in top.rows] == [row.name for row in figures(5).items]
    assert not any(name in top.description for name in HOSTILE)


def test_tables_contain_the_exact_figures(cache: Path) -> None:
    busy = figures(5)
    amounts, share, top, _, rows = drawn_of(5, cache)
    assert amounts.header == ("day", "net amount, RUB", "refunded amount, RUB")
    assert [row[1] for row in amounts.rows] == [money(row["net_amount"]) for row in busy.amounts.rows]
    assert [row[0] for row in rows.rows] == [str(day) for day in days_before(LAST, 5)]
    assert share.rows[0][3] == percent(
        float(-busy.refund_share.rows[0]["refunded_amount"] / busy.refund_share.rows[0]["shipped_amount"])
    )
    assert top.rows[0][1] == money(busy.items[0].net_amount)
    assert (money(Decimal("-1234567.80")), percent(None)) == ("-1\u202f234\u202f567.80", "–")


def test_threads_draw_concurrently(cache: Path) -> None:
    """The runs of a process may be threads; pyplot would mix their figures."""
    with ThreadPoolExecutor(2) as pool:
        drawn = list(pool.map(lambda days: draw(figures(days), "RUB", cache), (5, 6)))
    assert drawn[0] == drawn_of(5, cache) != drawn[1]
    assert "matplotlib.pyplot" not in sys.modules


def test_without_the_extra_the_error_names_the_extra(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden: dict[str, Any] = {"matplotlib.backends.backend_agg": None}
    for name, module in hidden.items():
        monkeypatch.setitem(sys.modules, name, module)
    with pytest.raises(ReportError, match=r"need the extra \[reports\] \(pip install '\.\[reports\]'\)"):
        charts_module.draw(figures(1), "", cache)
