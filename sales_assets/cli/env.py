"""`sales-assets env`: the environment in which Dagster's own commands find this platform."""

from enum import StrEnum
from typing import Annotated

import typer


class EnvFormat(StrEnum):
    """How `sales-assets env` writes variables."""

    SHELL = "shell"
    DOTENV = "dotenv"


def env(
    output: Annotated[
        EnvFormat,
        typer.Option("--format", help="shell: export lines for `eval`; dotenv: lines for .env."),
    ] = EnvFormat.SHELL,
) -> None:
    """Print the environment in which Dagster's own commands find this platform: `eval "$(sales-assets env)"`.

    After it `dagster`, `dg` and `dagster-webserver` work on the same instance as `sales-assets load` and `dev`: the
    read-only UI shows their runs, and runs started by `dagster asset materialize` or `dg launch` appear in `dev`.
    Prints no secrets: DAGSTER_HOME/dagster.yaml leads to the settings. A DAGSTER_HOME that you set stays.
    """
    import shlex

    from sales_assets.deploy.instance import dagster_environment

    for name, value in dagster_environment().items():
        if output is EnvFormat.SHELL:
            print(f"export {name}={shlex.quote(value)}")  # noqa: T201  rich would wrap it
        elif name != "SALES_ENV_FILE":  # the lines are for that file
            quoted = value.replace("\\", "\\\\").replace("'", "\\'")
            print(f"{name}='{quoted}'")  # noqa: T201
