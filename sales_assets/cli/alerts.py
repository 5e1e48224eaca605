"""`sales-assets alerts`: test the receivers of ALERT_URLS, and list the open alerts."""

import datetime as dt

import typer
from rich.table import Table

from sales_assets.cli.console import out

app = typer.Typer(help="Test the receivers of ALERT_URLS, and list the open alerts.", no_args_is_help=True)

_SECONDS = 60


class AlertsMissingError(Exception):
    """No alert receivers are configured; the message contains the remedy."""


@app.command("test")
def alerts_test() -> None:
    """Send a test message to each receiver of ALERT_URLS. Exit code 1 if any receiver can't be reached."""
    from sales_assets.resources.alert_receivers import Message, Receivers

    _require_receivers()
    receivers = Receivers()
    message = Message(
        "sales_assets, test: this receiver gets alerts",
        f"Sent by `sales-assets alerts test` on {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC.",
    )
    deliveries = receivers.send({name: [message] for name in receivers.names}, _SECONDS)
    for name, delivery in deliveries.items():
        out.print(f"ok receiver {name}" if delivery.error is None else f"!! receiver {name}: {delivery.error}")
    if any(delivery.error for delivery in deliveries.values()):
        raise typer.Exit(1)


@app.command("list")
def alerts_list() -> None:
    """List the open alerts, and the receivers that could not be reached, as of the sensor's last tick."""
    import dagster as dg

    from sales_assets.defs.automation.alert_state import State
    from sales_assets.defs.automation.alerts import alerts
    from sales_assets.deploy.instance import prepare_dagster_home
    from sales_assets.partitions import days_in, format_days

    _require_receivers()
    prepare_dagster_home()
    with dg.DagsterInstance.get() as instance:
        data = [
            state.instigator_data for state in instance.all_instigator_state() if state.instigator_name == alerts.name
        ]
    # `dagster dev` and `sales-assets dev` name the code location differently, so their sensors have separate states.
    newest = max(data, key=lambda found: getattr(found, "last_tick_timestamp", None) or 0, default=None)
    cursor = getattr(newest, "cursor", None)
    if cursor is None:
        out.print("the sensor alerts has not been evaluated yet: the daemon does it every 30 seconds")
        return
    state = State.model_validate_json(cursor)
    table = Table("since, UTC", "alert", "days", "reason")
    for alert in state.open.values():
        days = format_days(days_in(alert.cause.days))
        table.add_row(f"{alert.since:%Y-%m-%d %H:%M}", alert.cause.title, days, alert.cause.text)
    out.print(table if state.open else "no open alerts")
    for attempts in state.receivers.values():
        if attempts.error:
            out.print(f"!! receiver {attempts.name}, {attempts.failures} attempts: {attempts.error}")


def _require_receivers() -> None:
    from sales_assets.settings import definition_settings

    if not definition_settings().alert_receivers:
        raise AlertsMissingError(
            "ALERT_URLS is not set: there are no alerts. Set it in the environment or .env (docs/guides/alerts.md), "
            "then `sales-assets alerts test`"
        )
