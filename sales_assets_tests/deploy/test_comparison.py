"""Comparison of a dagster.yaml with the templates of this version."""

import copy
from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from sales_assets.deploy import comparison
from sales_assets.deploy.comparison import compare, fingerprint
from sales_assets.deploy.instance import configuration_text
from sales_assets.deploy.templates import Template

# The file written by version 0.1.0.
OF_0_1_0 = """
storage: {custom: {module: sales_assets.deploy.storage, class: Storage, config: {sales_home: /srv/sales}}}
telemetry: {enabled: false}
nux: {enabled: false}
run_coordinator:
  module: dagster.core.run_coordinator
  class: QueuedRunCoordinator
  config: {max_concurrent_runs: 2, dequeue_interval_seconds: 1}
run_monitoring: {enabled: true, start_timeout_seconds: 180, poll_interval_seconds: 10}
run_retries: {enabled: true, max_retries: 0}
freshness: {enabled: true}
retention: {schedule: {purge_after_days: 30}, sensor: {purge_after_days: {skipped: 3, failure: 30, success: 30}}}
"""


def written(template: Template) -> dict[str, Any]:
    return copy.deepcopy(dict(dg.config_from_yaml_strings([configuration_text(template)])))


@pytest.mark.parametrize("template", Template)
def test_template_has_no_differences(template: Template) -> None:
    found = compare(written(template))
    assert (found.template, found.differences, found.earlier_version) == (template, [], None)


def _more_runs(configuration: dict[str, Any]) -> None:
    configuration["run_coordinator"]["config"]["max_concurrent_runs"] = 10


def _another_launcher(configuration: dict[str, Any]) -> None:
    configuration["run_launcher"] = {"module": "dagster_docker", "class": "DockerRunLauncher", "config": {"token": "x"}}


def _another_storage(configuration: dict[str, Any]) -> None:
    configuration["storage"] = {"postgres": {"postgres_url": "postgresql://u:hush@h/d"}}


def _without_freshness(configuration: dict[str, Any]) -> None:
    del configuration["freshness"]


def _another_home(configuration: dict[str, Any]) -> None:
    configuration["storage"]["custom"]["config"]["sales_home"] = "/elsewhere"


@pytest.mark.parametrize(
    ("change", "differences"),
    [
        (_more_runs, ["run_coordinator.config.max_concurrent_runs is 10 instead of 2"]),
        (
            _another_launcher,
            ["run_launcher.module differs", "run_launcher.class differs", "run_launcher.config is added"],
        ),
        (_another_storage, ["storage.custom is missing", "storage.postgres is added"]),
        (_without_freshness, ["freshness is missing"]),
        (_another_home, []),
    ],
)
def test_differences_are_named_by_key_and_without_secrets(
    change: Callable[[dict[str, Any]], None], differences: list[str]
) -> None:
    configuration = written(Template.ONE_MACHINE)
    change(configuration)
    assert compare(configuration).differences == differences


def test_file_of_an_earlier_version_is_recognized() -> None:
    found = compare(dg.config_from_yaml_strings([OF_0_1_0]))
    assert (found.template, found.earlier_version) == (Template.ONE_MACHINE, "0.1.0")
    assert found.differences == [
        "run_coordinator.config.max_user_code_failure_retries is missing",
        "run_coordinator.config.user_code_failure_retry_delay is missing",
        "run_launcher is missing",
        "run_retries.max_retries is 0 instead of 2",
        "run_retries.retry_on_asset_or_op_failure is missing",
    ]
    changed = OF_0_1_0.replace("max_retries: 0", "max_retries: 1")
    assert compare(dg.config_from_yaml_strings([changed])).earlier_version is None


def test_fingerprint_of_the_released_template_is_unchanged() -> None:
    """After a change to a released template, add the old fingerprint to `_EARLIER` and the new one here."""
    of_this_version = fingerprint(written(Template.ONE_MACHINE))
    assert of_this_version == "a9ce9d6956fa6ae6"
    assert of_this_version not in comparison._EARLIER
