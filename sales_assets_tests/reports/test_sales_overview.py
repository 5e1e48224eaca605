"""The asset of the overview: files and metadata of a run, its refresh, and its definition only with the extra."""

import datetime as dt
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from sales_assets.definitions import defs
from sales_assets.defs.mart.f_sales_partner_orders import F_SALES_PARTNER_ORDERS
from sales_assets.defs.reports import sales_overview as module
from sales_assets.defs.reports.sales_overview import SALES_OVERVIEW, definitions, refresh_condition
from sales_assets.partitions import DAYS, ORDER_DAYS
from sales_assets.reports.figures import Overview
from sales_assets_tests.builders import days_between, job
from sales_assets_tests.fixtures import F_SALES
from sales_assets_tests.reports.conftest import LAST
from sales_assets_tests.reports.test_charts import MAX_BYTES

Tick = Callable[..., int]

NOON = dt.datetime(2024, 10, 7, 12, 1, tzinfo=dt.UTC)

pytestmark = [
    pytest.mark.external,  # Matplotlib runs a program to list the machine's fonts
    pytest.mark.filterwarnings("ignore::dagster.BetaWarning"),  # raised by Dagster's evaluator
]


def run(instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    return job("refresh_sales_overview").execute_in_process(instance=instance, raise_on_error=False)


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (event,) = result.asset_materializations_for_node("reports__sales_overview")
    return {name: value.value for name, value in event.metadata.items()}


def test_a_run_stores_the_charts_and_writes_the_file(
    insert_sale: Callable[..., None],
    names: None,
    instance: dg.DagsterInstance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "overview.html"
    monkeypatch.setenv("SALES_OVERVIEW_FILE", str(file))
    monkeypatch.setenv("SALES_OVERVIEW_DAYS", "3")
    monkeypatch.setenv("SALES_CURRENCY", "EUR")
    for ago in (0, 1, 3):  # the last one is outside the period
        insert_sale(LAST - dt.timedelta(days=ago))
    result = run(instance)
    assert result.success
    shown = metadata(result)
    assert shown["charts"].count("](data:image/png;base64,") == 5
    assert len(shown["charts"]) < MAX_BYTES
    assert "<script" not in shown["charts"]
    assert (shown["days"], shown["rows"], shown["first day"], shown["last day"]) == (2, 80, "2024-10-01", "2024-10-02")
    assert str(shown["net amount"]) in shown["net amount, exact"]
    assert isinstance(shown["refund share, %"], float)
    assert shown["file"] == str(file)
    assert "EUR" in file.read_text(encoding="utf-8")
    (check,) = result.get_asset_check_evaluations()
    assert (check.check_name, check.passed) == ("charts_equal_mart", True)


def test_a_file_whose_charts_differ_from_the_mart_is_not_written(
    insert_sale: Callable[..., None],
    instance: dg.DagsterInstance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SALES_OVERVIEW_FILE", str(tmp_path / "overview.html"))
    monkeypatch.setenv("SALES_OVERVIEW_DAYS", "1")
    insert_sale(LAST)
    monkeypatch.setattr(Overview, "differences", lambda _: ["items: net_amount 1, in the mart 2"])
    result = run(instance)
    (check,) = result.get_asset_check_evaluations()
    assert not check.passed
    assert check.metadata["differences"].value == "items: net_amount 1, in the mart 2"
    assert not (tmp_path / "overview.html").exists()


def test_the_asset_exists_only_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [asset.key for asset in definitions().assets or [] if isinstance(asset, dg.AssetsDefinition)] == [
        SALES_OVERVIEW
    ]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    without = module.definitions()
    assert (list(without.assets or []), list(without.sensors or []), list(without.jobs or [])) == ([], [], [])


def test_loading_the_definitions_does_not_import_the_libraries_of_the_extra() -> None:
    script = (
        "import sys; from sales_assets.definitions import defs; import sales_assets.cli; defs().get_repository_def();"
        "print(sorted({'matplotlib', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_asset_depends_on_the_tables_it_reads() -> None:
    node = defs().resolve_asset_graph().get(SALES_OVERVIEW)
    assert {key.to_user_string() for key in node.parent_keys} == {
        *("mart/f_sales", "mart/f_sales_partner_orders", "mart/d_item", "mart/d_city", "staging/user_orders_log"),
    }
    assert node.automation_condition == refresh_condition()


# --- automation condition ----------------------------------------------------------------------------------------


@pytest.fixture
def tick(instance: dg.DagsterInstance) -> Tick:
    """Return a function that evaluates the condition and returns the number of requested runs."""

    @dg.asset(key=F_SALES, partitions_def=DAYS)
    def days() -> None: ...

    @dg.asset(key=F_SALES_PARTNER_ORDERS, partitions_def=ORDER_DAYS)
    def orders() -> None: ...

    @dg.asset(key=SALES_OVERVIEW, deps=[days, orders], automation_condition=refresh_condition())
    def report() -> None: ...

    results: list[dg.EvaluateAutomationConditionsResult] = []

    def evaluate(now: dt.datetime = NOON) -> int:
        cursor = results[-1].cursor if results else None
        results.append(
            dg.evaluate_automation_conditions([days, orders, report], instance, cursor=cursor, evaluation_time=now)
        )
        return results[-1].get_num_requested(SALES_OVERVIEW)

    return evaluate


def load(instance: dg.DagsterInstance, *days: str, key: dg.AssetKey = F_SALES) -> None:
    for day in days:
        instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=day))


def refresh(instance: dg.DagsterInstance) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization(SALES_OVERVIEW))


def test_the_first_evaluation_requests_a_refresh_and_the_next_ones_none(
    instance: dg.DagsterInstance, tick: Tick
) -> None:
    load(instance, "2024-10-02")
    assert tick() == 1
    refresh(instance)
    assert [tick(), tick(), tick()] == [0, 0, 0]


def test_a_late_day_requests_a_refresh(instance: dg.DagsterInstance, tick: Tick) -> None:
    """For a day long before the latest time window, with most days missing, `eager()` would request no refresh."""
    tick()
    refresh(instance)
    tick()
    load(instance, "2020-03-04")
    assert tick() == 1
    refresh(instance)
    assert [tick(), tick()] == [0, 0]
    load(instance, "2024-09-30", key=F_SALES_PARTNER_ORDERS)
    assert tick() == 1


def test_a_hundred_days_request_one_refresh(instance: dg.DagsterInstance, tick: Tick) -> None:
    tick()
    refresh(instance)
    tick()
    load(instance, *days_between("2024-06-01", "2024-09-08"))
    assert tick() == 1
    refresh(instance)
    assert [tick(), tick()] == [0, 0]


def test_a_day_loaded_during_a_refresh_is_not_lost(instance: dg.DagsterInstance, tick: Tick) -> None:
    """The day may be loaded between the request and the next evaluation, or later."""
    tick()
    refresh(instance)
    tick()
    load(instance, "2024-10-01")
    assert tick() == 1
    load(instance, "2024-10-02")  # after the run has read the mart
    refresh(instance)
    assert tick() == 1
    assert tick() == 0
    load(instance, "2024-10-03")
    refresh(instance)
    assert tick() == 1


def test_no_refresh_is_requested_while_days_are_loading(instance: dg.DagsterInstance, tick: Tick) -> None:
    tick()
    refresh(instance)
    tick()
    load(instance, "2024-10-01")
    loading = instance.create_run_for_job(
        dg.define_asset_job("load", [F_SALES]).resolve(
            asset_graph=dg.Definitions(
                assets=[
                    dg.AssetsDefinition.from_op(_load, keys_by_output_name={"result": F_SALES}, partitions_def=DAYS)
                ]
            ).resolve_asset_graph()
        ),
        tags={"dagster/partition": "2024-10-02"},
        status=dg.DagsterRunStatus.STARTED,
        asset_selection=frozenset([F_SALES]),
    )
    assert tick() == 0
    instance.report_run_failed(loading)
    assert tick() == 1


@dg.op
def _load() -> None: ...
