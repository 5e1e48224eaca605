"""Write the sales overview as one self-contained HTML file: charts inline, figures as tables, no scripts."""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

from sales_assets.fsync import appearing
from sales_assets.reports.charts import Chart, count, money, percent
from sales_assets.reports.figures import Overview, ReportError

_TEMPLATE = "overview.html"


def write_page(target: Path, overview: Overview, charts: Sequence[Chart], currency: str, made_at: dt.datetime) -> None:
    """Write the page; it appears, or replaces an earlier one, when it is complete. Raises `ReportError`."""
    if not target.parent.is_dir():
        raise ReportError(f"{target.parent} is not a folder")
    text = render(overview, charts, currency, made_at)
    with appearing(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def render(overview: Overview, charts: Sequence[Chart], currency: str, made_at: dt.datetime) -> str:
    """Return the page as text. All values are escaped, because names come from the shop."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("sales_assets.reports", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    unit = f" {currency}" if currency else ""
    return environment.get_template(_TEMPLATE).render(
        overview=overview,
        charts=charts,
        made_at=f"{made_at:%Y-%m-%d %H:%M} UTC",
        totals=[
            ("net amount", f"{money(overview.totals['net_amount'])}{unit}"),
            ("refunded", f"{money(overview.totals['refunded_amount'])}{unit}"),
            ("refund share", percent(overview.share)),
            ("rows", count(overview.totals["rows"])),
            ("rejected rows", count(overview.rejected_rows)),
        ],
    )
