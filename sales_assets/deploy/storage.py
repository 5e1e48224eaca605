"""Dagster's storage on PostgreSQL, faster for runs of many days: pooled connections and batched planned events.

dagster-postgres opens two connections for each event and stores planned ones one by one: a run of a year over nine
assets begins with 3 300 planned materializations and 4 000 planned checks, whose identical text it builds for each day.
This module requires the version that pyproject.toml pins. With dagster-postgres's own class in dagster.yaml,
everything works, but slower, and a page fails after a restart of the server. See
docs/decisions/0004-pooled-event-storage.md.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import psycopg
import sqlalchemy as sa
from dagster import DagsterEventType, EventLogEntry, Field, StringSource
from dagster_postgres import (
    DagsterPostgresStorage,
    PostgresEventLogStorage,
    PostgresRunStorage,
    PostgresScheduleStorage,
)
from dagster_postgres.utils import (
    DagsterPostgresException,
    create_pg_engine,
    pg_url_from_config,
    set_pg_statement_timeout,
)
from sqlalchemy import event
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

from sales_assets.connection_strings import parse
from sales_assets.dagster_internals import (
    AssetCheckEvaluationPlanned,
    AssetCheckExecutionRecordStatus,
    AssetCheckExecutionsTable,
    SqlEventLogStorageTable,
    serialize_value,
)
from sales_assets.postgres.connection import connect_psycopg2
from sales_assets.postgres.warehouse import dagster_storage_url
from sales_assets.settings import SettingsError, settings

_MOST_CONNECTIONS = 20
_RECYCLE_SECONDS = 600


class LibpqDialect(PGDialect_psycopg2):
    """psycopg2 for connection strings that libpq accepts but SQLAlchemy's parser may reject.

    It is a dialect because dagster-postgres creates its engines itself, from the text of a URL.
    """

    supports_statement_cache = True

    def create_connect_args(self, url: sa.URL) -> tuple[list[Any], dict[str, Any]]:
        return [url.password, "sales_assets Dagster storage"], {}

    def connect(self, *arguments: Any, **_: Any) -> Any:
        return connect_psycopg2(*arguments)


registry.register("postgresql.libpq", __name__, LibpqDialect.__name__)


def _engine_url(conninfo: str) -> str:
    parse(conninfo)
    # Passed as the password, the only part of a URL that SQLAlchemy never shows.
    url = sa.URL.create("postgresql+libpq", username="conninfo", password=conninfo, host="libpq")
    return url.render_as_string(hide_password=False)


def _pool(url: str, *, recycle: int, overflow: int) -> sa.Engine:
    return create_pg_engine(
        _engine_url(url),
        isolation_level="AUTOCOMMIT",
        pool_size=1,
        max_overflow=overflow,
        pool_recycle=recycle,
        # Check connections before use: after a restart of the server neither a run nor a page may fail.
        pool_pre_ping=True,
    )


class _Connected:
    """Mixin for dagster-postgres's storages: libpq's connection strings and the platform's session settings.

    The webserver's pool has dagster-postgres's limits, but also detects dead connections.
    """

    postgres_url: str
    _engine: sa.Engine

    def __init__(self, conninfo: str, should_autocreate_tables: bool = True) -> None:
        super().__init__(_engine_url(conninfo), should_autocreate_tables)  # type: ignore[call-arg]
        self.postgres_url = conninfo

    def optimize_for_webserver(self, statement_timeout: int, pool_recycle: int, max_overflow: int) -> None:
        self._engine = _pool(self.postgres_url, recycle=pool_recycle, overflow=max_overflow)
        event.listen(self._engine, "connect", lambda to, _: set_pg_statement_timeout(to, statement_timeout))


class Runs(_Connected, PostgresRunStorage):
    """Run storage of dagster-postgres."""


class Schedules(_Connected, PostgresScheduleStorage):
    """Schedule and sensor storage of dagster-postgres."""


class EventLog(_Connected, PostgresEventLogStorage):
    """Event log of dagster-postgres with a connection pool and batched planned events.

    The planned materializations of a run are stored by one statement, and all days of a planned check share one text.
    """

    def __init__(self, postgres_url: str, *, should_autocreate_tables: bool = True) -> None:
        super().__init__(postgres_url, should_autocreate_tables)
        self._engine = _pool(postgres_url, recycle=_RECYCLE_SECONDS, overflow=_MOST_CONNECTIONS)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        planned = [event for event in events if _type(event) is DagsterEventType.ASSET_MATERIALIZATION_PLANNED]
        if planned:
            self._store_planned(planned)
        others = [event for event in events if _type(event) is not DagsterEventType.ASSET_MATERIALIZATION_PLANNED]
        if others:
            super().store_event_batch(others)

    def _store_planned(self, events: Sequence[EventLogEntry]) -> None:
        with self._connect() as connection:
            statement = self.prepare_insert_event_batch(events).returning(SqlEventLogStorageTable.c.id)
            event_ids = [cast("int", row[0]) for row in connection.execute(statement)]
        # The row of an asset stores only its last event.
        last = {event.get_dagster_event().asset_key: at for at, event in enumerate(events)}
        with self.index_transaction() as connection:
            self._store_asset_event_tags(connection, events, event_ids)
            for at in last.values():
                self._store_asset_event(connection, events[at], event_ids[at])

    def _store_asset_check_evaluation_planned(self, event: EventLogEntry, event_id: int | None) -> None:
        planned = cast("AssetCheckEvaluationPlanned", event.get_dagster_event().event_specific_data)
        row = {
            "asset_key": planned.asset_key.to_string(),
            "check_name": planned.check_name,
            "run_id": event.run_id,
            "execution_status": AssetCheckExecutionRecordStatus.PLANNED.value,
            "evaluation_event": serialize_value(event),
            "evaluation_event_timestamp": self._event_insert_timestamp(event),  # type: ignore[no-untyped-call]
            "evaluation_event_storage_id": event_id,
        }
        days = planned.partitions_subset.get_partition_keys() if planned.partitions_subset else [None]
        with self.index_connection() as connection:
            connection.execute(AssetCheckExecutionsTable.insert(), [{**row, "partition": day} for day in days])


class Storage(DagsterPostgresStorage):
    """Class for `storage: custom:` in dagster.yaml: uses the database of the settings, so that DAGSTER_HOME suffices.

    sales_home: the SALES_HOME that the settings must have, if it is given. The settings come from `.env` in the
    current folder: started in another folder, Dagster would silently show an empty storage.

    dagster-postgres's own configuration, `postgres_url` or `postgres_db`, is accepted as well.
    """

    def __init__(self, postgres_url: str, should_autocreate_tables: bool = True, **others: Any) -> None:
        super().__init__(_engine_url(postgres_url), should_autocreate_tables, **others)
        self.postgres_url = postgres_url
        self._run_storage = Runs(postgres_url, should_autocreate_tables)
        self._event_log_storage = EventLog(postgres_url, should_autocreate_tables=should_autocreate_tables)
        self._schedule_storage = Schedules(postgres_url, should_autocreate_tables)

    @classmethod
    def config_type(cls) -> Any:
        return {
            **cast("Mapping[str, Any]", super().config_type()),
            "sales_home": Field(StringSource, is_required=False),
        }

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> "Storage":
        given = config_value.keys() & {"postgres_url", "postgres_db"}
        return cls(
            pg_url_from_config(config_value) if given else _url_of_settings(config_value.get("sales_home")),
            config_value.get("should_autocreate_tables", True),
            inst_data=inst_data,
        )


def open_as_dagster(conninfo: str) -> None:
    """Test the storage: open it as Dagster's processes do, and read a run. Raises `psycopg.OperationalError`."""
    try:
        storage = Storage(conninfo)
        try:
            storage.run_storage.get_runs(limit=1)
        finally:
            storage.event_log_storage.dispose()
    except (sa.exc.SQLAlchemyError, DagsterPostgresException) as error:
        cause = error if isinstance(error, sa.exc.DBAPIError) else error.__cause__
        reason = getattr(cause, "orig", cause) or error
        raise psycopg.OperationalError(str(reason)) from error


def require_sales_home(sales_home: str | None) -> None:
    """Raise `SettingsError` if dagster.yaml has another SALES_HOME than the settings: their files would be mixed."""
    if sales_home is not None and Path(sales_home) != settings().sales_home:
        raise SettingsError(
            f"DAGSTER_HOME/dagster.yaml was written for SALES_HOME={sales_home}, but SALES_HOME is "
            f"{settings().sales_home}: if the folder was moved, change or remove sales_home in that file; if it is "
            'another platform\'s, unset DAGSTER_HOME, or run eval "$(sales-assets env)" in the folder of its .env'
        )


def _url_of_settings(sales_home: str | None) -> str:
    if sales_home is not None and _is_read_here(sales_home):
        require_sales_home(sales_home)
    return dagster_storage_url()


def _is_read_here(sales_home: str) -> bool:
    """Return whether the dagster.yaml of this process's DAGSTER_HOME contains this SALES_HOME.

    Code servers and runs get the daemon's configuration instead, and its DAGSTER_HOME may be on another machine.
    """
    home = os.environ.get("DAGSTER_HOME")
    try:
        text = (Path(home).expanduser() / "dagster.yaml").read_text(encoding="utf-8") if home else ""
    except OSError:
        return False
    return json.dumps(sales_home, ensure_ascii=False) in text or sales_home in text


def _type(event: EventLogEntry) -> DagsterEventType | None:
    return event.get_dagster_event().event_type
