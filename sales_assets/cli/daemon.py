"""`sales-assets daemon`: run Dagster's daemon, or stand by."""

from pathlib import Path
from typing import Annotated

import typer

from sales_assets.cli.console import out


def daemon(
    workspace: Annotated[
        Path | None,
        typer.Option(
            "--workspace",
            "-w",
            exists=True,
            dir_okay=False,
            help="Dagster's workspace file with the code servers. Default: load the code in a child process.",
        ),
    ] = None,
) -> None:
    """Run Dagster's daemon without a UI until Ctrl-C or SIGTERM: for systemd, containers and a second machine.

    Only one daemon per storage is active; others stand by, and take over within 30 s if it ends or loses its database
    connection.
    """
    from sales_assets.deploy.daemon import run_daemon
    from sales_assets.deploy.instance import prepare_dagster_home
    from sales_assets.deploy.ui import CODE, LOCATION, end_on_signals, write_workspace

    end_on_signals()
    home = prepare_dagster_home()
    if workspace is None:
        workspace = home / "daemon-workspace.yaml"
        write_workspace(workspace, {"python_module": {"module_name": CODE, "location_name": LOCATION}})
    run_daemon(workspace.absolute(), out.print)
