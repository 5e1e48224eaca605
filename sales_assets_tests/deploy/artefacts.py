"""Helpers for tests of the deployment artefacts: the checker programs, and the services of compose.yaml."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from sales_assets.settings import Settings

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
VERSION = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
PROFILES = ("core", "services", "workers", "monitoring", "s3")
HOME = "/var/lib/sales_assets"

# The values without a default, which an operator writes to .env.
SECRETS = {
    "POSTGRES_PASSWORD": "canary-of-postgres",
    "RABBITMQ_PASSWORD": "canary-of-rabbitmq",
    "GRAFANA_PASSWORD": "canary-of-grafana",
    "REPORT_API_KEY": "canary-of-the-report-api",
}
ENVIRONMENT = SECRETS | {"REPORT_API_URL": "http://report.example"}

# Settings that are secret. DAGSTER_STORAGE_URL is left out: by default Dagster uses the database of the warehouse.
SECRET_SETTINGS = {
    name.upper() for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)
} - {"DAGSTER_STORAGE_URL"}

_BIN = Path(sys.executable).parent
COMPOSE = (_BIN / "docker-compose", "--file", DEPLOY / "compose.yaml", "--env-file", "/dev/null")


def tool(name: str, *, wheel: bool = True) -> str:
    """Return the path of a checker. One from a wheel must exist; without another, skip the test, or fail it in CI."""
    place = _BIN if wheel else f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    found = shutil.which(name, path=str(place))
    if found is None:
        why = f"THE DEPLOYMENT ARTEFACTS ARE NOT CHECKED: there is no {name}"
        if wheel or os.environ.get("REQUIRE_DEPLOY_TOOLS"):
            pytest.fail(why)
        pytest.skip(why)
    return found


def run(*line: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, line)),
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def compose(*profiles: str, **environment: str) -> dict[str, Any]:
    """Return compose.yaml as parsed by Docker Compose, with the services of some profiles."""
    selected = [word for profile in profiles for word in ("--profile", profile)]
    done = run(*COMPOSE, *selected, "config", "--format", "json", **environment)
    assert done.returncode == 0, done.stderr
    # Compose escapes each dollar sign as two.
    return cast("dict[str, Any]", json.loads(done.stdout.replace("$$", "$")))


def instructions() -> list[tuple[str, str]]:
    """Return (instruction, value) of the last stage of the Dockerfile."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = [line.split(maxsplit=1) for line in text.replace("\\\n", "").splitlines() if line.strip()]
    start = max(number for number, (name, _) in enumerate(lines) if name == "FROM")
    return [(name, value.strip()) for name, value in lines[start:]]


def image_environment() -> dict[str, str]:
    """Return the environment variables that the image sets."""
    return {
        name: value
        for instruction, values in instructions()
        if instruction == "ENV"
        for name, value in re.findall(r"(\w+)=(\S+)", values)
    }


@dataclass(frozen=True)
class Service:
    """A service that runs the image of sales_assets, as Docker would start it.

    Attributes:
        argv: The command; the image has no entry point.
        health: The command of its health check; None if it is disabled.
        needs: The services that it depends on, with the condition.
        grace: Seconds from SIGTERM to SIGKILL.
    """

    name: str
    argv: list[str]
    environment: dict[str, str]
    health: list[str] | None
    needs: dict[str, str]
    grace: float
    files: dict[str, Path] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, service: Mapping[str, Any], configs: Mapping[str, Any]) -> "Service":
        return cls(
            name,
            service["command"],
            {key: value for key, value in service["environment"].items() if value is not None},
            _health(service.get("healthcheck", {})),
            {needed: how["condition"] for needed, how in service.get("depends_on", {}).items()},
            _seconds(service["stop_grace_period"]),
            {one["target"]: Path(configs[one["source"]]["file"]) for one in service.get("configs", ())},
        )


def our_services(composed: Mapping[str, Any]) -> dict[str, Service]:
    """Return the services that run the image of sales_assets, by name."""
    return {
        name: Service.of(name, service, composed.get("configs", {}))
        for name, service in composed["services"].items()
        if service["image"].startswith("sales_assets:")
    }


def _health(check: Mapping[str, Any]) -> list[str] | None:
    if not check.get("test") or check.get("disable"):
        return None
    kind, *line = check["test"]
    return ["sh", "-c", *line] if kind == "CMD-SHELL" else list(line)


def _seconds(text: str) -> float:
    return sum(
        float(number) * {"h": 3600, "m": 60, "s": 1}[unit] for number, unit in re.findall(r"([\d.]+)([hms])", text)
    )
