"""Dagster's home: its owner, its configuration file, and the output of `sales-assets env`."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from sales_assets import settings as settings_module
from sales_assets.deploy.instance import dagster_environment, prepare_dagster_home
from sales_assets.settings import SettingsError

PASSWORD = "pa%23ss-of-the-warehouse"


@pytest.fixture(autouse=True)
def _storage(dagster_storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_STORAGE_URL", dagster_storage)
    # Set here, so that what `prepare_dagster_home` sets goes with the test.
    for name in ("DAGSTER_HOME", "DAGSTER_EVENT_BATCH_SIZE", "DAGSTER_DISABLE_TELEMETRY", "MALLOC_ARENA_MAX"):
        monkeypatch.setenv(name, "")


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Point the settings at a SALES_HOME of this name; gives its Dagster home."""

    def point(name: str) -> Path:
        monkeypatch.setenv("SALES_HOME", str(tmp_path / name))
        settings_module.settings.cache_clear()
        return tmp_path / name / "dagster"

    return point


def test_an_instance_is_found_by_its_home_alone(
    at_home: Callable[[str], Path], dagster_storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address of the storage comes from the settings: it is neither in the file nor handed on by a variable."""
    monkeypatch.setenv("DAGSTER_STORAGE_URL", f"{dagster_storage}&password={PASSWORD}")
    home = at_home('a "home" of \\ mine')
    assert prepare_dagster_home() == home
    assert PASSWORD not in (home / "dagster.yaml").read_text(encoding="utf-8")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.get_runs_count() >= 0
        assert type(instance.event_log_storage).__module__ == "sales_assets.deploy.storage"


def test_a_home_of_the_users_own_is_used_as_it_is(at_home: Callable[[str], Path], tmp_path: Path) -> None:
    at_home("home")
    own = tmp_path / "own"
    own.mkdir()
    text = "telemetry: {enabled: false}\n"
    (own / "dagster.yaml").write_text(text, encoding="utf-8")
    os.environ["DAGSTER_HOME"] = str(own)
    assert prepare_dagster_home() == own
    assert (own / "dagster.yaml").read_text(encoding="utf-8") == text
    assert dagster_environment()["DAGSTER_HOME"] == str(own)


def test_an_empty_home_of_the_users_own_gets_the_configuration(at_home: Callable[[str], Path], tmp_path: Path) -> None:
    at_home("home")
    own = tmp_path / "own"
    os.environ["DAGSTER_HOME"] = str(own)
    for _ in range(2):
        assert prepare_dagster_home() == own
        assert json.dumps(str(tmp_path / "home")) in (own / "dagster.yaml").read_text(encoding="utf-8")


def test_the_home_of_another_platform_is_refused(at_home: Callable[[str], Path], tmp_path: Path) -> None:
    """Left over from `eval "$(sales-assets env)"` for another SALES_HOME: two platforms' runs would be mixed."""
    first = at_home("first")
    prepare_dagster_home()
    assert os.environ["DAGSTER_HOME"] == str(first)
    second = at_home("second")
    with pytest.raises(SettingsError) as refused:
        prepare_dagster_home()
    assert str(refused.value) == (
        f"DAGSTER_HOME: {first} belongs to SALES_HOME={tmp_path / 'first'}, but SALES_HOME is {tmp_path / 'second'}: "
        'unset DAGSTER_HOME, or run eval "$(sales-assets env)"'
    )
    assert dagster_environment()["DAGSTER_HOME"] == str(second)


def test_dagster_started_with_other_settings_says_so(at_home: Callable[[str], Path], tmp_path: Path) -> None:
    """In a folder without the `.env` it would otherwise show an empty storage."""
    home = at_home("home")
    prepare_dagster_home()
    at_home("other")
    with (
        pytest.raises(
            SettingsError, match=r"^DAGSTER_HOME belongs to SALES_HOME=.*home, but SALES_HOME is .*other here"
        ),
        dg.DagsterInstance.from_config(str(home)) as instance,
    ):
        instance.get_runs_count()
