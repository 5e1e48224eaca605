"""Charts of the sales overview as PNG, drawn with Matplotlib's object-oriented API, which threads may use.

Colours are those of Okabe and Ito, which colour-blind people can distinguish. A chart never relies on colour alone: it
also has a legend in drawing order and a description, and the page has a table next to it.
"""

import base64
import datetime as dt
import io
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sales_assets.reports.figures import Overview, Ranked, ReportError, Series, share_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#595959"

# 1 120 pixels wide. On a phone that scales a chart to 360 pixels, text of 10 points is 9 pixels high and still legible.
_INCHES = (5.6, 3.2)
_DPI = 200
# A palette is enough for bars and their smooth edges, and saves two thirds of the bytes, which Dagster stores at each
# refresh.
_COLORS = 64
_LONGEST_NAME = 28


@dataclass(frozen=True)
class Chart:
    """A drawn chart: title, description for people who can't see it, PNG, and its figures as a table of text."""

    title: str
    description: str
    png: bytes
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    @property
    def base64(self) -> str:
        return base64.b64encode(self.png).decode("ascii")


def draw(overview: Overview, currency: str, cache: Path) -> list[Chart]:
    """Draw the charts of an overview.

    currency: shown after the amounts on axes; may be empty. cache: folder in which Matplotlib keeps its list of fonts.
    Raises `ReportError` if the extra `[reports]` is not installed.
    """
    # Otherwise Matplotlib writes below the user's home, or into a temporary folder with a warning.
    os.environ.setdefault("MPLCONFIGDIR", str(cache))
    amount = f"amount, {currency}" if currency else "amount"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a box is drawn; the table has the name
        return [
            _amounts(overview, amount),
            _refund_share(overview),
            _top("items", overview.items, overview, amount),
            _top("cities", overview.cities, overview, amount),
            _rows(overview),
        ]


def money(value: Decimal) -> str:
    """Format an exact amount with its decimals and a narrow space between thousands."""
    return f"{value:,f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def count(value: int) -> str:
    """Format a count with a narrow space between thousands."""
    return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def percent(share: float | None) -> str:
    """Format a share as a percentage; None becomes a dash."""
    return "–" if share is None else f"{share:.1%}"


def _amounts(overview: Overview, amount: str) -> Chart:
    series = overview.amounts
    title = f"Net and refunded amount per {series.unit}"
    figure, axes = _figure(amount)
    bars = _Bars(series, overview)
    bars.draw(axes, [float(row["net_amount"]) for row in series.rows], color=BLUE, label="net")
    bars.draw(axes, [float(row["refunded_amount"]) for row in series.rows], color=VERMILION, label="refunded")
    axes.axhline(0, color=GREY, linewidth=0.8)
    _time_axis(axes, overview)
    _legend(axes)
    return Chart(
        title,
        f"Bars of {overview.first} to {overview.last}. Net {money(overview.totals['net_amount'])} in total, refunded "
        f"{money(overview.totals['refunded_amount'])}. Net is after refunds, which are drawn below zero.",
        _png(figure),
        (series.unit, f"net {amount}", f"refunded {amount}"),
        [(str(row["step"]), money(row["net_amount"]), money(row["refunded_amount"])) for row in series.rows],
    )


def _refund_share(overview: Overview) -> Chart:
    series = overview.refund_share
    figure, axes = _figure("refunded, % of shipped amount")
    shares = [share_of(row["shipped_amount"], row["refunded_amount"]) for row in series.rows]
    axes.plot(
        _dates([row["step"] for row in series.rows]),
        [float("nan") if share is None else share * 100 for share in shares],
        color=VERMILION,
        marker="o" if len(shares) <= 60 else None,
        markersize=4,
    )
    axes.set_ylim(bottom=0)
    _time_axis(axes, overview)
    return Chart(
        f"Refund share per {series.unit}",
        f"Line of {overview.first} to {overview.last}: refunded amount as a share of the shipped amount of the same "
        f"{series.unit}, {percent(overview.share)} over the whole period.",
        _png(figure),
        (series.unit, "shipped", "refunded", "share"),
        [
            (str(row["step"]), money(row["shipped_amount"]), money(row["refunded_amount"]), percent(share))
            for row, share in zip(series.rows, shares, strict=True)
        ],
    )


def _top(noun: str, ranked: Sequence[Ranked], overview: Overview, amount: str) -> Chart:
    figure, axes = _figure("")
    shown = [row for row in ranked if row.id is not None][::-1]
    axes.barh(range(len(shown)), [float(row.net_amount) for row in shown], color=BLUE)
    # Names come from the shop: don't parse formulas.
    axes.set_yticks(range(len(shown)), [_short(row.name) for row in shown], parse_math=False)
    axes.set_xlabel(f"net {amount}", parse_math=False)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.xaxis.set_major_formatter(_thousands())
    axes.xaxis.set_major_locator(_tick_locator())
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    top = sum((row.net_amount for row in shown), Decimal())
    return Chart(
        f"Top {noun}",
        f"Bars of the {len(shown)} {noun} with the highest net amount from {overview.first} to {overview.last}, the "
        f"highest first; together {money(top)} of {money(overview.totals['net_amount'])}.",
        _png(figure),
        (noun, f"net {amount}", "rows"),
        [(row.name, money(row.net_amount), count(row.rows)) for row in ranked],
    )


def _rows(overview: Overview) -> Chart:
    series = overview.rows
    figure, axes = _figure("rows")
    bars = _Bars(series, overview)
    rows = [row["rows"] for row in series.rows]
    rejected = [row["rejected_rows"] for row in series.rows]
    hatched = {"hatch": "////", "edgecolor": "white", "linewidth": 0}
    bars.draw(axes, rows, color=BLUE, label="in the mart")
    bars.draw(axes, rejected, bottom=rows, color=VERMILION, label="rejected", **hatched)
    _time_axis(axes, overview)
    _legend(axes)
    return Chart(
        f"Rows and rejected rows per {series.unit}",
        f"Bars of {overview.first} to {overview.last}: {count(overview.totals['rows'])} rows in the mart, and "
        f"{count(overview.rejected_rows)} rejected rows on top of them.",
        _png(figure),
        (series.unit, "rows", "rejected rows"),
        [(str(row["step"]), count(row["rows"]), count(row["rejected_rows"])) for row in series.rows],
    )


def _figure(label: str) -> "tuple[Figure, Axes]":
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ReportError(
            f"charts need the extra [reports] (pip install '.[reports]'): {error.name} is not installed"
        ) from None
    figure = Figure(figsize=_INCHES, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_ylabel(label, parse_math=False)
    axes.yaxis.set_major_formatter(_thousands())
    axes.set_axisbelow(True)
    axes.grid(visible=True, axis="y")
    for lines in (axes.xaxis, axes.yaxis):
        lines.set_tick_params(grid_color="#DDDDDD", color=GREY)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _time_axis(axes: "Axes", overview: Overview) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=2, maxticks=7)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    first, last = _dates([overview.first, overview.last])
    axes.set_xlim(first - 0.6, last + 1)


class _Bars:
    """Positions of a series' bars: centred on the tick for a day, from the first day on for a longer step."""

    def __init__(self, series: Series, overview: Overview) -> None:
        begins = [row["step"] for row in series.rows]
        ends = [*begins[1:], overview.last + dt.timedelta(days=1)]
        self._align: Literal["center", "edge"] = "center" if series.unit == "day" else "edge"
        self._places = _dates(begins)
        # Steps differ in length, and those at the ends of the period may be cut.
        self._widths = [0.8 * (end - begin).days for begin, end in zip(begins, ends, strict=True)]

    def draw(self, axes: "Axes", heights: Sequence[float], **style: Any) -> None:
        axes.bar(self._places, heights, self._widths, align=self._align, **style)


def _dates(days: Sequence[dt.date]) -> Any:
    from matplotlib.dates import date2num

    return date2num(days)


def _thousands() -> Any:
    from matplotlib.ticker import FuncFormatter

    def formatted(value: float, _position: int | None) -> str:
        return f"{value:,.10g}".replace(",", "\N{NO-BREAK SPACE}").replace("-", "\N{MINUS SIGN}")

    return FuncFormatter(formatted)


def _tick_locator() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=4)


def _legend(axes: "Axes") -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, borderaxespad=0.2)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _png(figure: "Figure") -> bytes:
    from PIL import Image

    canvas: Any = figure.canvas
    canvas.draw()
    pixels = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba(), "raw", "RGBA", 0, 1)
    compressed = io.BytesIO()
    few_colors = pixels.convert("RGB").quantize(_COLORS, dither=Image.Dither.NONE)
    few_colors.save(compressed, format="PNG", optimize=True)
    return compressed.getvalue()
