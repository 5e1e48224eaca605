"""OpenLineage: the lineage of a load is sent to a receiver in the wire format of the standard."""

import http.server
import json
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from sales_assets import settings as settings_module
from sales_assets.defs.automation import openlineage
from sales_assets.settings import SettingsError, definition_settings
from sales_assets_tests.bench.peers.environment import OPENLINEAGE, environment_or_skip
from sales_assets_tests.builders import Order, definitions
from sales_assets_tests.fixtures import F_SALES, Shop


class Receiver(http.server.ThreadingHTTPServer):
    """Records the events posted to it, and their authorization headers."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.authorizations: set[str | None] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        self.server.authorizations.add(self.headers.get("Authorization"))
        self.server.events.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(201)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Suppress the request log."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def use_receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a function that sets a receiver in the settings; the integration keeps the values from its import."""
    for name in ("OPENLINEAGE_URL", "OPENLINEAGE_NAMESPACE", "OPENLINEAGE_API_KEY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)

    def use(**variables: str) -> None:
        for module in [name for name in sys.modules if name.startswith("dagster_openlineage")]:
            monkeypatch.delitem(sys.modules, module)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        settings_module.definition_settings.cache_clear()

    (packages,) = environment_or_skip(OPENLINEAGE).parent.glob("lib/python*/site-packages")
    monkeypatch.syspath_prepend(packages)
    yield use
    settings_module.definition_settings.cache_clear()


def sensor_of() -> dg.SensorDefinition:
    (sensor,) = openlineage.openlineage().sensors or ()
    assert isinstance(sensor, dg.SensorDefinition)
    return sensor


def tick(sensor: dg.SensorDefinition, instance: dg.DagsterInstance, cursor: str | None) -> str | None:
    context = dg.build_sensor_context(instance, cursor=cursor, definitions=definitions())
    sensor.evaluate_tick(context)
    return context.cursor


def test_the_lineage_of_a_load_is_sent_to_the_receiver(
    dagster_shop: Shop, receiver: Receiver, use_receiver: Any
) -> None:
    use_receiver(OPENLINEAGE_URL=receiver.url, OPENLINEAGE_API_KEY="a-key")
    dagster_shop.reports.increment("2024-10-01", [Order("a")])
    dagster_shop.load("2024-10-01")
    sensor, cursor, before = sensor_of(), None, -1
    while len(receiver.events) > before:
        before = len(receiver.events)
        cursor = tick(sensor, dagster_shop.instance, cursor)

    outputs = [output for event in receiver.events for output in event.get("outputs", [])]
    found = {
        output["name"]: output
        for output in outputs
        if output["name"] == F_SALES.to_user_string() and output.get("facets")
    }
    facets = found["mart/f_sales"]["facets"]
    assert {field["name"] for field in facets["schema"]["fields"]} >= {"id", "date_id", "amount", "status"}
    assert facets["columnLineage"]["fields"]["amount"]["inputFields"][0]["name"] == "staging/user_orders_log"
    inputs = {
        (output["name"], tuple(dataset["name"] for dataset in event["inputs"]))
        for event in receiver.events
        if event.get("eventType") == "COMPLETE"
        for output in event.get("outputs", [])
    }
    assert ("mart/f_sales", ("staging/user_orders_log",)) in inputs
    assert ("raw/user_orders_log", ("sources/report_api",)) in inputs, "an asset without column lineage"
    assert found["mart/f_sales"]["namespace"] == "sales_assets"
    assert {event["eventType"] for event in receiver.events if "eventType" in event} >= {"START", "COMPLETE"}
    assert receiver.authorizations == {"Bearer a-key"}
    assert tick(sensor, dagster_shop.instance, cursor) == cursor, "an event is sent once"


def test_an_unreachable_receiver_fails_no_tick(dagster_shop: Shop, use_receiver: Any) -> None:
    use_receiver(OPENLINEAGE_URL="http://127.0.0.1:1")
    dagster_shop.reports.increment("2024-10-01", [Order("a")])
    dagster_shop.load("2024-10-01")
    sensor = sensor_of()
    start_time = time.monotonic()
    assert tick(sensor, dagster_shop.instance, None)
    assert time.monotonic() - start_time < 60, "Dagster gives a tick a minute"


def test_without_a_receiver_there_is_no_sensor(use_receiver: Any) -> None:
    use_receiver()
    assert not openlineage.openlineage().sensors
    assert "dagster_openlineage" not in sys.modules


def test_without_the_extra_the_error_names_the_extra(use_receiver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    use_receiver(OPENLINEAGE_URL="http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "dagster_openlineage", None)
    with pytest.raises(SettingsError, match=r"needs the extra \[openlineage\] .* is not installed"):
        openlineage.openlineage()


@pytest.mark.parametrize("url", ["http://u:p4ssword@h", "http://h?key=p4ssword", "ftp://h"])
def test_an_invalid_url_or_one_with_credentials_is_refused(url: str, use_receiver: Any) -> None:
    use_receiver(OPENLINEAGE_URL=url)
    with pytest.raises(SettingsError, match="OPENLINEAGE_URL: ") as refused:
        definition_settings()
    assert "p4ssword" not in str(refused.value)
