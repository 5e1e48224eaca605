"""The command `sales-assets`: arguments, help and printing.

Belongs here: what a person types and reads. Results go to stdout, everything else to stderr.
Does not belong here: doing it (`sales_assets.commands`). Imports of the doing stand inside the commands: `--help`
and `warehouse url` must not wait for Dagster.
"""

import datetime as dt
import gc
import json
import sys
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from sales_assets.settings import SettingsError

if TYPE_CHECKING:
    from sales_assets.deploy.ui import Ui

app = typer.Typer(
    name="sales-assets",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
warehouse_app = typer.Typer(help="The warehouse's address, and the embedded server's life.", no_args_is_help=True)
quarantine_app = typer.Typer(
    help="""Bad lines: see them, settle them, take them back.

    A line that breaks a rule never reaches the mart. It waits here with its file, line number and reason. Correct it
    (`replay ID --line ...`) or decide against it (`replay ID --discard`): the line goes back to the fetch it came
    from, and its day is made anew.""",
    no_args_is_help=True,
)
app.add_typer(warehouse_app, name="warehouse")
app.add_typer(quarantine_app, name="quarantine")
orders_app = typer.Typer(help="Partner orders: what the partner's ids are called here.", no_args_is_help=True)
app.add_typer(orders_app, name="orders")


def _console(*, stderr: bool) -> Console:
    return Console(
        stderr=stderr,
        soft_wrap=True,
        # Where the output is no terminal it is read by programs: lines are not cut to 80 columns.
        width=None if (sys.stderr if stderr else sys.stdout).isatty() else 240,
        # File names, reasons and bad lines come from outside: brackets in them are no markup, colons no emoji.
        markup=False,
        emoji=False,
        highlight=False,
    )


out = _console(stderr=False)
err = _console(stderr=True)

_INTERRUPTED = 130  # 128 and the number of SIGINT, as shells count


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; may stand before or after the command.")
    ] = False,
) -> None:
    """Turn a shop's sales reports into a sales mart that people trust.

    A first look: `sales-assets demo`. At work: `migrate`, then `load --report`, then `dev` for the Dagster UI.
    Settings come from the environment or a .env file; .env.example lists them all.
    """
    # `main` has looked for it already: the arguments of a command may be what goes wrong.


def main() -> None:
    """Run the command; a failure is one message on stderr and exit code 1 (2 for wrong settings and usage)."""
    debug = "--debug" in sys.argv[1:]
    try:
        app(args=[argument for argument in sys.argv[1:] if argument != "--debug"])
    except SystemExit:
        raise
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except BaseException as error:  # noqa: BLE001  one sentence for every failure
        # Dagster's own name for Ctrl-C while an op runs; it is no Exception either.
        if type(error).__name__ == "DagsterExecutionInterruptedError":
            sys.exit(_INTERRUPTED)
        from sales_assets.failures import details, sentence

        if debug:
            print(details(error), file=sys.stderr)  # noqa: T201  rich would wrap it
        _fail(sentence(error), 2 if isinstance(error, SettingsError) else 1)
    finally:
        # The process ends, and everything with it. Python would look through all of Dagster and pandas for cycles of
        # garbage first, several times: as long as a load of 20 000 lines takes.
        gc.freeze()


def _fail(text: str, code: int) -> None:
    _say_error(text)
    sys.exit(code)


def _say_error(text: str) -> None:
    err.print(f"error: {text}", style="bold red")


# --- loading ----------------------------------------------------------------------------------------------


@app.command()
def load(
    report: Annotated[bool, typer.Option("--report", help="Have a fresh report made first.")] = False,
    from_day: Annotated[
        dt.date | None,
        typer.Option(
            "--from",
            parser=dt.date.fromisoformat,
            metavar="YYYY-MM-DD",
            help="First day. Default: where the newest report begins.",
        ),
    ] = None,
    to_day: Annotated[
        dt.date | None,
        typer.Option(
            "--to",
            parser=dt.date.fromisoformat,
            metavar="YYYY-MM-DD",
            help="Last day, inclusive. Default: yesterday.",
        ),
    ] = None,
) -> None:
    """Load a range of days into mart.f_sales, through Dagster, in this process.

    Asks the report API anew for the increment of every day of the range. With --report a fresh report is made, and
    fills its days inside the range; without, one is made only when no usable one is kept. The exit code is 0 only
    when every asked day is done: delivered and loaded, or NOT FOUND. Lines in quarantine don't change it.

    Examples: `sales-assets load --report --from 2024-09-08 --to 2024-10-02`; `sales-assets load --from 2024-10-02`.
    """
    from sales_assets.commands.load import load as load_days

    with _Bar() as progress:
        result = load_days(fresh_report=report, from_day=from_day, to_day=to_day, progress=progress.resource)
    _print_load(result)
    for failure in result.failures:
        _say_error(failure)
    if result.failures:
        raise typer.Exit(1)


def _print_load(result: Any) -> None:
    table = Table("", f"{result.first_day} to {result.last_day}", title="mart.f_sales")
    table.add_row("days asked", str(result.days))
    table.add_row("of them without increment", str(result.not_found))
    table.add_row("days with rows", str(result.days_with_rows))
    table.add_row("rows", f"{result.rows} ({result.refunded_rows} refunded)")
    table.add_row("net quantity", str(result.net_quantity))
    table.add_row("net amount", str(result.net_amount))
    table.add_row("lines in quarantine", str(result.open_quarantine))
    if result.outside_period or result.before_first_day:
        table.add_row("lines outside their fetch's period", str(result.outside_period))
        table.add_row("lines before SALES_FIRST_DAY", str(result.before_first_day))
    out.print(table)


class _Bar:
    """A progress bar on stderr, as the `Progress` resource that the ops are given."""

    def __enter__(self) -> "_Bar":
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        from sales_assets.pipeline.progress import Progress

        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        bars = Bars(*columns, TimeElapsedColumn(), console=err, transient=True)
        task = bars.add_task("starting", total=None)

        class Terminal(Progress):
            def say(self, text: str) -> None:
                bars.update(task, description=text)
                if not err.is_terminal:
                    err.print(text)

            def days_ahead(self, number: int) -> None:
                bars.update(task, total=number, completed=0)

            def days_done(self, number: int) -> None:
                bars.advance(task, number)

        self.resource = Terminal()
        self._bars = bars
        bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()


@app.command()
def migrate(
    to: Annotated[str, typer.Option(help="Revision to go to, up or down; `base` undoes all.")] = "head",
    revisions: Annotated[bool, typer.Option("--list", help="List the revisions and change nothing.")] = False,
) -> None:
    """Bring the warehouse's schema up to date, or to a revision, all or nothing.

    An existing mart.f_sales is upgraded in place. Doing it twice does nothing. `migrate --to 0003` takes the mart's
    new columns back; refunds stay, negative.
    """
    from sales_assets.database import warehouse_url
    from sales_assets.postgres import migrations

    if revisions:
        for revision, what in migrations.revisions():
            out.print(f"{revision}  {what}")
        return
    before, after = migrations.migrate(warehouse_url(), to)
    if before == after:
        out.print(f"the warehouse is at revision {after or 'base'} already")
    else:
        out.print(f"the warehouse went from revision {before or 'base'} to {after or 'base'}")


# --- looking ----------------------------------------------------------------------------------------------


@app.command()
def why(day: Annotated[dt.date, typer.Argument(parser=dt.date.fromisoformat, metavar="YYYY-MM-DD")]) -> None:
    """Say why the numbers of a day are as they are.

    Shows the rows of the mart, the fetch they were taken from, the other kept fetches with the reason why they were
    not chosen and how often each was delivered, repeats and bad lines. `mart.f_sales_lines` has file and line number
    of every single row.
    """
    from sales_assets.commands.why import explain
    from sales_assets.postgres.warehouse import Warehouse

    told = explain(Warehouse(), day)
    mart = Table("source", "status", "rows", "quantity", "amount", title=f"mart.f_sales on {day}")
    for row in told.mart:
        mart.add_row(row["source"], row["status"], str(row["rows"]), str(row["quantity"]), str(row["amount"]))
    out.print(mart if told.mart else f"mart.f_sales has no row on {day}")
    fetches = Table(
        "fetch",
        "kind",
        "statuses",
        "kept",
        "repeats",
        "bad",
        "why",
        "delivered",
        "file",
        title="kept fetches, best first",
    )
    for row in told.candidates:
        fetches.add_row(
            str(row["fetch_id"]),
            row["kind"],
            "yes" if row["has_status"] else "no",
            str(row["kept"]),
            str(row["repeats"]),
            str(row["bad"]),
            row["told"],
            "once" if row["times"] == 1 else f"{row['times']} times, last {row['last_at']:%Y-%m-%d %H:%M:%S}",
            row["path"],
        )
    out.print(fetches if told.candidates else "no kept fetch covers the day")
    if told.staged:
        out.print(
            f"staged from fetch {told.staged['fetch_id']}: {told.staged['rows']} rows at "
            f"{told.staged['staged_at']:%Y-%m-%d %H:%M:%S} by run {told.staged['run_id']}"
        )
    answers = Table(
        "asked at", "answer", "order file", "reason", title="what the report API answered for the increment"
    )
    for row in told.deliveries:
        contents = "" if row["fetch_id"] is None else f"fetch {row['fetch_id']}"
        if row["number"] != row["fetch_id"]:
            contents = f"same contents as {contents}"
        answers.add_row(f"{row['asked_at']:%Y-%m-%d %H:%M:%S}", row["outcome"], contents, row["reason"] or "")
    out.print(answers if told.deliveries else "the increment of the day was never asked for")
    bad = Table("id", "fetch", "line", "state", "reason", title="lines in quarantine")
    for row in told.bad_lines:
        state = _state_of(row)
        bad.add_row(str(row["quarantine_id"]), str(row["fetch_id"]), str(row["line_no"]), state, row["reason"])
    if told.bad_lines:
        out.print(bad)


def _state_of(row: dict[str, Any]) -> str:
    """The state of a rejected row, with the row that it has its resolution from."""
    return f"{row['state']}, inherited from {row['inherited_from']}" if row["inherited_from"] else str(row["state"])


@app.command()
def doctor() -> None:
    """Look at what is configured, what can be reached and what is behind. Exit code 1 if something needs a hand."""
    from sales_assets.commands.doctor import examine

    ill = False
    for finding in examine():
        mark = {True: "[green]ok [/]", False: "[red]!! [/]", None: "   "}[finding.good]
        out.print(mark, end="", markup=True)
        out.print(f"{finding.subject}: {finding.text}")
        ill = ill or finding.good is False
    if ill:
        raise typer.Exit(1)


# --- quarantine -------------------------------------------------------------------------------------------


@quarantine_app.command("list")
def quarantine_list(
    day: Annotated[
        dt.date | None,
        typer.Option(
            parser=dt.date.fromisoformat, metavar="YYYY-MM-DD", help="Only lines of this day, and of files for it."
        ),
    ] = None,
    all_states: Annotated[bool, typer.Option("--all", help="Settled lines too.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON lines, to be corrected in a file and replayed with --file.")
    ] = False,
    limit: Annotated[int, typer.Option(help="At most so many lines.", min=1)] = 1000,
) -> None:
    """List bad lines with file, line number and reason."""
    from sales_assets.commands.quarantine import list_lines
    from sales_assets.postgres.warehouse import Warehouse

    rows = list_lines(Warehouse(), day=day, all_states=all_states, limit=limit)
    if as_json:
        for row in rows:
            print(json.dumps(row, ensure_ascii=False, default=str))  # noqa: T201  rich would wrap the lines
        return
    table = Table("id", "state", "day", "file", "line", "reason", "text")
    for row in rows:
        table.add_row(
            str(row["quarantine_id"]),
            _state_of(row),
            str(row["date_id"] or "?"),
            row["path"],
            str(row["line_no"]),
            row["reason"],
            row["line_text"][:80],
        )
    out.print(table if rows else "the quarantine is empty")


@quarantine_app.command("show")
def quarantine_show(
    ids: Annotated[list[int], typer.Argument(help="Numbers from `quarantine list`.")],
) -> None:
    """Show all that is known of some lines: fetch, file, line number, text, reason, what became of them."""
    from sales_assets.commands.quarantine import show_lines
    from sales_assets.postgres.warehouse import Warehouse

    for row in show_lines(Warehouse(), ids):
        for name, value in row.items():
            out.print(f"{name:>15}  {'' if value is None else value}")
        out.print()


@quarantine_app.command("replay")
def quarantine_replay(
    ids: Annotated[list[int] | None, typer.Argument(help="Numbers from `quarantine list`.")] = None,
    line: Annotated[str | None, typer.Option(help="The corrected line, for a single number.")] = None,
    discard: Annotated[bool, typer.Option("--discard", help="Leave the lines out for good.")] = False,
    file: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Corrected lines, as `quarantine list --json` wrote them."),
    ] = None,
) -> None:
    """Settle bad lines and make their days anew from the kept fetches; the report API is not asked.

    A corrected line takes the place of the bad one: `replay 17 --line '1,ab12...,2024-10-02T00:00:00,...'`. Of two
    lines that contradict each other one can be left out: `replay 18 --discard`; the other is then good. Numbers alone
    read the lines once more as they are, after an upgrade that forgives more. Resolutions last: the same contents
    delivered again keep them, and the very same row of other contents inherits them.
    """
    from sales_assets.commands.quarantine import corrections_in, replay
    from sales_assets.postgres.warehouse import Warehouse

    numbers = ids or []
    if (file is None) == (not numbers):
        raise typer.BadParameter("give numbers, or --file")
    if file is not None and discard:
        raise typer.BadParameter("--discard goes with numbers")
    if line is not None and (len(numbers) != 1 or discard):
        raise typer.BadParameter("--line goes with a single number, and not with --discard")
    if file is not None:
        corrections = corrections_in(file)
    else:
        corrections = {numbers[0]: line} if line is not None else {}
    done = replay(
        Warehouse(),
        corrections=corrections,
        discarded=numbers if discard else [],
        as_they_are=[] if discard else [number for number in numbers if number not in corrections],
    )
    still_open = [row for row in done.lines if row["state"] == "open"]
    for row in done.lines:
        text = f"{row['quarantine_id']}: {row['state']}" + (f" ({row['reason']})" if row in still_open else "")
        out.print(text)
    if done.also:
        out.print(f"the same rows of other contents follow: {', '.join(map(str, done.also))}")
    for failure in done.failures:
        _say_error(failure)
    if still_open or done.failures:
        raise typer.Exit(1)


# --- warehouse --------------------------------------------------------------------------------------------


@warehouse_app.command("url")
def warehouse_url_command() -> None:
    """Print a libpq URL of the database that holds mart, for `psql "$(sales-assets warehouse url)"`.

    Starts the embedded server where none runs; it lives on until `sales-assets warehouse stop`.
    """
    from sales_assets.database import warehouse_url

    print(warehouse_url())  # noqa: T201  rich would wrap it


@warehouse_app.command("stop")
def warehouse_stop() -> None:
    """Stop the embedded server. A server of WAREHOUSE_URL is left alone."""
    from sales_assets.database import embedded

    server = embedded()
    if not server.is_running():
        out.print("no embedded server is running")
        return
    server.stop()
    out.print("the embedded server is stopped")


# --- Dagster's own commands ---------------------------------------------------------------------------------


class EnvFormat(StrEnum):
    """How `sales-assets env` writes variables."""

    SHELL = "shell"
    DOTENV = "dotenv"


@app.command()
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


# --- long-running -----------------------------------------------------------------------------------------


@app.command()
def demo(
    once: Annotated[
        bool, typer.Option("--once", help="End once all was shown, and stop all that was started.")
    ] = False,
    port: Annotated[int, typer.Option(help="Port of the Dagster UI.")] = 3000,
) -> None:
    """Show the whole platform on generated data, with nothing else installed.

    Starts the embedded PostgreSQL and a simulator of the report API, loads a report and all increments through
    Dagster, and shows what was loaded. Where RabbitMQ answers at RABBITMQ_URL it also starts the services with
    simulators of the partner and the sender, places orders and cancels some, shows them in the mart, and sends a
    mailing to the customers that got money back. Then the Dagster UI and the services run with the sensors on: new
    increments appear while one watches, orders as one places them, and mailings are sent. Ctrl-C ends it all.
    """
    from sales_assets.commands.load import load as load_days
    from sales_assets.defs.facts.plotting import draw_days
    from sales_assets.demo.platform import platform_running, sales_by_day
    from sales_assets.deploy.instance import prepare_dagster_home
    from sales_assets.deploy.ui import end_on_signals, serve_ui

    end_on_signals()
    with ExitStack() as stack:
        with _Bar() as progress:
            first, last = stack.enter_context(platform_running(progress.resource, once=once))
            result = load_days(fresh_report=True, from_day=first, to_day=last, progress=progress.resource)
            days = sales_by_day(first, last)
        _print_load(result)
        table = Table("day", "rows", "refunded", "net amount", title="the last days")
        for row in sorted(days, key=lambda row: row["date_id"])[-7:]:
            table.add_row(str(row["date_id"]), str(row["rows"]), str(row["refunded_rows"]), str(row["net_amount"]))
        out.print(table)
        out.print(draw_days(days, width=100, height=16))
        if result.failures:
            raise typer.Exit(1)
        services = _demo_services(stack)
        if once:
            return
        if services:
            out.print(f"services: {services.url}/docs; what was sent: {services.sender_url}/_messages")
        of_services = ("new_order_events", "changed_weeks", "changed_audience", "new_deliveries")
        sensors = ["new_increments", *(of_services if services else ())]
        serve_ui(port, prepare_dagster_home(), sensors=sensors, on_ready=_say_where)


def _demo_services(stack: ExitStack) -> Any:
    """Start the services until the stack is closed, and show what they do; they, or None without a broker."""
    from sales_assets.demo.mailings import follow_mailing
    from sales_assets.demo.services import PORT, follow_orders, services_running, why_no_broker

    left_out = why_no_broker()
    if left_out is not None:
        out.print(left_out)
        return None
    with _Bar() as progress:
        services = stack.enter_context(services_running(progress.resource))
        orders = follow_orders(services, progress.resource)
    _print_orders(orders)
    if not orders.failures:
        with _Bar() as progress:
            mailing = follow_mailing(services, orders, progress.resource)
        _print_mailing(mailing)
    failures = orders.failures or mailing.failures
    for failure in failures:
        _say_error(failure)
    if failures:
        raise typer.Exit(1)
    if not services.on_wanted_port:
        out.print(f"port {PORT} is taken: the services answer at {services.url}")
    return services


def _print_orders(orders: Any) -> None:
    table = Table("order", "day", "status", "item", "quantity", "amount", title="partner orders in mart.f_sales")
    for row in orders.lines:
        numbers = (str(row["quantity"]), str(row["amount"]))
        table.add_row(str(row["order_id"]), str(row["date_id"]), row["status"], row["item_name"] or "", *numbers)
    out.print(table)
    out.print(
        f"{len(orders.order_ids)} orders placed, {orders.cancelled} of them cancelled; {orders.mapped} of the "
        f"partner's ids mapped by {orders.mapping_file}"
    )


def _print_mailing(mailing: Any) -> None:
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
        told = ("" if row[column] is None else str(row[column]) for column in columns)
        refunds.add_row(*told, str(mailing.sent.get(row["message_id"], 0)))
    out.print(refunds)


@app.command()
def dev(port: Annotated[int, typer.Option(help="Port of the Dagster UI.")] = 3000) -> None:
    """Run the Dagster UI and daemon on the configured warehouse and report API, until Ctrl-C.

    Where another `dev` or `demo` runs on the same SALES_HOME, its daemon does the work, and this shows its UI.

    Schedules and the sensor are switched on in the UI, under Automation.
    """
    from sales_assets.database import embedded_running, warehouse_url
    from sales_assets.deploy.instance import prepare_dagster_home
    from sales_assets.deploy.ui import end_on_signals, serve_ui
    from sales_assets.postgres import migrations
    from sales_assets.settings import settings

    end_on_signals()
    with ExitStack() as stack:
        with _Bar() as progress:
            if settings().warehouse_url is None:
                progress.resource.say("starting PostgreSQL")
                stack.enter_context(embedded_running())
                migrations.migrate(warehouse_url())
            home = prepare_dagster_home()
        serve_ui(port, home, on_ready=_say_where)


def _say_where(ui: "Ui") -> None:
    out.print(f"Dagster UI: {ui.url}  (Ctrl-C ends it)")
    if not ui.has_daemon:
        out.print(
            "the daemon of another `sales-assets dev` or `demo` on this SALES_HOME does the work; this one shows it"
        )


@app.command("report-api")
def report_api(
    data: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Serve this folder: main/*.csv and inc/YYYY-MM-DD/*_inc.csv, any file missing, any number of days.",
        ),
    ] = None,
    generated: Annotated[bool, typer.Option("--generated", help="Serve made-up data, as of today.")] = False,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 8080,
    report_seconds: Annotated[float, typer.Option(help="How long a report is RUNNING.", min=0)] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the generated data.", min=0)] = 0,
    lines_per_day: Annotated[int, typer.Option(help="Generated order lines per day.", min=0)] = 1000,
    news_every: Annotated[
        float | None, typer.Option(help="Seconds between new generated increments; default: all at once.")
    ] = None,
    slow: Annotated[float, typer.Option(help="Fault: seconds before every answer.", min=0)] = 0,
    trickle: Annotated[float, typer.Option(help="Fault: seconds between the pieces of a file.", min=0)] = 0,
    bad_gateway: Annotated[float, typer.Option(help="Fault: share of answers that are a 502.", min=0, max=1)] = 0,
    html: Annotated[float, typer.Option(help="Fault: share of answers that are HTML.", min=0, max=1)] = 0,
    cut: Annotated[float, typer.Option(help="Fault: share of downloads that break off.", min=0, max=1)] = 0,
    wrong_length: Annotated[int, typer.Option(help="Fault: bytes that Content-Length is off by.")] = 0,
    lost_file: Annotated[
        str | None, typer.Option(help="Fault: a listed file that is a 404, such as price_log_inc.")
    ] = None,
    never_ready: Annotated[bool, typer.Option("--never-ready", help="Fault: reports are RUNNING for ever.")] = False,
    expired_links: Annotated[int, typer.Option(help="Fault: links handed out expired so many times.", min=0)] = 0,
) -> None:
    """Run a simulator of the report API, over a folder of files or over generated data, until Ctrl-C.

    Speaks the real service's wire format. Callers send REPORT_API_KEY; where it is not set, any key will do.
    """
    from tempfile import TemporaryDirectory

    from sales_assets.deploy.ui import end_on_signals
    from sales_assets.services.server import serve
    from sales_assets.settings import settings
    from sales_assets.simulators.report_api.app import ReportApi
    from sales_assets.simulators.report_api.faults import Faults

    if (data is None) is not generated:
        raise typer.BadParameter("give --data DIR or --generated")
    faults = Faults(
        seed=seed,
        slow=slow,
        trickle=trickle,
        bad_gateway=bad_gateway,
        html=html,
        cut=cut,
        wrong_length=wrong_length,
        lost_file=lost_file,
        never_ready=never_ready,
        expired_links=expired_links,
    )
    end_on_signals()  # the server minds INT and TERM; HUP would leave the generated files behind
    with ExitStack() as stack:
        if data is None:
            from sales_assets.simulators.report_api.generate import Shop
            from sales_assets.simulators.report_api.live import live

            data = Path(stack.enter_context(TemporaryDirectory(dir=_generated_home())))
            stack.enter_context(live(data, Shop(seed=seed, lines_per_day=lines_per_day), every=news_every))
        key = settings().report_api_key.get_secret_value()
        api = ReportApi(data, api_key=key, report_seconds=report_seconds, faults=faults)
        serve(api, port=port, on_ready=lambda url: out.print(f"report API: {url}"))


@app.command()
def api(
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    part: Annotated[
        list[str] | None,
        typer.Option(help="Run only this part: http, relay, consumer or reconciler. May be given again. Default: all."),
    ] = None,
) -> None:
    """Serve partner orders and mailings (/docs, /admin, /health, /ready, /metrics) on port 8000, until Ctrl-C.

    One process does it all: answers requests, takes events to RabbitMQ (relay) and from there to staging (consumer),
    and settles unknown outcomes (reconciler). To run them apart: `api --part http`, `api --part relay`, and so on.
    Needs PARTNERAPI_URL (try `sales-assets partner-api`) and RabbitMQ at RABBITMQ_URL. Mailings are sent by Celery's
    processes: celery -A sales_assets.services.mailings.celery_app worker, and ... beat.
    """
    from sales_assets.commands.services import ALL_PARTS, run_services

    unknown = set(part or ()) - set(ALL_PARTS)
    if unknown:
        raise typer.BadParameter(f"there is no part {', '.join(sorted(unknown))}; parts are {', '.join(ALL_PARTS)}")
    run_services(part or ALL_PARTS, host=host, port=port, on_ready=lambda where: out.print(f"services: {where}"))


@app.command("partner-api")
def partner_api(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 8081,
    seed: Annotated[int, typer.Option(help="Decides which answers the faults hit.", min=0)] = 0,
    slow: Annotated[float, typer.Option(help="Fault: seconds before every answer.", min=0)] = 0,
    server_error: Annotated[float, typer.Option(help="Fault: share of answers that are a 500.", min=0, max=1)] = 0,
    too_many: Annotated[float, typer.Option(help="Fault: share of answers that are a 429.", min=0, max=1)] = 0,
    html: Annotated[float, typer.Option(help="Fault: share of answers that are HTML.", min=0, max=1)] = 0,
    lost: Annotated[
        float, typer.Option(help="Fault: share of creates and cancels done without an answer.", min=0, max=1)
    ] = 0,
) -> None:
    """Run a simulator of the partner's API until Ctrl-C: `PARTNERAPI_URL=http://127.0.0.1:8081 sales-assets api`.

    Orders live in memory. While it runs: PUT /_faults {"slow": 3}; PUT /_answers/create [{"status": 500}] for the
    next answers; PUT /_stock/21737 {"known": false}; PUT /_orders/777 {"status": "done"}; GET /_seen counts the calls.
    """
    from sales_assets.services.server import serve
    from sales_assets.simulators.partner_api import Faults, PartnerApi

    faults = Faults(seed=seed, slow=slow, server_error=server_error, too_many=too_many, html=html, lost=lost)
    serve(PartnerApi(faults), port=port, on_ready=lambda url: out.print(f"partner API: {url}"))


@app.command("sender-api")
def sender_api(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 8082,
    seed: Annotated[int, typer.Option(help="Decides which answers the faults hit.", min=0)] = 0,
    slow: Annotated[float, typer.Option(help="Fault: seconds before every answer.", min=0)] = 0,
    server_error: Annotated[float, typer.Option(help="Fault: share of answers that are a 500.", min=0, max=1)] = 0,
    too_many: Annotated[float, typer.Option(help="Fault: share of answers that are a 429.", min=0, max=1)] = 0,
    retry_after: Annotated[str, typer.Option(help="Retry-After of a 429: seconds, an HTTP date, or empty.")] = "1",
    html: Annotated[float, typer.Option(help="Fault: share of answers that are HTML.", min=0, max=1)] = 0,
    refused: Annotated[float, typer.Option(help="Fault: share of answers with another code.", min=0, max=1)] = 0,
    lost: Annotated[float, typer.Option(help="Fault: share of messages sent without an answer.", min=0, max=1)] = 0,
) -> None:
    """Run a simulator of the service that sends messages, until Ctrl-C, for SENDER_URL=http://127.0.0.1:8082.

    Checks SENDER_TOKEN; where it is not set, any token will do. What was sent lives in memory. While it runs:
    PUT /_faults {"slow": 3}; PUT /_answers [{"status": 500}] for the next answers; GET /_seen counts by message id;
    GET /_messages shows the latest.
    """
    from sales_assets.services.server import serve
    from sales_assets.settings import settings
    from sales_assets.simulators.sender_api import Faults, SenderApi

    faults = Faults(
        seed=seed,
        slow=slow,
        server_error=server_error,
        too_many=too_many,
        retry_after=retry_after,
        html=html,
        refused=refused,
        lost=lost,
    )
    sender = SenderApi(faults, token=settings().sender_token.get_secret_value())
    serve(sender, port=port, on_ready=lambda url: out.print(f"sender API: {url}"))


@orders_app.command("map")
def orders_map(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV: kind,theirs,ours")],
) -> None:
    """Map the partner's ids to ours; days that waited for a mapping are loaded again by the sensor.

    The file's kinds are item (their item id, our item_id), pharmacy (their pharmacy id, our city_id) and customer
    (phone, our customer_id): `kind,theirs,ours` and then lines such as `item,58,3`. The supplier is PARTNERAPI_KODPOST.
    Commas, semicolons or tabs; UTF-8, or UTF-16 as spreadsheets save it. All of the file is stored, or nothing.
    """
    from sales_assets.postgres.warehouse import Warehouse
    from sales_assets.services.partner_orders.mapping import mappings_in, shared_phones, store

    mappings = mappings_in(file)
    again = store(Warehouse(), mappings)
    out.print(f"{len(mappings)} mapped; {again} events are taken again")
    for row in shared_phones(Warehouse()):
        customers = ", ".join(map(str, row["customers"]))
        out.print(f"phone {row['phone']} is mapped to several customers ({customers}) and leads to none of them")


@orders_app.command("waiting")
def orders_waiting() -> None:
    """List the order lines that wait for a mapping, with the reason and the phone that was looked up."""
    from sales_assets.postgres.warehouse import Warehouse
    from sales_assets.services.partner_orders.mapping import waiting

    rows = waiting(Warehouse())
    table = Table("day", "event", "line", "status", "reason")
    table.add_column("phone", no_wrap=True)
    for row in rows:
        cells = (row["date_id"], row["message_id"], row["line_no"], row["status"], row["reason"], row["phone"] or "")
        table.add_row(*map(str, cells))
    out.print(table if rows else "no line waits")


def _generated_home() -> Path:
    from sales_assets.settings import settings

    folder = settings().sales_home / "generated"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    main()
