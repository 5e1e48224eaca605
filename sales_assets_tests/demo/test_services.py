"""The demo's services: their port, and the broker that they need."""

import pytest
import requests

from sales_assets import settings as settings_module
from sales_assets.demo import services
from sales_assets.pipeline.progress import Progress
from sales_assets_tests.cli.processes import free_port
from sales_assets_tests.demo.broker import NO_BROKER, NOBODY, nothing_is_left_at_the_broker
from sales_assets_tests.services.partner_orders.fixtures import BROKER_URL, need_broker


@pytest.mark.broker
def test_the_services_take_another_port_where_theirs_is_taken(
    warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_broker()
    monkeypatch.setenv("RABBITMQ_URL", BROKER_URL)
    monkeypatch.setattr(services, "PORT", free_port())
    settings_module.settings.cache_clear()
    home = settings_module.settings().sales_home
    home.mkdir()
    with services.services_running(Progress()) as first, services.services_running(Progress()) as second:
        assert first.url == f"http://127.0.0.1:{services.PORT}"
        assert (first.on_wanted_port, second.on_wanted_port) == (True, False)
        for running in (first, second):
            assert requests.get(f"{running.url}/health", timeout=10).json() == {"status": "ok"}
    nothing_is_left_at_the_broker(home)


@pytest.mark.external
def test_a_missing_broker_is_told_in_a_line_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RABBITMQ_URL", NOBODY)
    settings_module.settings.cache_clear()
    assert services.why_no_broker() == NO_BROKER


@pytest.mark.external
@pytest.mark.broker
def test_a_broker_that_answers_is_not_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    need_broker()
    monkeypatch.setenv("RABBITMQ_URL", BROKER_URL)
    settings_module.settings.cache_clear()
    assert services.why_no_broker() is None
