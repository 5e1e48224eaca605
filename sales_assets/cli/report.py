"""`sales-assets report`: write the charts of a range of days to an HTML file."""

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer

from sales_assets.cli.console import out
from sales_assets.cli.options import day_option


def report(
    path: Annotated[Path, typer.Argument(help="HTML file to write.")],
    from_day: Annotated[
        dt.date | None, day_option("--from", "First day. Default: SALES_OVERVIEW_DAYS before the last.")
    ] = None,
    to_day: Annotated[
        dt.date | None, day_option("--to", "Last day, inclusive. Default: the latest day with sales.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write the sales of a range of days as charts with tables: one HTML file for a browser or a mail.

    The file is self-contained and has no names of customers. It is the page of the asset reports/sales_overview.
    Amounts are exact and as of one moment. For more than 160 days, bars are weeks, then months, then years. Needs
    the extra [reports].

    Example: `sales-assets report --from 2024-09-08 --to 2024-10-02 sales.html`.
    """
    from sales_assets.postgres.warehouse import Warehouse
    from sales_assets.reports.charts import draw
    from sales_assets.reports.figures import ReportError, overview
    from sales_assets.reports.page import write_page
    from sales_assets.settings import settings

    if path.exists() and not force:
        raise ReportError(f"{path} exists: --force replaces it")
    figures = overview(Warehouse(), from_day, to_day, days=settings().sales_overview_days)
    if differences := figures.differences():
        raise ReportError("the charts don't equal the mart: " + "; ".join(differences))
    currency = settings().sales_currency
    charts = draw(figures, currency, settings().sales_home / "matplotlib")
    write_page(path, figures, charts, currency, dt.datetime.now(dt.UTC))
    out.print(f"{path}: {figures.totals['rows']} rows, {figures.first} to {figures.last}")
