"""Why a sensor requests weeks: behaviour of Dagster's automation conditions for days that are loaded at any time.

docs/decisions/0008-sensors-for-weeks-and-audiences.md states the conclusion. A failing test means that Dagster changed.
"""

import datetime as dt
from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from sales_assets.partitions import existing_days

Condition = dg.AutomationCondition[Any]
Tick = Callable[[], set[str | None]]

DAYS = dg.DailyPartitionsDefinition("2024-09-02", end_date="2024-10-07")
WEEKS = dg.WeeklyPartitionsDefinition("2024-09-02", day_offset=1, end_date="2024-10-07")
WEEK = "2024-09-16"
MONDAY, TUESDAY, WEDNESDAY = "2024-09-16", "2024-09-17", "2024-09-18"
NOW = dt.datetime(2024, 10, 7, 12, tzinfo=dt.UTC)

pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning")


def updated() -> Condition:
    return dg.AutomationCondition.any_deps_updated()


EAGER: dict[str, Condition] = {
    "eager": dg.AutomationCondition.eager(),
    "eager of all weeks": dg.AutomationCondition.eager().without(dg.AutomationCondition.in_latest_time_window()),
}
OTHERS: dict[str, Condition] = {
    "since last handled": updated().since_last_handled(),
    "since requested": updated().since(dg.AutomationCondition.newly_requested()),
}


def ticks(instance: dg.DagsterInstance, condition: Condition) -> Tick:
    """Return a function that evaluates the condition again and returns the requested weeks."""

    @dg.asset(partitions_def=DAYS)
    def day() -> None: ...

    @dg.asset(
        deps=[dg.AssetDep(day, partition_mapping=existing_days())],
        partitions_def=WEEKS,
        automation_condition=condition,
    )
    def week() -> None: ...

    results: list[dg.EvaluateAutomationConditionsResult] = []

    def tick() -> set[str | None]:
        results.append(
            dg.evaluate_automation_conditions(
                [day, week], instance, cursor=results[-1].cursor if results else None, evaluation_time=NOW
            )
        )
        return set(results[-1].get_requested_partitions(week.key))

    return tick


def happen(instance: dg.DagsterInstance, asset: str, *partitions: str) -> None:
    for partition in partitions:
        instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=partition))


@pytest.mark.parametrize("name", EAGER)
def test_eager_waits_for_all_days_of_a_week(instance: dg.DagsterInstance, name: str) -> None:
    tick = ticks(instance, EAGER[name])
    tick()
    happen(instance, "day", MONDAY)
    assert tick() == set()


@pytest.mark.parametrize("name", OTHERS)
def test_a_day_loaded_while_its_week_is_computed_is_lost(instance: dg.DagsterInstance, name: str) -> None:
    tick = ticks(instance, OTHERS[name])
    tick()
    happen(instance, "day", MONDAY)
    assert tick() == {WEEK}
    happen(instance, "day", TUESDAY)  # after the run has read the sales of the week
    happen(instance, "week", WEEK)
    assert [tick(), tick(), tick()] == [set(), set(), set()]
    happen(instance, "day", WEDNESDAY)
    assert tick() == {WEEK}, "the condition itself works"


@pytest.mark.parametrize("name", OTHERS)
def test_days_before_the_first_tick_are_lost(instance: dg.DagsterInstance, name: str) -> None:
    tick = ticks(instance, OTHERS[name])
    happen(instance, "day", MONDAY)
    assert [tick(), tick()] == [set(), set()]
