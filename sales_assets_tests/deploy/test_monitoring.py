"""Prometheus configuration, alert rules and Grafana dashboard: valid for promtool, and only with existing metrics."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, ProcessCollector

from sales_assets.services.http.application import _RequestLog
from sales_assets.services.mailings.metrics import Queue, Sends
from sales_assets.services.partner_orders.metrics import Metrics
from sales_assets.services.pipeline_metrics import PipelineMetrics
from sales_assets_tests.deploy.artefacts import DEPLOY, ENVIRONMENT, compose, run, tool

MONITORING = DEPLOY / "monitoring"

_PROMETHEUS_ITSELF = {"up"}
# Parts of an expression that are not metrics: strings, label selectors, grouping labels, durations, functions.
_NO_METRIC = re.compile(
    r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(?:by|without|on|ignoring) ?\([^)]*\)'
    r"|\b\w+ ?(?=\()|\b(?:sum|max|min|count|and|or)\b"
)


def metrics_in(expression: str) -> set[str]:
    return set(re.findall(r"\b[a-z][a-z0-9_]*\b", _NO_METRIC.sub(" ", expression)))


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "rules.yaml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> list[dict[str, Any]]:
    board = json.loads((MONITORING / "grafana" / "dashboard.json").read_text(encoding="utf-8"))
    panels: list[dict[str, Any]] = board["panels"]
    return panels


def exposed() -> set[str]:
    """Return the sample names that the project's processes expose."""
    registry = CollectorRegistry()
    Metrics(registry)
    Queue(registry)
    Sends(registry)
    ProcessCollector(registry=registry)
    PipelineMetrics("", "", registry=registry)
    _RequestLog(lambda *_: None, registry)  # type: ignore[arg-type]
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}
    return {f"{family.name}{suffix}" for family in registry.collect() for suffix in suffixes[family.type]}


def test_metrics_are_found_in_expressions() -> None:
    expression = 'histogram_quantile(0.95, sum by (le, route) (rate(a_bucket{x="y z"}[5m]))) > 2 and min(b_c) / up'
    assert metrics_in(expression) == {"a_bucket", "b_c", "up"}


def test_rules_and_dashboard_use_existing_metrics() -> None:
    expressions = [rule["expr"] for rule in rules()]
    expressions += [target["expr"] for panel in dashboard() for target in panel.get("targets", ())]
    used = set().union(*map(metrics_in, expressions))
    assert used - exposed() - _PROMETHEUS_ITSELF == set()


def test_every_alert_has_a_severity_and_an_action() -> None:
    alerts = [(rule["alert"], rule["labels"].keys(), rule["annotations"].keys()) for rule in rules()]
    assert [one for one in alerts if one[1:] != ({"severity"}, {"summary", "action"})] == []
    assert len({name for name, *_ in alerts}) == len(alerts)
    assert {rule["labels"]["severity"] for rule in rules()} == {"page", "warning"}


@pytest.mark.external
def test_promtool_finds_nothing(tmp_path: Path) -> None:
    promtool = tool("promtool", wheel=False)
    for file in ("prometheus.yml", "rules.yaml"):
        shutil.copy(MONITORING / file, tmp_path)
    shutil.copy(Path(__file__).with_name("rules_test.yaml"), tmp_path)
    # The expressions of the dashboard, written as recording rules.
    shown = [target["expr"] for panel in dashboard() for target in panel.get("targets", ())]
    panels = [{"record": f"panel:{number}", "expr": shown_one} for number, shown_one in enumerate(shown)]
    (tmp_path / "panels.yaml").write_text(json.dumps({"groups": [{"name": "panels", "rules": panels}]}))
    for words in (
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "--lint-fatal", "rules.yaml", "panels.yaml"),
        ("test", "rules", "rules_test.yaml"),
    ):
        done = run(promtool, *words[:2], *(word if word[0] == "-" else tmp_path / word for word in words[2:]))
        assert done.returncode == 0, done.stdout + done.stderr


def test_dashboard_uses_the_provisioned_datasource_and_panels_do_not_overlap() -> None:
    (source,) = yaml.safe_load((MONITORING / "grafana" / "datasource.yaml").read_text(encoding="utf-8"))["datasources"]
    panels = dashboard()
    used = [target["datasource"]["uid"] for panel in panels for target in panel.get("targets", ())]
    assert set(used) == {source["uid"]}
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


@pytest.mark.external
def test_scrape_targets_exist_in_compose_with_their_ports() -> None:
    services = compose("*", **ENVIRONMENT)["services"]
    configured = yaml.safe_load((MONITORING / "prometheus.yml").read_text(encoding="utf-8"))
    for job in configured["scrape_configs"]:
        for found in job["dns_sd_configs"]:
            for name in found["names"]:
                service = services[name]
                assert str(found["port"]) in json.dumps(
                    [service["environment"], service["command"], service.get("ports")]
                ), f"{name} does not listen on {found['port']}"
