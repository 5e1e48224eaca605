"""Dagster's home below SALES_HOME: its configuration file and the environment of everything that uses it."""

import importlib.resources
import os
from pathlib import Path

from sales_assets.pipeline.memory import ARENAS
from sales_assets.postgres.connection import connect
from sales_assets.postgres.warehouse import dagster_storage_url
from sales_assets.settings import settings


def prepare_dagster_home() -> Path:
    """Write dagster.yaml and point this process, and with it its children, at it. Returns the folder.

    Raises `psycopg.OperationalError` where there is no way to the storage. Its address goes by the environment: it may
    hold a password, and files are read by more eyes.
    """
    home = settings().dagster_home
    home.mkdir(parents=True, exist_ok=True)
    text = importlib.resources.files("sales_assets.deploy").joinpath("dagster.yaml").read_text(encoding="utf-8")
    target = home / "dagster.yaml"
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        target.write_text(text, encoding="utf-8")
    os.environ["DAGSTER_HOME"] = str(home)
    storage = dagster_storage_url()
    # Dagster tells a wrong address by a page of traceback, after half a minute of trying.
    connect(storage, "sales_assets storage").close()
    os.environ["DAGSTER_STORAGE_URL"] = storage
    # A range of a year writes thousands of events; one INSERT each is most of the run.
    os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", "100")
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
    # glibc reads it when a process starts: what `share_one_pool` does is too late for threads that a run has by then.
    os.environ.setdefault("MALLOC_ARENA_MAX", str(ARENAS))
    return home
