"""`sales-assets dev`: run the Dagster UI and daemon on the configured platform."""

from contextlib import ExitStack
from typing import Annotated

import typer

from sales_assets.cli.console import ProgressBar, out


def dev(port: Annotated[int, typer.Option(help="Port of the Dagster UI.")] = 3000) -> None:
    """Run the Dagster UI and daemon on the configured warehouse and report API, until Ctrl-C.

    Only one daemon per storage is active: that of a second `dev` or `demo` stands by, and takes over if the first one
    ends.

    Switch schedules and sensors on in the UI, under Automation.
    """
    from sales_assets.deploy.instance import prepare_dagster_home
    from sales_assets.deploy.ui import end_on_signals, serve_ui
    from sales_assets.postgres import migrations
    from sales_assets.postgres.database import embedded_running, warehouse_url
    from sales_assets.settings import settings

    end_on_signals()
    with ExitStack() as stack:
        with ProgressBar() as progress:
            if settings().warehouse_url is None:
                progress.resource.notify("starting PostgreSQL")
                stack.enter_context(embedded_running())
                migrations.migrate(warehouse_url())
            home = prepare_dagster_home()
        serve_ui(port, home, on_ready=print_url, notify=out.print)


def print_url(url: str) -> None:
    """Print the URL of the UI."""
    out.print(f"Dagster UI: {url}  (Ctrl-C stops it)")
