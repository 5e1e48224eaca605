"""Prepare DAGSTER_HOME: its configuration file, and the environment that Dagster's processes need."""

import importlib.resources
import json
import os
import re
from pathlib import Path

from sales_assets.pipeline.memory import ARENAS
from sales_assets.postgres.connection import connect
from sales_assets.postgres.warehouse import dagster_storage_url
from sales_assets.settings import SettingsError, env_file, settings

_FILE = "dagster.yaml"
_SALES_HOME = re.compile(r'^ +sales_home: (".*")$', re.MULTILINE)

_DEFAULTS = {
    # A range of a year writes thousands of events; one INSERT for each would take most of the run.
    "DAGSTER_EVENT_BATCH_SIZE": "100",
    "DAGSTER_DISABLE_TELEMETRY": "1",
    # glibc reads it at process start: `share_one_pool` comes too late for threads that a run has by then.
    "MALLOC_ARENA_MAX": str(ARENAS),
}


def prepare_dagster_home() -> Path:
    """Write dagster.yaml and set DAGSTER_HOME for this process and its children; returns the folder.

    Raises `psycopg.OperationalError` if the storage can't be reached, and `SettingsError` if DAGSTER_HOME belongs to
    another SALES_HOME.
    """
    home = _given_home() or settings().dagster_home
    if _write_configuration(home):
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
    home = _given_home(replace_foreign=True) or settings().dagster_home
    _write_configuration(home)
    file = env_file()
    return {
        "DAGSTER_HOME": str(home),
        "SALES_HOME": str(settings().sales_home),
        **({"SALES_ENV_FILE": str(file)} if file is not None else {}),
        **{name: os.environ.get(name) or value for name, value in _DEFAULTS.items()},
    }


def _given_home(*, replace_foreign: bool = False) -> Path | None:
    """Return the DAGSTER_HOME that the user set, which takes precedence over SALES_HOME/dagster; None if unset.

    Raises `SettingsError` if it belongs to another SALES_HOME (as after `eval "$(sales-assets env)"` for that one): its
    files would be mixed with the runs in this one's database.
    """
    given = os.environ.get("DAGSTER_HOME")
    if not given:
        return None
    home = Path(given).expanduser().absolute()
    owner = _owner(home)
    if owner in (None, settings().sales_home) or home == settings().dagster_home:
        return home
    if replace_foreign:
        return None
    raise SettingsError(
        f"DAGSTER_HOME: {home} belongs to SALES_HOME={owner}, but SALES_HOME is {settings().sales_home}: "
        'unset DAGSTER_HOME, or run eval "$(sales-assets env)"'
    )


def _owner(home: Path) -> Path | None:
    """Return the SALES_HOME that dagster.yaml was written for; None without one, or if a user wrote it."""
    try:
        line = _SALES_HOME.search((home / _FILE).read_text(encoding="utf-8"))
        return Path(json.loads(line[1])) if line else None
    except (OSError, ValueError):
        return None


def _write_configuration(home: Path) -> bool:
    """Write dagster.yaml unless a user wrote one; returns whether it is generated."""
    target = home / _FILE
    if target.exists() and home != settings().dagster_home and _owner(home) is None:
        return False
    home.mkdir(parents=True, exist_ok=True)
    template = importlib.resources.files("sales_assets.deploy").joinpath(_FILE).read_text(encoding="utf-8")
    # A JSON string is a double-quoted YAML scalar, which can hold every character of a path.
    text = template.replace('"{sales_home}"', json.dumps(str(settings().sales_home), ensure_ascii=False))
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        target.write_text(text, encoding="utf-8")
    return True
