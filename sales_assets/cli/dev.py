"""`sales-assets dev`: run the Dagster UI and daemon on the configured platform."""

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from sales_assets.cli.console import ProgressBar, out

if TYPE_CHECKING:
    from sales_assets.deploy.ui import Ui


def dev(port: Annotated[int, typer.Option(help="Port of the Dagster UI.")] = 3000) -> None:
    """Run the Dagster UI and daemon on the configured warehouse and report API, until Ctrl-C.

    If another `dev` or `demo` runs on the same SALES_HOME, only its daemon launches runs.

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
                progress.resource.say("starting PostgreSQL")
                stack.enter_context(embedded_running())
                migrations.migrate(warehouse_url())
            home = prepare_dagster_home()
        serve_ui(port, home, on_ready=say_where)


def say_where(ui: "Ui") -> None:
    """Print the URL of the UI, and whether another command's daemon is used."""
    out.print(f"Dagster UI: {ui.url}  (Ctrl-C ends it)")
    if not ui.has_daemon:
        out.print("another `sales-assets dev` or `demo` runs on this SALES_HOME: runs are launched by its daemon")
