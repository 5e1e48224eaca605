"""`sales-assets demo`: run the whole platform on generated data."""

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from sales_assets.cli.console import ProgressBar, out, say_error
from sales_assets.cli.dev import say_where
from sales_assets.cli.load import load_days, print_result

if TYPE_CHECKING:
    from sales_assets.demo.mailings import Mailed
    from sales_assets.demo.services import Followed, Services


def demo(
    once: Annotated[bool, typer.Option("--once", help="Exit when done, and stop everything that was started.")] = False,
    port: Annotated[int, typer.Option(help="Port of the Dagster UI.")] = 3000,
) -> None:
    """Run the whole platform on generated data; nothing else needs to be installed.

    Starts the embedded PostgreSQL and a simulator of the report API, loads a report and all increments through
    Dagster, and prints the result. If RabbitMQ runs at RABBITMQ_URL, it also starts the services with simulators of the
    partner and the sender, places orders, cancels some, shows them in the mart, and sends a mailing to refunded
    customers. Then the Dagster UI and the services run, with the sensors on, until Ctrl-C: new increments and orders
    are loaded, and mailings are sent.
    """
    from sales_assets.demo.platform import platform_running, sales_by_day
    from sales_assets.deploy.instance import prepare_dagster_home
    from sales_assets.deploy.ui import end_on_signals, serve_ui

    end_on_signals()
    with ExitStack() as stack:
        with ProgressBar() as progress:
            first, last = stack.enter_context(platform_running(progress.resource, once=once))
            result = load_days(fresh_report=True, from_day=first, to_day=last, progress=progress.resource)
            days = sales_by_day(first, last)
        print_result(result)
        table = Table("day", "rows", "refunded", "net amount", title="latest days")
        for row in sorted(days, key=lambda row: row["date_id"])[-7:]:
            table.add_row(str(row["date_id"]), str(row["rows"]), str(row["refunded_rows"]), str(row["net_amount"]))
        out.print(table)
        if result.failures:
            raise typer.Exit(1)
        services = _demo_services(stack)
        if once:
            return
        if services:
            out.print(f"services: {services.url}/docs; sent messages: {services.sender_url}/_messages")
        of_services = ("new_order_events", "changed_weeks", "changed_audience", "new_deliveries")
        sensors = ["new_increments", *(of_services if services else ())]
        serve_ui(port, prepare_dagster_home(), sensors=sensors, on_ready=say_where, say=out.print)


def _demo_services(stack: ExitStack) -> "Services | None":
    """Start the services, to be stopped with the stack, and show their work; None without a broker."""
    from sales_assets.demo.mailings import follow_mailing
    from sales_assets.demo.services import PORT, follow_orders, services_running, why_no_broker

    left_out = why_no_broker()
    if left_out is not None:
        out.print(left_out)
        return None
    with ProgressBar() as progress:
        services = stack.enter_context(services_running(progress.resource))
        orders = follow_orders(services, progress.resource)
    _print_orders(orders)
    if not orders.failures:
        with ProgressBar() as progress:
            mailing = follow_mailing(services, orders, progress.resource)
        _print_mailing(mailing)
    failures = orders.failures or mailing.failures
    for failure in failures:
        say_error(failure)
    if failures:
        raise typer.Exit(1)
    if not services.on_wanted_port:
        out.print(f"port {PORT} is taken: the services run at {services.url}")
    return services


def _print_orders(orders: "Followed") -> None:
    table = Table("order", "day", "status", "item", "quantity", "amount", title="partner orders in mart.f_sales")
    for row in orders.lines:
        numbers = (str(row["quantity"]), str(row["amount"]))
        table.add_row(str(row["order_id"]), str(row["date_id"]), row["status"], row["item_name"] or "", *numbers)
    out.print(table)
    out.print(
        f"{len(orders.order_ids)} orders placed, {orders.cancelled} of them cancelled; {orders.mapped} of the "
        f"partner's ids mapped by {orders.mapping_file}"
    )


def _print_mailing(mailing: "Mailed") -> None:
    weeks = Table(
        "week", "new customers", "their revenue", "of returning", "refunded", title="mart.f_customer_retention"
    )
    for row in mailing.weeks:
        weeks.add_row(*(str(value) for value in row.values()))
    out.print(weeks)
    audience, tags = mailing.audience, mailing.tags
    table = Table("", f"mailing {mailing.mailing_id} to the tag refunded", title="mailings")
    table.add_row("clients", str(audience["clients"]))
    table.add_row("linked to a customer", str(audience["linked_by_phone"] + audience["linked_by_api"]))
    table.add_row("not linked", str(audience["unlinked_clients"]))
    table.add_row("tagged new, returning, refunded", f"{tags['new']}, {tags['returning']}, {tags['refunded']}")
    table.add_row("messages", str(sum(mailing.statistics.values())))
    for status, count in mailing.statistics.items():
        table.add_row(status, str(count))
    out.print(table)
    refunds = Table(
        "order", "day", "amount", "customer", "client", "tag", "message", "status", "at the sender",
        title="from a refund in mart.f_sales to its message",
    )  # fmt: skip
    columns = ("order_id", "date_id", "amount", "customer_id", "client_id", "tag", "message_id", "status")
    for row in mailing.refunds:
        cells = ("" if row[column] is None else str(row[column]) for column in columns)
        refunds.add_row(*cells, str(mailing.sent.get(row["message_id"], 0)))
    out.print(refunds)
