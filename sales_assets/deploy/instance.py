"""Prepare DAGSTER_HOME: its configuration file, and the environment that Dagster's processes need.

dagster.yaml belongs to the operator: it is written if it is absent, and never changed. `sales_assets.deploy.comparison`
explains how it differs from the templates.
"""

import importlib.resources
import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import dagster as dg

from sales_assets.deploy.storage import Storage, require_sales_home
from sales_assets.deploy.templates import Template
from sales_assets.pipeline.memory import ARENAS
from sales_assets.postgres.connection import connect
from sales_assets.postgres.warehouse import dagster_storage_url
from sales_assets.settings import SettingsError, env_file, settings

CONFIGURATION_FILE = "dagster.yaml"

_DEFAULTS = {
    # A range of a year writes thousands of events; one INSERT for each would take most of the run.
    "DAGSTER_EVENT_BATCH_SIZE": "100",
    "DAGSTER_DISABLE_TELEMETRY": "1",
    # A backfill waits for an unreachable code server; by default the daemon takes its assets for deleted and fails it.
    "DAGSTER_BACKFILL_RETRY_DEFINITION_CHANGED_ERROR": "1",
    # glibc reads it at process start: `share_one_pool` comes too late for threads that a run has by then.
    "MALLOC_ARENA_MAX": str(ARENAS),
}


def prepare_dagster_home() -> Path:
    """Write dagster.yaml if it is absent, and set DAGSTER_HOME for this process and its children; returns the folder.

    Raises `psycopg.OperationalError` if the storage can't be reached, and `SettingsError` if dagster.yaml is malformed
    or was written for another SALES_HOME.
    """
    home = write_configuration()
    configuration = read_configuration(home)
    require_sales_home(sales_home_of(configuration))
    if uses_settings(configuration):
        # Dagster reports a wrong address only after half a minute, with a page of traceback.
        connect(dagster_storage_url(), "sales_assets storage").close()
    os.environ["DAGSTER_HOME"] = str(home)
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    return home


def dagster_environment() -> dict[str, str]:
    """Return the variables with which `dagster`, `dg` and `dagster-webserver` find this instance; no secrets.

    They include SALES_HOME and the path of `.env`, so that commands work in any folder.
    """
    file = env_file()
    return {
        "DAGSTER_HOME": str(write_configuration()),
        "SALES_HOME": str(settings().sales_home),
        **({"SALES_ENV_FILE": str(file)} if file is not None else {}),
        **{name: os.environ.get(name) or value for name, value in _DEFAULTS.items()},
    }


def dagster_home() -> Path:
    """Return DAGSTER_HOME if it is set, which takes precedence, else SALES_HOME/dagster."""
    given = os.environ.get("DAGSTER_HOME")
    return Path(given).expanduser().absolute() if given else settings().dagster_home


def configuration_text(template: Template) -> str:
    """Return a template of dagster.yaml, filled in with SALES_HOME."""
    file = importlib.resources.files("sales_assets.deploy.templates").joinpath(f"{template}.yaml")
    text = file.read_text(encoding="utf-8")
    # A JSON string is a double-quoted YAML scalar, which can hold every character of a path.
    return text.replace('"{sales_home}"', json.dumps(str(settings().sales_home), ensure_ascii=False))


def write_configuration() -> Path:
    """Write dagster.yaml for one machine if the home has none; returns the home."""
    home = dagster_home()
    target = home / CONFIGURATION_FILE
    if target.exists():
        return home
    home.mkdir(parents=True, exist_ok=True)
    # Complete or absent, for processes that start at the same time.
    with tempfile.NamedTemporaryFile("w", dir=home, prefix=f"{CONFIGURATION_FILE}.", encoding="utf-8") as file:
        file.write(configuration_text(Template.ONE_MACHINE))
        file.flush()
        Path(file.name).chmod(0o644)
        with suppress(FileExistsError):
            target.hardlink_to(file.name)
    return home


def read_configuration(home: Path) -> Mapping[str, Any]:
    """Parse the dagster.yaml of a home. Raises `SettingsError` if it is not valid YAML."""
    file = home / CONFIGURATION_FILE
    text = file.read_text(encoding="utf-8")
    if not any(line.partition("#")[0].strip() for line in text.splitlines()):
        return {}  # Dagster's defaults
    try:
        return dg.config_from_yaml_strings([text])
    except Exception as error:  # noqa: BLE001  Dagster's and the parser's exceptions have no common class
        cause = error.__cause__ or error
        # Without the parser's excerpt of the file, which may hold a password.
        mark = getattr(cause, "problem_mark", None)
        where = f"{file}, line {mark.line + 1}" if mark else str(file)
        raise SettingsError(f"{where}: {getattr(cause, 'problem', None) or 'not a YAML mapping'}") from None


def sales_home_of(configuration: Mapping[str, Any]) -> str | None:
    """Return the SALES_HOME in a configuration; None if it has none."""
    home = _own_storage(configuration).get("sales_home")
    return home if isinstance(home, str) else None


def uses_settings(configuration: Mapping[str, Any]) -> bool:
    """Return whether the storage is the platform's class, with the address from the settings."""
    config = _own_storage(configuration, {"postgres_url": None})
    return not config.keys() & {"postgres_url", "postgres_db"}


def _own_storage(configuration: Mapping[str, Any], default: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """Return the configuration of the platform's storage class, or the default if another class is configured."""
    storage = configuration.get("storage")
    custom = storage.get("custom") if isinstance(storage, dict) else None
    if not isinstance(custom, dict) or (custom.get("module"), custom.get("class")) != (
        Storage.__module__,
        Storage.__name__,
    ):
        return default or {}
    config = custom.get("config")
    return config if isinstance(config, dict) else {}
