"""Prometheus metrics of the pipeline: backlog, quarantine, rows per day, lock waits and the run queue.

Everything is read from the tables of the warehouse and of Dagster's storage, so that one process serves the metrics of
loads on any machine. No label holds a name, a path or a customer.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from fastapi import APIRouter
from prometheus_client import CollectorRegistry, Gauge
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute

from sales_assets.postgres.connection import connect
from sales_assets.postgres.queries import statements
from sales_assets.schemas.calendar import date_id
from sales_assets.services.http.application import ErrorHandler
from sales_assets.services.http.readiness import Check
from sales_assets.settings import first_day

PREFIX = "sales_assets_pipeline"

# An increment can be requested for the last seven days.
_DAYS = 7
_LAST_DATE_ID = 9999_12_31
_NO_RUNS = {"queued": 0, "in_progress": 0, "oldest_queued_seconds": 0.0}


class PipelineMetrics:
    """A service of metrics only. They are read from the tables at each scrape, which fails if reading fails."""

    def __init__(self, warehouse_url: str, dagster_storage_url: str, *, registry: CollectorRegistry) -> None:
        self._warehouse_url = warehouse_url
        self._dagster_storage_url = dagster_storage_url

        def gauge(name: str, meaning: str, labels: Sequence[str] = ()) -> Gauge:
            return Gauge(f"{PREFIX}_{name}", meaning, labels, registry=registry)

        self._days_behind = gauge(
            "days_behind", "Days from the last requested increment to yesterday; +Inf before the first."
        )
        self._since_load = gauge("seconds_since_last_load", "Seconds since a day was staged; +Inf before the first.")
        self._days_undone = gauge("days_undone", "Requested days that are not completely loaded; doctor lists them.")
        self._quarantine = gauge("quarantine_open", "Rejected rows that wait for a resolution.")
        self._rows = gauge("rows", "Staged rows of the last days, by age of the day in days.", ["file", "day_age"])
        self._waiting = gauge("lock_waiting_loads", "Loads that wait for the lock of other writers.")
        self._wait_seconds = gauge("lock_wait_seconds", "Wait of the load that has waited longest.")
        self._queued = gauge("runs_queued", "Dagster runs in the queue.")
        self._queue_seconds = gauge("run_queue_oldest_seconds", "Age of the oldest queued run.")
        self._in_progress = gauge("runs_in_progress", "Dagster runs that have started and not ended.")

    @property
    def routers(self) -> Sequence[APIRouter]:
        return ()

    @property
    def checks(self) -> Mapping[str, Check]:
        return {"tables": Check(self._update)}

    @property
    def error_handlers(self) -> Mapping[str, ErrorHandler]:
        return {}

    @property
    def pages(self) -> Sequence[BaseRoute]:
        return ()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        yield

    async def measure(self) -> None:
        """Read the metrics. An error fails the scrape, which is visible in Prometheus; stale values are not."""
        try:
            await self._update()
        except psycopg.Error as error:
            # Only the type: a driver's message holds addresses and users.
            raise HTTPException(503, f"the tables can't be read: {type(error).__name__}") from None

    async def _update(self) -> None:
        await asyncio.to_thread(self._read_warehouse)
        runs = await asyncio.to_thread(self._unfinished_runs)
        self._queued.set(runs["queued"])
        self._queue_seconds.set(runs["oldest_queued_seconds"])
        self._in_progress.set(runs["in_progress"])

    def _read_warehouse(self) -> None:
        metrics = statements("services/pipeline_metrics")
        with connect(self._warehouse_url, "sales_assets metrics", writing=False, patience=0) as connection:
            backlog = connection.execute(metrics["backlog"]).fetchone()
            rows = connection.execute(metrics["rows"], {"days": _DAYS}).fetchall()
            waits = connection.execute(metrics["lock_waits"]).fetchone()
            undone = connection.execute(
                statements("checks/asked_days_done")["offending"],
                {"first_date_id": date_id(first_day()), "last_date_id": _LAST_DATE_ID},
            ).fetchall()
        assert backlog is not None
        assert waits is not None
        self._days_behind.set(_or_infinity(backlog["days_behind"]))
        self._since_load.set(_or_infinity(backlog["seconds_since_load"]))
        self._quarantine.set(backlog["open_lines"])
        self._days_undone.set(len({row["date_id"] for row in undone}))
        self._waiting.set(waits["sessions"])
        self._wait_seconds.set(waits["seconds"])
        self._rows.clear()
        for row in rows:
            self._rows.labels(row["file"], row["day_age"]).set(row["rows"])

    def _unfinished_runs(self) -> Mapping[str, Any]:
        url = self._dagster_storage_url
        with connect(url, "sales_assets metrics", writing=False, patience=0, may_choose_schema=True) as connection:
            try:
                row = connection.execute(statements("dagster/runs")["unfinished"]).fetchone()
            except psycopg.errors.UndefinedTable:  # Dagster has not been started yet
                return _NO_RUNS
        assert row is not None
        return row


def _or_infinity(value: float | None) -> float:
    return math.inf if value is None else float(value)
