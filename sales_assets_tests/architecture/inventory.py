"""Inventory of all definitions as text, in ``definitions.txt`` next to this file, so that a review shows renamed keys.

`python -m sales_assets_tests.architecture.inventory` rewrites the file.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import dagster as dg

from sales_assets.definitions import defs
from sales_assets.defs.metadata import DAILY

FILE = Path(__file__).with_name("definitions.txt")


def inventory() -> str:
    """Return assets with their dependencies, checks, jobs, sensors, schedules and resources, in alphabetical order."""
    definitions = defs()
    graph = definitions.resolve_asset_graph()
    nodes = [graph.get(key) for key in graph.get_all_asset_keys()]
    assets = [
        f"{_name(node.key)}{'  external' if node.is_external else ''}  group {node.group_name}"
        f"  kinds {_list(node.kinds)}  owners {_list(node.owners)}  tags {_list(_tags(node.tags))}"
        f"  partitions {_cadence(node.partitions_def)}{'  fresh daily' if node.freshness_policy == DAILY else ''}"
        f"  from {_list(map(_name, node.parent_keys))}"
        for node in nodes
    ]
    checks = [f"{_name(key.asset_key)}  {key.name}" for key in graph.asset_check_keys]
    jobs = [
        f"{job.name}  {_list(map(_name, job.asset_layer.executable_asset_keys))}"
        for job in definitions.resolve_all_job_defs()
        if not job.name.startswith("__")  # the job behind "Materialize" in the UI
    ]
    sensors = [
        f"{sensor.name}  starts {_list(job.name for job in sensor.jobs)}"
        for sensor in definitions.sensors or []
        if not isinstance(sensor, dg.AutomationConditionSensorDefinition)
    ]
    sensors += [
        f"{sensor.name}  refreshes {_list(map(_name, sensor.asset_selection.resolve(graph)))}"
        for sensor in definitions.sensors or []
        if isinstance(sensor, dg.AutomationConditionSensorDefinition)
    ]
    schedules = [
        f"{schedule.name}  {schedule.cron_schedule}  {schedule.execution_timezone}  starts {schedule.job_name}"
        for schedule in definitions.schedules or []
        if isinstance(schedule, dg.ScheduleDefinition)
    ]
    sections = {
        "assets": assets,
        "checks": checks,
        "jobs": jobs,
        "sensors": sensors,
        "schedules": schedules,
        "resources": list(definitions.resources or {}),
    }
    return "\n".join(line for title, rows in sections.items() for line in [title, *_indented(rows), ""])


def _tags(tags: Mapping[str, str]) -> Iterator[str]:
    """Return the tags without those that Dagster derives from the kinds."""
    return (f"{name}={value}" for name, value in tags.items() if not name.startswith("dagster/"))


def _cadence(partitions: dg.PartitionsDefinition[str] | None) -> str:
    if isinstance(partitions, dg.WeeklyPartitionsDefinition):
        return "by week"
    return "by day" if partitions else "none"


def _name(key: dg.AssetKey) -> str:
    return key.to_user_string()


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"


def _indented(rows: Iterable[str]) -> Iterator[str]:
    return (f"  {row}" for row in sorted(rows))


if __name__ == "__main__":
    FILE.write_text(inventory(), encoding="utf-8")
