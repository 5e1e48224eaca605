"""Dagster's storage on PostgreSQL for runs of many days: connections kept and looked at, planned events in one go.

dagster-postgres opens two connections for each event and stores the planned ones one by one: a run of a year over nine
assets begins with 3 300 of them, and with 4 000 planned checks, whose one text it makes anew for each day. Written
against the one version of it that pyproject.toml asks for; where dagster.yaml names dagster-postgres's own class
instead, everything works, slower, and a restart of the server costs a page.

Belongs here: how Dagster's events are written. Does not belong here: what is in them.
"""

from collections.abc import Sequence
from typing import Any, cast

import sqlalchemy as sa
from dagster import DagsterEventType, EventLogEntry
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._serdes import serialize_value
from dagster_postgres import (
    DagsterPostgresStorage,
    PostgresEventLogStorage,
    PostgresRunStorage,
    PostgresScheduleStorage,
)
from dagster_postgres.utils import pg_url_from_config, set_pg_statement_timeout
from sqlalchemy import event

_MOST_CONNECTIONS = 20
_RECYCLE_SECONDS = 600


def _pool(url: str, *, recycle: int, overflow: int) -> sa.Engine:
    return sa.create_engine(
        url,
        isolation_level="AUTOCOMMIT",
        pool_size=1,
        max_overflow=overflow,
        pool_recycle=recycle,
        # Looked at before use: after a restart of the server neither a run nor a page may fail for a dead connection.
        pool_pre_ping=True,
    )


class _ForPages:
    """The webserver's connections: a pool as dagster-postgres makes it, but one that notices dead ones."""

    postgres_url: str
    _engine: sa.Engine

    def optimize_for_webserver(self, statement_timeout: int, pool_recycle: int, max_overflow: int) -> None:
        self._engine = _pool(self.postgres_url, recycle=pool_recycle, overflow=max_overflow)
        event.listen(self._engine, "connect", lambda to, _: set_pg_statement_timeout(to, statement_timeout))


class Runs(_ForPages, PostgresRunStorage):
    """dagster-postgres's runs."""


class Schedules(_ForPages, PostgresScheduleStorage):
    """dagster-postgres's schedules and sensors."""


class EventLog(_ForPages, PostgresEventLogStorage):
    """dagster-postgres's event log with a pool, one statement for the planned materializations of a run, and one text
    for all days of a planned check.
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
        # An asset's row tells of its last event only.
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
    """`storage: custom:` of dagster.yaml; configured as dagster-postgres's own storage is."""

    def __init__(self, postgres_url: str, should_autocreate_tables: bool = True, **others: Any) -> None:
        super().__init__(postgres_url, should_autocreate_tables, **others)
        self._run_storage = Runs(postgres_url, should_autocreate_tables)
        self._event_log_storage = EventLog(postgres_url, should_autocreate_tables=should_autocreate_tables)
        self._schedule_storage = Schedules(postgres_url, should_autocreate_tables)

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> "Storage":
        return cls(
            pg_url_from_config(config_value),
            config_value.get("should_autocreate_tables", True),
            inst_data=inst_data,
        )


def _type(event: EventLogEntry) -> DagsterEventType | None:
    return event.get_dagster_event().event_type
