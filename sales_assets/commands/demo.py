"""`sales-assets demo` and `dev`: everything on this machine, from nothing, and nothing left behind.

Belongs here: starting the parts in order and ending them. Does not belong here: the parts; the services
(``demo_services``).
"""

import datetime as dt
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from sales_assets.commands.load import LoadResult, load
from sales_assets.database import embedded, warehouse_url
from sales_assets.deploy.instance import prepare_dagster_home
from sales_assets.deploy.ui import Ui, start_sensor, ui_running
from sales_assets.pipeline.progress import Progress
from sales_assets.postgres import migrations
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.schemas.calendar import date_id
from sales_assets.settings import SettingsError, settings

_MARK = "DEMO"
_NEWS_EVERY_SECONDS = 45.0

Row = dict[str, Any]


@contextmanager
def demo_loaded(progress: Progress, *, once: bool) -> Iterator[tuple[LoadResult, list[Row]]]:
    """Embedded server, migrations, simulated report API with generated data, and everything it has, loaded.

    Gives the result and the sales per day. All that was started ends with the block. Raises `SettingsError` for a
    home that holds something else than a demo: generated sales must not mix with real ones.
    """
    _require_own_home()
    # numpy and the HTTP server are of use to no other command
    from sales_assets.services.server import running
    from sales_assets.simulators.report_api.app import ReportApi
    from sales_assets.simulators.report_api.generate import Shop
    from sales_assets.simulators.report_api.live import live, utc_today

    key = secrets.token_hex(16)
    folder = settings().sales_home / "generated"
    with ExitStack() as stack:
        progress.say("starting PostgreSQL")
        stack.enter_context(_embedded_running())
        progress.say("migrating the warehouse")
        migrations.migrate(warehouse_url())
        progress.say("generating reports")
        stack.enter_context(live(folder, Shop(seed=7), every=None if once else _NEWS_EVERY_SECONDS))
        url = stack.enter_context(running(ReportApi(folder, api_key=key)))
        _point_settings_at(url, key)
        today = utc_today()
        result = load(
            fresh_report=True,
            from_day=today - dt.timedelta(days=30),
            to_day=today - dt.timedelta(days=1),
            progress=progress,
        )
        days = [date_id(today - dt.timedelta(days=n)) for n in range(30, 0, -1)]
        yield result, Warehouse().rows("facts/f_sales", "summary", date_ids=days)


@contextmanager
def development(progress: Progress) -> Iterator[None]:
    """The embedded server (where none is configured), migrated, and Dagster's home, for work on the platform."""
    with ExitStack() as stack:
        if settings().warehouse_url is None:
            progress.say("starting PostgreSQL")
            stack.enter_context(_embedded_running())
            migrations.migrate(warehouse_url())
        prepare_dagster_home()
        yield


def serve_ui(port: int, *, sensors: Sequence[str], on_ready: Callable[[Ui], None]) -> None:
    """The Dagster UI until Ctrl-C, TERM or the terminal's end. Raises `UiError`."""
    home = prepare_dagster_home()
    with ui_running(port, home) as ui:
        for sensor in sensors:
            start_sensor(ui.url, sensor)
        on_ready(ui)
        ui.process.wait()


@contextmanager
def _embedded_running() -> Iterator[None]:
    """The embedded server, stopped at the end only if it was not running before."""
    server = embedded()
    was_running = server.is_running()
    try:
        server.ensure_running()
        yield
    finally:
        if not was_running:
            server.stop()


def _require_own_home() -> None:
    home = settings().sales_home
    for name in ("warehouse_url", "dagster_storage_url", "raw_files_url"):
        if getattr(settings(), name):
            raise SettingsError(f"{name.upper()} is set: the demo keeps all it makes in SALES_HOME, unset it")
    if embedded().data.exists() and not (home / _MARK).exists():
        raise SettingsError(
            f"SALES_HOME {home} holds a warehouse that the demo did not make, and generated sales would mix with "
            "its rows: set SALES_HOME to another folder"
        )
    home.mkdir(parents=True, exist_ok=True)
    (home / _MARK).touch()


def _point_settings_at(url: str, key: str) -> None:
    """Make this process and its children ask the demo's own report API, and see its orders as sales at once."""
    os.environ |= {"REPORT_API_URL": url, "REPORT_API_KEY": key, "SALE_ON": "created"}
    settings.cache_clear()
