"""`Shop`: report files, the simulator that serves them, the warehouse, and methods that load days.

`Shop` loads by a Dagster run, like the UI. `EngineShop` calls the same function as the op, without a run: most of the
processor time of a small load is spent on Dagster's records, which tests of data rules don't read.
"""

import datetime as dt
import logging
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import dagster as dg

from sales_assets.defs.load_daily_sales import all_checks, all_specs, load_and_check
from sales_assets.defs.load_events import failure_of as failure_of_report
from sales_assets.defs.raw.report_files import increment_specs
from sales_assets.pipeline import extract
from sales_assets.pipeline.progress import Progress
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.resources import report_api
from sales_assets.resources.raw_files import RawFiles
from sales_assets.settings import settings
from sales_assets.simulators.report_api.app import ReportApi
from sales_assets.simulators.report_api.faults import Faults
from sales_assets_tests.builders import ReportFolderBuilder, days_between, fetch_report, job, load_days

ORDERS = dg.AssetKey(["staging", "user_orders_log"])
F_SALES = dg.AssetKey(["mart", "f_sales"])
RAW_ORDERS = dg.AssetKey(["raw", "user_orders_log_inc"])
RAW = [spec.key for spec in increment_specs()]

# The amount is a Decimal; mypy would not allow comparing it with the plain numbers of a test.
Sale = tuple[str | None, Any]


def stored_files() -> dict[str, bytes]:
    """Return the raw files and their manifests by path, in the location of the settings."""
    filesystem, root = RawFiles()._location()
    filesystem.invalidate_cache()
    return {str(path).removeprefix(f"{root}/"): filesystem.cat_file(path) for path in filesystem.find(root)}


def change_stored_file(path: str, contents: bytes | None) -> None:
    """Overwrite or delete a raw file, like an external change."""
    filesystem, root = RawFiles()._location()
    filesystem.rm_file(f"{root}/{path}") if contents is None else filesystem.pipe_file(f"{root}/{path}", contents)


@dataclass(frozen=True)
class Shop:
    """Report files, simulator, Dagster instance, warehouse. Methods that load assert success unless named otherwise."""

    reports: ReportFolderBuilder
    api: ReportApi
    open_instance: Callable[[], dg.DagsterInstance]
    query: Callable[..., list[tuple[Any, ...]]]

    @property
    def instance(self) -> dg.DagsterInstance:
        """The test's Dagster instance, created at first use."""
        return self.open_instance()

    def fetch_report(self) -> None:
        """Let the simulator generate a report of the folder's current files, and store it."""
        run = fetch_report(self.instance)
        assert run.success, failure_of(run)

    def load(self, first: str, last: str | None = None, selection: Iterable[dg.AssetKey] | None = None) -> None:
        """Load days with the stored report; fetch a report first if none is stored."""
        self._have_a_report()
        failure = self.try_to_load(first, last, selection)
        assert failure is None, failure

    def fail_to_load(self, first: str, last: str | None = None, selection: Iterable[dg.AssetKey] | None = None) -> str:
        """Load days of which some fail; return the error message of the run."""
        self._have_a_report()
        failure = self.try_to_load(first, last, selection)
        assert failure is not None
        return failure

    def _have_a_report(self) -> None:
        if not self.query("SELECT 1 FROM raw.delivery WHERE kind = 'report'"):
            self.fetch_report()

    def try_to_load(
        self, first: str, last: str | None = None, selection: Iterable[dg.AssetKey] | None = None
    ) -> str | None:
        """Load days with the stored report; return the error message of the run, or None."""
        run = load_days(self.instance, first, last, selection)
        return None if run.success else failure_of(run)

    def rebuild_dimensions(self) -> None:
        assert job("rebuild_dimensions").execute_in_process(instance=self.instance).success

    def fault(self, faults: Faults | None) -> None:
        """Set the faults of the simulator; None removes them."""
        self.api.faults = faults or Faults()

    def sales(self, day: str | None = None) -> list[Sale]:
        """Return (uniq_id, amount) of the mart rows of a day or all days; source replaces a missing uniq_id."""
        where = "" if day is None else f"WHERE f.date_id = {day.replace('-', '')}"
        return self.query(
            "SELECT coalesce(l.uniq_id, f.source), f.amount FROM mart.f_sales AS f"
            f" JOIN mart.f_sales_lines AS l USING (id) {where} ORDER BY f.date_id, 1, 2"
        )

    def contents(self) -> list[tuple[Any, ...]]:
        """Return all rows of the mart without their ids, to compare two ways of loading."""
        return self.query(
            "SELECT f.date_id, l.uniq_id, item_id, customer_id, city_id, quantity, amount, f.status, f.source"
            " FROM mart.f_sales AS f JOIN mart.f_sales_lines AS l USING (id) ORDER BY 1, 2, 8, 7, 9"
        )

    def quarantined(self, state: str = "open") -> list[tuple[int, str]]:
        """Return (line number, reason) of the rejected rows in a state."""
        return self.query(
            "SELECT line_no, reason FROM staging.quarantine WHERE state = %s ORDER BY fetch_id, line_no", state
        )

    def materialized(self, key: dg.AssetKey) -> set[str]:
        """Return the days that Dagster shows as materialized."""
        return self.instance.get_materialized_partitions(key)


class EngineShop(Shop):
    """A shop whose loads are not recorded in Dagster; only `rebuild_dimensions` is a Dagster run."""

    def fetch_report(self) -> None:
        client, warehouse = report_api.ReportApi(settings()), Warehouse()
        delivery = extract.fetch_report(client, RawFiles(), warehouse, Progress().notify)
        with warehouse.transaction("raw report of a test") as transaction:
            extract.record(transaction, [delivery], str(uuid.uuid4()))

    def materialized(self, key: dg.AssetKey) -> set[str]:
        raise AssertionError(f"{key}: Dagster knows no loads of this shop; let the test use `dagster_shop`")

    def try_to_load(
        self, first: str, last: str | None = None, selection: Iterable[dg.AssetKey] | None = None
    ) -> str | None:
        days = [dt.date.fromisoformat(day) for day in days_between(first, last or first)]
        selected = [spec.key for spec in all_specs() if selection is None or spec.key in selection]
        checks = [check for check in all_checks().values() if check.asset in selected]
        clients = (Warehouse(), RawFiles(), report_api.ReportApi(settings()))
        run_id, log = str(uuid.uuid4()), logging.getLogger(__name__)
        report, _ = load_and_check(*clients, log, Progress(), run_id, days, selected, checks)
        return failure_of_report(report).description if report.failures else None


def failure_of(run: dg.ExecuteInProcessResult) -> str:
    """Return the error messages of a failed run's ops."""
    descriptions = []
    for event in run.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            descriptions.append((data.user_failure_data and data.user_failure_data.description) or str(data.error))
    return "\n".join(descriptions)
