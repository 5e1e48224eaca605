"""`sales-assets env`: print the environment that Dagster's commands need."""

import re
from enum import StrEnum
from typing import Annotated

import typer

# Values that need no quotes in any reader of the file: python-dotenv, a shell, systemd and `docker --env-file`.
_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=-]*")


class EnvFormat(StrEnum):
    """Output format of `sales-assets env`."""

    SHELL = "shell"
    DOTENV = "dotenv"


def env(
    output: Annotated[
        EnvFormat,
        typer.Option("--format", help="shell: export lines for `eval`; dotenv: lines for .env."),
    ] = EnvFormat.SHELL,
) -> None:
    """Print the environment that Dagster's commands need: `eval "$(sales-assets env)"`.

    Then `dagster`, `dg` and `dagster-webserver` use the same instance as `sales-assets load` and `dev`: the read-only
    UI shows their runs, and runs of `dagster asset materialize` or `dg launch` appear in `dev`. Prints no secrets:
    DAGSTER_HOME/dagster.yaml refers to the settings. DAGSTER_HOME is kept if it is set already.
    """
    import shlex

    from sales_assets.cli.console import err
    from sales_assets.deploy.instance import dagster_environment, dagster_home, read_configuration, sales_home_of
    from sales_assets.deploy.storage import require_sales_home
    from sales_assets.settings import SettingsError

    environment = dagster_environment()
    try:
        require_sales_home(sales_home_of(read_configuration(dagster_home())))
    except SettingsError as error:
        err.print(f"warning: {error}", style="yellow")
    for name, value in environment.items():
        if output is EnvFormat.SHELL:
            print(f"export {name}={shlex.quote(value)}")  # noqa: T201  rich would wrap it
        elif name != "SALES_ENV_FILE":  # the output is written to that file
            print(f"{name}={quoted(value)}")  # noqa: T201


def quoted(value: str) -> str:
    """Quote a value for a .env file, if it needs quotes."""
    if _PLAIN.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
