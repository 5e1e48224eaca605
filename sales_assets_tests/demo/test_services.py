"""Services of the demo: their port, and the broker that they need."""

import pytest
import requests

from sales_assets import settings as settings_module
from sales_assets.demo import services
from sales_assets.pipeline.progress import Progress
from sales_assets_tests.cli.processes import free_port
from sales_assets_tests.demo.broker import NO_BROKER, UNKNOWN_USER_URL, assert_broker_is_clean
from sales_assets_tests.services.partner_orders.fixtures import BROKER_URL, need_broker


@pytest.mark.broker
def test_services_use_another_port_if_the_default_is_taken(warehouse_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    need_broker()
    monkeypatch.setenv("RABBITMQ_URL", BROKER_URL)
    monkeypatch.setattr(services, "PORT", free_port())
    settings_module.settings.cache_clear()
    home = settings_module.settings().sales_home
    home.mkdir()
    with services.services_running(Progress()) as first, services.services_running(Progress()) as second:
        assert first.url == f"http://127.0.0.1:{services.PORT}"
        assert (first.is_requested_port, second.is_requested_port) == (True, False)
        for running in (first, second):
            assert requests.get(f"{running.url}/health", timeout=10).json() == {"status": "ok"}
    assert_broker_is_clean(home)


@pytest.mark.external
def test_missing_broker_is_reported_in_one_line_without_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RABBITMQ_URL", UNKNOWN_USER_URL)
    settings_module.settings.cache_clear()
    assert services.why_no_broker() == NO_BROKER


@pytest.mark.external
@pytest.mark.broker
def test_reachable_broker_is_not_reported_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    need_broker()
    monkeypatch.setenv("RABBITMQ_URL", BROKER_URL)
    settings_module.settings.cache_clear()
    assert services.why_no_broker() is None
