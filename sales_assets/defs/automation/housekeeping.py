"""Retention of Dagster's event log: a job and its schedule that delete old rows.

A range of a year writes ten thousand events, and Dagster deletes none of them by itself. Deleting runs, the usual
advice, un-materializes their days and loses run keys. So rows are deleted by type and age, and only those that are
never read again (``sql/dagster/event_logs.sql``). Retention of sensor and schedule ticks is set in dagster.yaml
(``deploy/templates``). Raw files, API responses and quarantine are never deleted.
"""

import datetime as dt

import dagster as dg
from dagster_postgres import PostgresEventLogStorage

from sales_assets.defs.automation.decorators import schedule
from sales_assets.postgres.connection import connect
from sales_assets.postgres.queries import statements

# Logs are rarely read after a month; `sales-assets why` explains a day without them.
_AGE = dt.timedelta(days=30)


@dg.op
def delete_old_events(context: dg.OpExecutionContext) -> None:
    """Delete events older than 30 days that are never read again; runs and partitions stay."""
    storage = context.instance.event_log_storage
    if not isinstance(storage, PostgresEventLogStorage):
        context.log.info("nothing deleted: Dagster's storage is not PostgreSQL")
        return
    with connect(storage.postgres_url, "sales_assets housekeeping", may_choose_schema=True) as connection:
        for name, statement in statements("dagster/event_logs").items():
            rows = connection.execute(statement, {"age": _AGE}).rowcount
            context.log.info(f"{name.replace('_', ' ')}: {rows} rows")


@dg.job(executor_def=dg.in_process_executor)
def housekeeping() -> None:
    """Limit the size of Dagster's event log: delete old events that are never read again."""
    delete_old_events()


@schedule(
    job=housekeeping,
    cron_schedule="15 3 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def nightly_housekeeping() -> dg.RunRequest:
    """Run `housekeeping` every night. On by default: without it, the event log grows without limit."""
    return dg.RunRequest()
