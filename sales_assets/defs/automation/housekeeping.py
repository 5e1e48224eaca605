"""Bounding what Dagster remembers: a job and its schedule that delete old rows of the event log.

A range of a year writes ten thousand events, and Dagster deletes none of them by itself. Deleting runs, the usual
advice, un-materializes their days and forgets run keys; so rows go by type and age, and only those that nothing is
read from any more (``sql/dagster/event_logs.sql`` says which). Ticks of sensors and schedules have their retention
in ``deploy/dagster.yaml``.

Does not belong here: data of the shop. Raw files, fetches and quarantine are kept for ever.
"""

import datetime as dt

import dagster as dg
from dagster_postgres import PostgresEventLogStorage

from sales_assets.postgres.connection import connect
from sales_assets.postgres.queries import statements

# A month of logs is what one looks into; what a day consists of is told by `sales-assets why` for good.
_AGE = dt.timedelta(days=30)


@dg.op
def delete_old_events(context: dg.OpExecutionContext) -> None:
    """Delete events that are 30 days old and that nothing is read from any more; runs and partitions stay."""
    storage = context.instance.event_log_storage
    if not isinstance(storage, PostgresEventLogStorage):
        context.log.info("Dagster's storage is no PostgreSQL: nothing is deleted")
        return
    with connect(storage.postgres_url, "sales_assets housekeeping") as connection:
        for name, statement in statements("dagster/event_logs").items():
            rows = connection.execute(statement, {"age": _AGE}).rowcount
            context.log.info(f"{name.replace('_', ' ')}: {rows} rows")


@dg.job(executor_def=dg.in_process_executor)
def housekeeping() -> None:
    """Keep Dagster's event log from growing without end."""
    delete_old_events()


@dg.schedule(
    job=housekeeping,
    cron_schedule="15 3 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def nightly_housekeeping() -> dg.RunRequest:
    """Every night; it is on from the start, because nobody switches on what is missed years later."""
    return dg.RunRequest()
