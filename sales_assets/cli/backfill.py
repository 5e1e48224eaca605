"""`sales-assets backfill`: load a range of days through the daemon and its workers, and show the progress."""

import datetime as dt
import time
from typing import TYPE_CHECKING, Annotated

import typer

from sales_assets.cli.console import INTERRUPTED, ProgressBar, err, out, print_error
from sales_assets.cli.load import LoadError, defs, latest_day, print_result, require_partitions, summary
from sales_assets.cli.options import day_option

if TYPE_CHECKING:
    import dagster as dg

    from sales_assets.deploy.backfills import BackfillProgress, BackfillReader
    from sales_assets.pipeline.progress import Progress

_LOOK_SECONDS = 1


def backfill(
    from_day: Annotated[
        dt.date | None,
        day_option("--from", "First day."),
    ] = None,
    to_day: Annotated[
        dt.date | None,
        day_option("--to", "Last day, inclusive. Default: yesterday."),
    ] = None,
    follow: Annotated[str | None, typer.Option(metavar="ID", help="Show the progress of an existing backfill.")] = None,
    cancel: Annotated[str | None, typer.Option(metavar="ID", help="Cancel a backfill and its runs.")] = None,
) -> None:
    """Load a range of days as a Dagster backfill, and show its progress.

    Unlike `load`, which runs in this process, the daemon (`sales-assets dev`) starts the runs and distributes them to
    all workers; SALES_DAYS_PER_RUN divides the range into runs. A report must be stored. Ctrl-C stops only the display.
    As with `load`, the exit code is 0 only if every day is done. A run whose worker was lost is repeated.

    Example: `sales-assets backfill --from 2024-09-08 --to 2024-10-02`.
    """
    import dagster as dg

    from sales_assets.dagster_internals import cancel_backfill
    from sales_assets.deploy.instance import prepare_dagster_home

    if (from_day is not None) + (follow is not None) + (cancel is not None) != 1:
        raise typer.BadParameter("give --from, --follow or --cancel")
    prepare_dagster_home()
    with dg.DagsterInstance.get() as instance:
        if cancel is not None:
            try:
                cancel_backfill(instance, cancel)
            except KeyError:
                raise _unknown(cancel) from None
            out.print(f"backfill {cancel} is being canceled: `sales-assets backfill --follow {cancel}` shows it")
            return
        backfill_id = follow or _request(instance, from_day, to_day or latest_day())
        err.print(f"backfill {backfill_id}: Ctrl-C stops the display, --follow {backfill_id} shows it again")
        try:
            _follow(instance, backfill_id)
        except KeyboardInterrupt:
            err.print(
                f"backfill {backfill_id} continues: `sales-assets backfill --follow {backfill_id}` shows it, "
                f"`sales-assets backfill --cancel {backfill_id}` cancels it"
            )
            raise typer.Exit(INTERRUPTED) from None


def _unknown(backfill_id: str) -> LoadError:
    return LoadError(f"no backfill {backfill_id} of assets in Dagster's storage")


def _request(instance: "dg.DagsterInstance", first: dt.date | None, last: dt.date) -> str:
    """Request the backfill of the assets that `load` fills. Raises `LoadError` without a daemon or a stored report."""
    import dagster as dg

    from sales_assets.dagster_internals import request_backfill
    from sales_assets.defs.load_daily_sales import load_daily_sales
    from sales_assets.deploy.backfills import seconds_without_daemon
    from sales_assets.partitions import DAYS, key_of
    from sales_assets.postgres.warehouse import Warehouse

    require_partitions(first, last)
    assert first is not None
    if seconds_without_daemon(instance) is not None:
        raise LoadError(
            "no daemon is running on Dagster's storage: start `sales-assets dev`, or load in this process with "
            "`sales-assets load`"
        )
    if not Warehouse().rows("raw/delivery", "latest_report"):
        raise LoadError("no report is stored: request one with `sales-assets load --report`")
    keys = DAYS.get_partition_keys_in_range(dg.PartitionKeyRange(key_of(first), key_of(last)))
    return request_backfill(instance, defs(), sorted(load_daily_sales.keys), keys)


def _follow(instance: "dg.DagsterInstance", backfill_id: str) -> None:
    """Show the progress until the backfill has ended, then its result. Exits with 1 if it failed."""
    from sales_assets.dagster_internals import backfill_partitions
    from sales_assets.defs.mart.f_sales import F_SALES
    from sales_assets.deploy.backfills import BackfillReader
    from sales_assets.partitions import days_of

    try:
        days = days_of(backfill_partitions(instance, defs(), backfill_id, F_SALES))
    except KeyError:
        raise _unknown(backfill_id) from None
    if not days:
        raise LoadError(f"backfill {backfill_id} does not load mart/f_sales")
    reader = BackfillReader(instance, backfill_id, F_SALES)
    with ProgressBar() as bar:
        bar.resource.days_ahead(len(days))
        progress = _until_end(reader, backfill_id, bar.resource)
    print_result(summary(days[0], days[-1], progress.run_ids, progress.failures))
    for failure in progress.failures:
        print_error(failure)
    if not progress.is_success:
        if not progress.failures:
            print_error(f"backfill {backfill_id} ended as {progress.status}")
        raise typer.Exit(1)


def _until_end(reader: "BackfillReader", backfill_id: str, bar: "Progress") -> "BackfillProgress":
    said, shown = "", 0
    while True:
        progress = reader.read()
        text = f"backfill {backfill_id}: {progress.finished_runs} of {progress.runs} runs"
        text = text if progress.runs else f"backfill {backfill_id}: waiting for the daemon"
        if text != said:
            bar.notify(text)
            said = text
        bar.days_done(progress.finished_days - shown)
        shown = progress.finished_days
        if progress.has_ended:
            return progress
        time.sleep(_LOOK_SECONDS)
