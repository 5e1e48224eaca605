"""The pipeline of the demo: embedded server, migrations, and a simulated report API with generated data."""

import datetime as dt
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from sales_assets.pipeline.progress import Progress
from sales_assets.postgres import migrations
from sales_assets.postgres.database import embedded, embedded_running, warehouse_url
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.schemas.calendar import date_id
from sales_assets.services.http.server import running
from sales_assets.settings import SettingsError, definition_settings, settings
from sales_assets.simulators.report_api.app import ReportApi
from sales_assets.simulators.report_api.generate import Shop
from sales_assets.simulators.report_api.live import live, utc_today

_MARK = "DEMO"
_DAYS = 30
_NEWS_EVERY_SECONDS = 45.0


@contextmanager
def platform_running(progress: Progress, *, once: bool) -> Iterator[tuple[dt.date, dt.date]]:
    """Run embedded server, migrations and a simulated report API with generated data within the block.

    Yields the first and the last day with data; unless `once`, new increments follow. Raises `SettingsError` if
    SALES_HOME holds other data than a demo's: generated sales must not mix with real ones.
    """
    _require_own_home()
    key = secrets.token_hex(16)
    folder = settings().sales_home / "generated"
    with ExitStack() as stack:
        progress.notify("starting PostgreSQL")
        stack.enter_context(embedded_running())
        progress.notify("migrating the warehouse")
        migrations.migrate(warehouse_url())
        progress.notify("generating reports")
        stack.enter_context(live(folder, Shop(seed=7), every=None if once else _NEWS_EVERY_SECONDS))
        url = stack.enter_context(running(ReportApi(folder, api_key=key)))
        today = utc_today()
        first = today - dt.timedelta(days=_DAYS)
        _point_settings_at(url, key, _first_day_of_home(first))
        yield first, today - dt.timedelta(days=1)


def sales_by_day(first: dt.date, last: dt.date) -> list[dict[str, Any]]:
    """Read rows, refunds and net amount of each day first..last (inclusive) from mart.f_sales."""
    days = [date_id(first + dt.timedelta(days=n)) for n in range((last - first).days + 1)]
    return Warehouse().rows("mart/f_sales", "summary", date_ids=days)


def _first_day_of_home(first: dt.date) -> dt.date:
    """Return the first day of data ever loaded into this home: days loaded weeks ago stay in the calendar."""
    mark = settings().sales_home / _MARK
    if not mark.read_text(encoding="utf-8"):
        mark.write_text(first.isoformat(), encoding="utf-8")
    return dt.date.fromisoformat(mark.read_text(encoding="utf-8"))


def _require_own_home() -> None:
    home = settings().sales_home
    for name in ("warehouse_url", "dagster_storage_url", "raw_files_url"):
        if getattr(settings(), name):
            raise SettingsError(f"{name.upper()} is set: unset it, the demo stores everything in SALES_HOME")
    if embedded().data.exists() and not (home / _MARK).exists():
        raise SettingsError(
            f"SALES_HOME {home} holds a warehouse that the demo did not create, and generated sales would mix with "
            "its rows: set SALES_HOME to another folder"
        )
    home.mkdir(parents=True, exist_ok=True)
    (home / _MARK).touch()


def _point_settings_at(url: str, key: str, first: dt.date) -> None:
    """Configure this process and its children for the demo's report API, and count accepted orders as sales.

    The calendar begins with the demo's data. Call it before `sales_assets.partitions` is imported.
    """
    os.environ |= {
        "REPORT_API_URL": url,
        "REPORT_API_KEY": key,
        "SALE_ON": "created",
        "SALES_FIRST_DAY": first.isoformat(),
    }
    settings.cache_clear()
    definition_settings.cache_clear()
