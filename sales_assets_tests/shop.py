"""A shop in tests: its report files, the simulator that serves them, the warehouse, and loading."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import dagster as dg

from sales_assets.defs.raw.report_files import increment_specs
from sales_assets.simulators.report_api.app import ReportApi
from sales_assets.simulators.report_api.faults import Faults
from sales_assets_tests.reports import ReportFolderBuilder, fetch_report, job, load_days

ORDERS = dg.AssetKey(["staging", "user_orders_log"])
F_SALES = dg.AssetKey(["mart", "f_sales"])
RAW_ORDERS = dg.AssetKey(["raw", "user_orders_log_inc"])
RAW = [spec.key for spec in increment_specs()]

# The amount is a Decimal; mypy would refuse to compare it with the plain numbers of a test.
Sale = tuple[str | None, Any]


@dataclass(frozen=True)
class Shop:
    """Everything a test of rules touches. Methods that load assert success, unless they are named otherwise."""

    reports: ReportFolderBuilder
    api: ReportApi
    instance: dg.DagsterInstance
    query: Callable[..., list[tuple[Any, ...]]]

    def fetch_report(self) -> None:
        """Have the simulator make a report of what lies in the folder now, and keep its files."""
        run = fetch_report(self.instance)
        assert run.success, failure_of(run)

    def load(self, first: str, last: str | None = None, selection: Iterable[dg.AssetKey] | None = None) -> None:
        """Load days with the report that is kept; make one if there is none."""
        if not self.query("SELECT 1 FROM raw.delivery WHERE kind = 'report'"):
            self.fetch_report()
        run = load_days(self.instance, first, last, selection)
        assert run.success, failure_of(run)

    def fail_to_load(self, first: str, last: str | None = None, selection: Iterable[dg.AssetKey] | None = None) -> str:
        """Load days of which some break; gives what the run's error says."""
        if not self.query("SELECT 1 FROM raw.delivery WHERE kind = 'report'"):
            self.fetch_report()
        run = load_days(self.instance, first, last, selection)
        assert not run.success
        return failure_of(run)

    def rebuild_dimensions(self) -> None:
        assert job("rebuild_dimensions").execute_in_process(instance=self.instance).success

    def fault(self, faults: Faults | None) -> None:
        """Let the simulator go wrong from now on; None lets it do well again."""
        self.api.faults = faults or Faults()

    def sales(self, day: str | None = None) -> list[Sale]:
        """The mart's rows of a day, or all: (uniq_id, or the source of a row that is no report line; amount)."""
        where = "" if day is None else f"WHERE f.date_id = {day.replace('-', '')}"
        return self.query(
            "SELECT coalesce(l.uniq_id, f.source), f.amount FROM mart.f_sales AS f"
            f" JOIN mart.f_sales_lines AS l USING (id) {where} ORDER BY f.date_id, 1, 2"
        )

    def contents(self) -> list[tuple[Any, ...]]:
        """All rows of the mart without their ids: what two ways of loading must agree on."""
        return self.query(
            "SELECT f.date_id, l.uniq_id, item_id, customer_id, city_id, quantity, amount, f.status, f.source"
            " FROM mart.f_sales AS f JOIN mart.f_sales_lines AS l USING (id) ORDER BY 1, 2, 8, 7, 9"
        )

    def quarantined(self, state: str = "open") -> list[tuple[int, str]]:
        """Line number and reason of the lines in quarantine."""
        return self.query(
            "SELECT line_no, reason FROM staging.quarantine WHERE state = %s ORDER BY fetch_id, line_no", state
        )

    def materialized(self, key: dg.AssetKey) -> set[str]:
        """The days that Dagster shows as materialized."""
        return self.instance.get_materialized_partitions(key)


def failure_of(run: dg.ExecuteInProcessResult) -> str:
    """What the ops of a failed run said."""
    told = []
    for event in run.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            told.append((data.user_failure_data and data.user_failure_data.description) or str(data.error))
    return "\n".join(told)
