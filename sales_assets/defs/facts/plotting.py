"""A small plot of days, as text: for the asset's page in the UI and for the terminal.

Does not belong here: what the numbers are (``sql/mart``).
"""

from collections.abc import Mapping, Sequence
from typing import Any

_SHOWN_DAYS = 60


def plot_days(rows: Sequence[Mapping[str, Any]], *, width: int = 100, height: int = 16) -> str:
    """Net amount per day of rows with date_id and net_amount, as a fenced Markdown block."""
    return f"```\n{draw_days(rows, width=width, height=height)}\n```"


def draw_days(rows: Sequence[Mapping[str, Any]], *, width: int, height: int) -> str:
    """The bare plot: bars of the net amount, the latest days if there are many."""
    import plotext  # here and not above: a code location is loaded far more often than a plot is drawn

    latest = sorted(rows, key=lambda row: row["date_id"])[-_SHOWN_DAYS:]
    labels = [f"{row['date_id'] % 10_000:04d}" for row in latest]
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plot_size(width, height)
    plotext.bar(labels, [float(row["net_amount"]) for row in latest])
    plotext.title("net amount per day")
    return str(plotext.uncolorize(plotext.build())).rstrip()
