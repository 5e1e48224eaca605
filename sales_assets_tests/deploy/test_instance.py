"""Dagster's home: its configuration file, which the operator owns, and the output of `sales-assets env`."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from sales_assets import settings as settings_module
from sales_assets.deploy import instance as instance_module
from sales_assets.deploy.instance import (
    configuration_text,
    dagster_environment,
    prepare_dagster_home,
    read_configuration,
    uses_settings,
)
from sales_assets.deploy.templates import Template
from sales_assets.settings import SettingsError
from sales_assets_tests.architecture.modules import PACKAGE

PASSWORD = "pa%23ss-of-the-warehouse"


@pytest.fixture(autouse=True)
def _storage(dagster_storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_STORAGE_URL", dagster_storage)
    # Set by monkeypatch, so that values set by `prepare_dagster_home` are undone after the test.
    for name in ("DAGSTER_HOME", *instance_module._DEFAULTS):
        monkeypatch.setenv(name, "")


@pytest.fixture
def use_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Return a function that points the settings at a SALES_HOME of this name and returns its Dagster home."""

    def point(name: str) -> Path:
        monkeypatch.setenv("SALES_HOME", str(tmp_path / name))
        settings_module.settings.cache_clear()
        return tmp_path / name / "dagster"

    return point


def test_instance_needs_only_its_home(
    use_home: Callable[[str], Path], dagster_storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The storage URL comes from the settings: it is neither in dagster.yaml nor in an environment variable."""
    monkeypatch.setenv("DAGSTER_STORAGE_URL", f"{dagster_storage}&password={PASSWORD}")
    home = use_home('a "home" of \\ mine')
    assert prepare_dagster_home() == home
    assert [path.name for path in home.iterdir()] == ["dagster.yaml"]
    assert PASSWORD not in (home / "dagster.yaml").read_text(encoding="utf-8")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.get_runs_count() >= 0
        assert type(instance.event_log_storage).__module__ == "sales_assets.deploy.storage"
        assert instance.run_launcher.supports_check_run_worker_health


def test_changes_of_the_operator_are_preserved(use_home: Callable[[str], Path]) -> None:
    home = use_home("home")
    prepare_dagster_home()
    file = home / "dagster.yaml"
    text = file.read_text(encoding="utf-8") + "\nsensors:\n  use_threads: true\n  num_workers: 4\n"
    file.write_text(text, encoding="utf-8")
    assert prepare_dagster_home() == home
    assert dagster_environment()["DAGSTER_HOME"] == str(home)
    assert file.read_text(encoding="utf-8") == text
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.get_sensor_settings()["num_workers"] == 4


@pytest.mark.parametrize("text", ["telemetry: {enabled: false}\n", "# all of Dagster's defaults\n"])
def test_existing_dagster_home_of_the_user_is_not_changed(
    use_home: Callable[[str], Path], tmp_path: Path, text: str
) -> None:
    use_home("home")
    own = tmp_path / "own"
    own.mkdir()
    (own / "dagster.yaml").write_text(text, encoding="utf-8")
    os.environ["DAGSTER_HOME"] = str(own)
    assert prepare_dagster_home() == own
    assert (own / "dagster.yaml").read_text(encoding="utf-8") == text
    assert dagster_environment()["DAGSTER_HOME"] == str(own)
    assert not uses_settings(read_configuration(own))


def test_empty_dagster_home_of_the_user_gets_the_configuration(use_home: Callable[[str], Path], tmp_path: Path) -> None:
    use_home("home")
    own = tmp_path / "own"
    os.environ["DAGSTER_HOME"] = str(own)
    for _ in range(2):
        assert prepare_dagster_home() == own
        assert json.dumps(str(tmp_path / "home")) in (own / "dagster.yaml").read_text(encoding="utf-8")


def test_dagster_home_of_another_platform_is_refused(use_home: Callable[[str], Path], tmp_path: Path) -> None:
    """DAGSTER_HOME is left from `eval "$(sales-assets env)"` for another SALES_HOME: platforms would share files."""
    first = use_home("first")
    prepare_dagster_home()
    assert os.environ["DAGSTER_HOME"] == str(first)
    use_home("second")
    with pytest.raises(SettingsError) as refused:
        prepare_dagster_home()
    assert str(refused.value) == (
        f"DAGSTER_HOME/dagster.yaml was written for SALES_HOME={tmp_path / 'first'}, but SALES_HOME is "
        f"{tmp_path / 'second'}: if the folder was moved, change or remove sales_home in that file; if it is another "
        'platform\'s, unset DAGSTER_HOME, or run eval "$(sales-assets env)" in the folder of its .env'
    )
    assert dagster_environment()["DAGSTER_HOME"] == str(first), "DAGSTER_HOME wins"


def test_moved_home_is_an_error_until_the_operator_edits_the_file(
    use_home: Callable[[str], Path], tmp_path: Path
) -> None:
    use_home("before")
    prepare_dagster_home()
    os.environ["DAGSTER_HOME"] = ""
    (tmp_path / "before").rename(tmp_path / "after")
    home = use_home("after")
    with pytest.raises(SettingsError, match="if the folder was moved, change or remove sales_home"):
        prepare_dagster_home()
    file = home / "dagster.yaml"
    preserved_lines = [line for line in file.read_text(encoding="utf-8").splitlines() if "sales_home:" not in line]
    file.write_text("\n".join(preserved_lines), encoding="utf-8")
    assert prepare_dagster_home() == home
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.get_runs_count() >= 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"storage:\n  password: [{PASSWORD}\nnux: {{}}\n", ", line 3: expected ',' or ']', but got ':'"),
        ("- a list\n", ": not a YAML mapping"),
    ],
)
def test_malformed_file_is_reported_without_its_contents(
    use_home: Callable[[str], Path], text: str, message: str
) -> None:
    home = use_home("home")
    home.mkdir(parents=True)
    (home / "dagster.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as refused:
        prepare_dagster_home()
    assert str(refused.value) == f"{home}/dagster.yaml{message}"
    assert refused.value.__suppress_context__


def test_dagster_with_another_sales_home_is_an_error(use_home: Callable[[str], Path], tmp_path: Path) -> None:
    """Without this check, Dagster in a folder without the `.env` file would show an empty storage."""
    home = use_home("home")
    prepare_dagster_home()
    use_home("other")
    with (
        pytest.raises(SettingsError, match=r"was written for SALES_HOME=.*home, but SALES_HOME is .*other: "),
        dg.DagsterInstance.from_config(str(home)) as instance,
    ):
        instance.get_runs_count()


def test_run_accepts_the_instance_of_a_daemon_with_another_home(
    use_home: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Daemon and code server may be on different machines: the storage comes from the settings of the run's process."""
    home = use_home("of the daemon")
    prepare_dagster_home()
    with dg.DagsterInstance.from_config(str(home)) as instance:
        handed_on = instance.get_ref()
    use_home("of the code server")
    for own in ("", str(home.parent.parent / "nothing")):
        monkeypatch.setenv("DAGSTER_HOME", own)
        with dg.DagsterInstance.from_ref(handed_on) as instance:
            assert instance.get_runs_count() >= 0


# --- templates ------------------------------------------------------------------------------------------------------


def test_every_template_is_listed() -> None:
    assert {path.stem for path in (PACKAGE / "deploy" / "templates").glob("*.yaml")} == {*Template}


ENVIRONMENT = {
    Template.ONE_MACHINE: {},
    Template.CELERY: {},
    Template.KUBERNETES: {"KUBERNETES_NAMESPACE": "sales", "DAGSTER_CURRENT_IMAGE": "sales-assets:1"},
}


@pytest.mark.parametrize("template", Template)
def test_dagster_loads_the_template(
    use_home: Callable[[str], Path], template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This version of Dagster accepts every key of the template and the configuration of every class."""
    home = use_home("home")
    home.mkdir(parents=True)
    (home / "dagster.yaml").write_text(configuration_text(template), encoding="utf-8")
    for name, value in ENVIRONMENT[template].items():
        monkeypatch.setenv(name, value)
    # The launcher reads the service account of its pod.
    monkeypatch.setattr("kubernetes.config.load_incluster_config", lambda: None)
    configuration: Mapping[str, Any] = read_configuration(home)
    assert uses_settings(configuration)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert type(instance.event_log_storage).__module__ == "sales_assets.deploy.storage"
        assert type(instance.run_launcher).__name__ == configuration["run_launcher"]["class"]
        assert type(instance.run_coordinator).__name__ == "QueuedRunCoordinator"
        assert instance.run_launcher.supports_check_run_worker_health
        assert instance.run_monitoring_enabled
        assert instance.run_retries_enabled
        assert instance.run_retries_max_retries == 2
        assert not instance.run_retries_retry_on_asset_or_op_failure
