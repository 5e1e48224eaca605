"""Fixtures: the loading engine without Dagster, with the report files of a test."""

import datetime as dt
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from sales_assets.defs.load_daily_sales import DERIVED_MARTS
from sales_assets.pipeline.extract import Delivery, fetch_report, record
from sales_assets.pipeline.load import Pipeline, load_days
from sales_assets.pipeline.load_report import F_SALES, LoadReport, raw_table, staging_table
from sales_assets.pipeline.progress import Progress
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.resources.raw_files import RawFiles
from sales_assets.resources.report_api import ReportApi
from sales_assets.schemas.report_files import REPORT_FILES
from sales_assets.settings import first_day, settings
from sales_assets.simulators.report_api.app import ReportApi as Simulator
from sales_assets_tests.builders import ReportFolderBuilder

DERIVED = [mart.table for mart in DERIVED_MARTS]
RAW = [raw_table(file) for file in REPORT_FILES.values()]
STAGING = [staging_table(file) for file in REPORT_FILES.values()]
TABLES = [*RAW, *STAGING, F_SALES, *(derived.table for derived in DERIVED)]


class RecordedProgress(Progress):
    """Progress that records its calls."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.ahead = 0
        self.done: list[int] = []

    def notify(self, text: str) -> None:
        self.steps.append(text)

    def days_ahead(self, number: int) -> None:
        self.ahead = number

    def days_done(self, number: int) -> None:
        self.done.append(number)


@dataclass
class Engine:
    """Objects for tests of the loading engine. `api` is the simulator that serves `reports`."""

    reports: ReportFolderBuilder
    api: Simulator
    query: Callable[..., list[tuple[Any, ...]]]
    pipeline: Pipeline
    progress: RecordedProgress

    def fetch_report(self) -> Delivery:
        """Fetch and record the current report of the folder."""
        pipeline = self.pipeline
        delivery = fetch_report(pipeline.report_api, pipeline.raw_files, pipeline.warehouse, self.progress.notify)
        with pipeline.warehouse.transaction("report") as transaction:
            record(transaction, [delivery], "report run")
        return delivery

    def load(self, *days: str, tables: Iterable[str] = TABLES) -> LoadReport:
        """Load days; fetch the report first if none is stored."""
        if not self.query("SELECT 1 FROM raw.delivery WHERE kind = 'report'"):
            self.fetch_report()
        return load_days(self.pipeline, [*map(dt.date.fromisoformat, days)], list(tables), "load run")


@pytest.fixture
def engine(reports: ReportFolderBuilder, report_api: Simulator, query: Callable[..., list[tuple[Any, ...]]]) -> Engine:
    """Return the engine for `reports`, with an empty warehouse."""
    progress = RecordedProgress()
    pipeline = Pipeline(
        Warehouse(),
        RawFiles(),
        ReportApi(),
        settings().sales_home / "tmp",
        first_day(),
        logging.getLogger(__name__),
        progress,
        DERIVED,
    )
    return Engine(reports, report_api, query, pipeline, progress)
