"""`sales-assets demo`: run the whole platform on generated data."""

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from sales_assets.cli.console import ProgressBar, out, print_error
from sales_assets.cli.dev import print_url
from sales_assets.cli.load import load_days, print_result

if TYPE_CHECKING:
    from sales_assets.demo.mailings import Mailed
    from sales_assets.demo.services import Followed, Services


class _DemoOutput:
    """The steps of the demo in order, each with a line on stdout and a page of the UI."""

    def __init__(self) -> None:
        self._steps: list[tuple[str, str]] = []

    def print_step(self, text: str, *, page: str = "", about: str = "") -> None:
        """Print the next step. `page` is the path of its page in the UI, `about` a description of the page."""
        self._steps.append((page, about))
        out.print(f"\n{len(self._steps)}. {text}")

    def print_url(self, url: str) -> None:
        """Print the pages of the steps, then the URL of the UI."""
        out.print("\nIn the UI:")
        for number, (page, about) in enumerate(self._steps, start=1):
            if page:
                out.print(f"  {number}. {about}: {url}{page}")
        print_url(url)


def demo(
    once: Annotated[bool, typer.Option("--once", help="Exit when done, and stop everything that was started.")] = False,
    port: Annotated[int, typer.Option(help="Port of the Dagster UI.")] = 3000,
) -> None:
    """Run the whole platform on generated data; nothing else needs to be installed.

    Starts the embedded PostgreSQL and a simulator of the report API, loads a report and all increments through Dagster,
    draws charts of the sales, and prints each step with its result. If RabbitMQ runs at RABBITMQ_URL, it also starts
    the services with simulators of the partner and the sender, places orders, cancels some, shows them in the mart, and
    sends a mailing to refunded customers. Then the Dagster UI and the services run, with the sensors on, until Ctrl-C:
    new increments and orders are loaded, and mailings are sent. The last lines link to the result of each step.
    """
    from sales_assets.demo.platform import platform_running, sales_by_day
    from sales_assets.deploy.instance import prepare_dagster_home
    from sales_assets.deploy.ui import end_on_signals, serve_ui
    from sales_assets.settings import settings

    end_on_signals()
    story = _DemoOutput()
    with ExitStack() as stack:
        with ProgressBar() as progress:
            first, last = stack.enter_context(platform_running(progress.resource, once=once))
            home = settings().sales_home
            story.print_step(f"PostgreSQL and a simulated report API are running, with generated data in {home}.")
            result = load_days(fresh_report=True, from_day=first, to_day=last, progress=progress.resource)
            days = sales_by_day(first, last)
        increments = (last - first).days + 1 - result.not_found
        story.print_step(
            f"Dagster has loaded a report, and the increments of {increments} days, into mart.f_sales.",
            page="/assets/mart/f_sales",
            about="the days and their plots",
        )
        print_result(result)
        table = Table("day", "rows", "refunded", "net amount", title="latest days")
        for row in sorted(days, key=lambda row: row["date_id"])[-7:]:
            table.add_row(str(row["date_id"]), str(row["rows"]), str(row["refunded_rows"]), str(row["net_amount"]))
        out.print(table)
        if result.failures:
            raise typer.Exit(1)
        has_charts = _draw_charts(story)
        services = _demo_services(stack, story)
        if once:
            return
        of_services = ("new_order_events", "changed_weeks", "changed_audience", "new_deliveries")
        sensors = ["new_increments", *(of_services if services else ()), *(("refresh_reports",) if has_charts else ())]
        if services:
            out.print(
                f"data stewards: {services.url}/admin, user {services.admin_user}, password {services.admin_password}"
            )
        story.print_step(
            "The sensors are switched on: new increments are loaded as they arrive"
            + (f", and so are orders. Try {services.url}/docs; sent messages: {services.sender_url}/_messages"
               if services else "."),
            page="/automation",
            about="the sensors and their run requests",
        )  # fmt: skip
        serve_ui(port, prepare_dagster_home(), sensors=sensors, on_ready=story.print_url, notify=out.print)


def _draw_charts(story: _DemoOutput) -> bool:
    """Draw the charts of the sales; return whether the extra [reports] is installed."""
    from sales_assets.demo.report import draw_charts
    from sales_assets.settings import settings

    with ProgressBar() as progress:
        failures = draw_charts(progress.resource)
    if failures is None:
        story.print_step("Charts are skipped: they need the extra [reports], `pip install '.[reports]'`.")
        return False
    _exit_for(failures)
    file = settings().overview_location
    story.print_step(f"Charts of the sales are in {file}.", page="/assets/reports/sales_overview", about="the charts")
    return True


def _exit_for(failures: list[str]) -> None:
    """Print the failures, and exit with code 1 if there are any."""
    for failure in failures:
        print_error(failure)
    if failures:
        raise typer.Exit(1)


def _demo_services(stack: ExitStack, story: _DemoOutput) -> "Services | None":
    """Start the services until `stack` is closed, and show their results; return None without a broker."""
    from sales_assets.demo.mailings import follow_mailing
    from sales_assets.demo.services import PORT, follow_orders, services_running, why_no_broker

    left_out = why_no_broker()
    if left_out is not None:
        story.print_step(left_out)
        return None
    with ProgressBar() as progress:
        services = stack.enter_context(services_running(progress.resource))
        orders = follow_orders(services, progress.resource)
    story.print_step(
        "Orders were sent to the partner, and some cancelled; their lines are sales and refunds of the mart.",
        page="/assets/mart/f_sales_partner_orders",
        about="the days of the orders",
    )
    _print_orders(orders)
    _exit_for(orders.failures)
    with ProgressBar() as progress:
        mailing = follow_mailing(services, orders, progress.resource)
    story.print_step(
        "The customers of each week are counted, and those with a refund were sent a message.",
        page="/assets/mart/f_mailing_deliveries",
        about="the deliveries and their upstream assets",
    )
    _print_mailing(mailing)
    _exit_for(mailing.failures)
    if not services.is_requested_port:
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
