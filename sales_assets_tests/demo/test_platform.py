"""SALES_HOME of the demo: a home with other data is refused."""

import pytest

from sales_assets import settings as settings_module
from sales_assets.demo.platform import platform_running
from sales_assets.pipeline.progress import Progress
from sales_assets.settings import SettingsError


def test_demo_refuses_a_home_created_by_another_command() -> None:
    home = settings_module.settings().sales_home
    (home / "postgres" / "data").mkdir(parents=True)
    with (
        pytest.raises(SettingsError, match="holds a warehouse that the demo did not create"),
        platform_running(Progress(), once=True),
    ):
        pytest.fail("it was started")
    assert not (home / "DEMO").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WAREHOUSE_URL", "postgresql://h/d"),
        ("DAGSTER_STORAGE_URL", "postgresql://h/d"),
        ("RAW_FILES_URL", "memory://elsewhere"),
    ],
)
def test_the_demo_refuses_settings_outside_its_home(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    settings_module.settings.cache_clear()
    with (
        pytest.raises(SettingsError, match=f"{name} is set: unset it, the demo stores everything in SALES_HOME"),
        platform_running(Progress(), once=True),
    ):
        pytest.fail("it was started")
    assert not settings_module.settings().sales_home.exists()
