"""The command `sales-assets`: one module per command or group.

Results go to stdout, everything else to stderr. Only this package may import all others; no other package imports it.
Modules import at the top only what `--help` needs; functions import the rest, so that `--help` and `warehouse url`
don't wait for Dagster.
"""

import gc
import sys
from typing import Annotated

import typer

from sales_assets.cli import (
    alerts,
    api,
    backfill,
    backup,
    contract,
    daemon,
    dagster_yaml,
    demo,
    dev,
    doctor,
    env,
    export,
    forget,
    init,
    lake,
    load,
    metrics,
    migrate,
    orders,
    quarantine,
    report,
    simulators,
    suppressions,
    users,
    warehouse,
    why,
)
from sales_assets.cli.console import INTERRUPTED, print_error
from sales_assets.settings import SettingsError

# Importing Dagster creates 250 000 permanent objects; collecting garbage after every 700 (Python's default) takes 0.5
# of 2.1 s. With these thresholds at most 20 MB of garbage remain.
_GC_THRESHOLDS = (50_000, 20, 20)

app = typer.Typer(
    name="sales-assets",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for command in (
    init.init,
    load.load,
    backfill.backfill,
    migrate.migrate,
    why.why,
    export.export,
    backup.backup,
    backup.restore,
    contract.contract,
    report.report,
    forget.forget,
    doctor.doctor,
    env.env,
    demo.demo,
    dev.dev,
    daemon.daemon,
):
    app.command()(command)
app.command("dagster-yaml")(dagster_yaml.dagster_yaml)
app.command("report-api")(simulators.report_api)
app.command()(api.api)
app.command()(metrics.metrics)
app.command("partner-api")(simulators.partner_api)
app.command("sender-api")(simulators.sender_api)
app.add_typer(warehouse.app, name="warehouse")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(orders.app, name="orders")
app.add_typer(users.app, name="users")
app.add_typer(lake.app, name="lake")
app.add_typer(alerts.app, name="alerts")
app.add_typer(suppressions.app, name="suppressions")


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        from importlib.metadata import version

        typer.echo(f"sales-assets {version('sales_assets')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; allowed before or after the command.")
    ] = False,
) -> None:
    """Load a shop's sales reports into a reconciled sales mart.

    To try it: `sales-assets demo`. In production: `init`, `migrate`, then `load --report`, then `dev` for the Dagster
    UI; `doctor` prints the next step. Settings come from the environment or a .env file; .env.example lists them all.
    """
    # `main` reads --debug before parsing, so that it also applies to wrong arguments.


def main() -> None:
    """Run the command. A failure prints one message on stderr; exit code 1, or 2 for wrong settings and usage."""
    debug = "--debug" in sys.argv[1:]
    gc.set_threshold(*_GC_THRESHOLDS)
    try:
        app(args=[argument for argument in sys.argv[1:] if argument != "--debug"])
    except SystemExit:
        raise
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BaseException as error:  # noqa: BLE001  one sentence for every failure
        # Dagster's error for Ctrl-C while an op runs; it isn't an Exception either.
        if type(error).__name__ == "DagsterExecutionInterruptedError":
            sys.exit(INTERRUPTED)
        from sales_assets.failures import details, is_unreachable, sentence

        if debug:
            print(details(error), file=sys.stderr)  # noqa: T201  rich would wrap it
        hint = " (`sales-assets doctor` checks the databases and their settings)" if is_unreachable(error) else ""
        print_error(sentence(error) + hint)
        sys.exit(2 if isinstance(error, SettingsError) else 1)
    finally:
        # Skip Python's garbage collections at exit: with Dagster and pandas they take as long as loading 20 000 rows.
        gc.freeze()
