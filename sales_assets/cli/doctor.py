"""`sales-assets doctor`: check configuration, connectivity and backlog, without changing anything."""

import asyncio
import datetime as dt
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import typer

from sales_assets.cli.console import out
from sales_assets.settings import first_day, settings

# The relay polls five times a second; an older event is delayed.
_OLDEST_SECONDS = 60
_SHOWN_CAUSES = 20
# Dagster's daemons send a heartbeat every 30 s.
_OLDEST_HEARTBEAT_SECONDS = 90


@dataclass(frozen=True)
class Finding:
    """One line of the report. `good` is None for a neutral fact."""

    subject: str
    text: str
    good: bool | None = None


def doctor() -> None:
    """Check configuration, connectivity and backlog. Exit code 1 if something needs attention."""
    ill = False
    for finding in examine():
        mark = {True: "[green]ok [/]", False: "[red]!! [/]", None: "   "}[finding.good]
        out.print(mark, end="", markup=True)
        out.print(f"{finding.subject}: {finding.text}")
        ill = ill or finding.good is False
    if ill:
        raise typer.Exit(1)


def examine() -> Iterator[Finding]:
    """Look at each part in turn; a part that can't be looked at is a finding, not an end."""
    from sales_assets.postgres.database import embedded
    from sales_assets.resources.raw_files import RawFiles

    yield Finding("home", str(settings().sales_home))
    if (settings().sales_home / "DEMO").exists():
        yield Finding("home", "holds generated data: it was filled by `sales-assets demo`")
    raw_files = _tried("raw files", RawFiles().probe)
    yield raw_files
    where = "WAREHOUSE_URL" if settings().warehouse_url else f"embedded, log {embedded().log_path}"
    warehouse = _tried("warehouse", lambda: _revision(where))
    yield warehouse
    if warehouse.good and raw_files.good:
        yield from _recorded_files()
    storage = _tried("Dagster storage", _dagster_storage)
    yield storage
    yield _tried("dagster.yaml", _configuration)
    if storage.good:
        yield from _daemon()
    yield _tried("report API", _report_api)
    if not settings().report_api_key.get_secret_value():
        yield Finding("report API", "REPORT_API_KEY is not set", good=False)
    if warehouse.good:
        yield from _state()
    yield from _orders(warehouse_is_there=bool(warehouse.good))


def _tried(subject: str, look: Callable[[], str]) -> Finding:
    from sales_assets.failures import sentence

    try:
        return Finding(subject, look(), good=True)
    except Exception as error:  # noqa: BLE001  every failure of a part is a finding
        return Finding(subject, sentence(error).splitlines()[0], good=False)


def _revision(where: str) -> str:
    from sales_assets.postgres import migrations
    from sales_assets.postgres.connection import connect
    from sales_assets.postgres.database import warehouse_url
    from sales_assets.postgres.queries import statements
    from sales_assets.postgres.warehouse import WarehouseError

    connect(warehouse_url(), "sales_assets doctor").close()  # raises if the database is read-only
    found = migrations.current_revision(warehouse_url())
    latest = migrations.latest_revision()
    if found != latest:
        raise WarehouseError(f"{where}: at revision {found or 'none'}, needs {latest}: run `sales-assets migrate`")
    with connect(warehouse_url(), "sales_assets doctor") as connection:
        for statement in statements("doctor/accepts_writes").values():
            connection.execute(statement)
    return f"{where}, revision {found}"


def _recorded_files() -> Iterator[Finding]:
    """Read the newest recorded file and one more, as a load on this machine would."""
    from sales_assets.postgres.warehouse import Warehouse
    from sales_assets.resources.raw_files import ChecksumMismatch, RawFiles, RawFilesError

    warehouse = Warehouse()
    files = warehouse.rows("doctor/recorded_files", "newest")
    for newest in files[:1]:
        files += warehouse.rows("doctor/recorded_files", "an_older_one", newest=newest["path"])
    intact = 0
    for file in files:
        try:
            for _ in RawFiles().verified_chunks(file["path"], file["sha256"]):
                pass
            intact += 1
        except RawFilesError as error:
            text = str(error)
            if not isinstance(error, ChecksumMismatch) and "://" not in settings().raw_files_location:
                text += "; RAW_FILES_URL is a folder here, so files that other machines have fetched are not seen"
            yield Finding("raw files", text, good=False)
    if files and intact == len(files):
        read = "the newest and a random older file" if len(files) > 1 else "the only file"
        yield Finding("raw files", f"{read} read and verified", good=True)


def _dagster_storage() -> str:
    from sales_assets.deploy.storage import open_as_dagster
    from sales_assets.postgres.connection import connect
    from sales_assets.postgres.warehouse import dagster_storage_url

    url = dagster_storage_url()
    with connect(url, "sales_assets doctor") as connection:
        database = connection.info.dbname
    open_as_dagster(url)
    return f"database {database}"


def _configuration() -> str:
    """Explain how dagster.yaml differs from what this version writes. The file is the operator's: that is not wrong."""
    from sales_assets.deploy.comparison import compare
    from sales_assets.deploy.instance import (
        CONFIGURATION_FILE,
        dagster_home,
        read_configuration,
        sales_home_of,
        uses_settings,
    )
    from sales_assets.deploy.storage import require_sales_home

    file = dagster_home() / CONFIGURATION_FILE
    if not file.exists():
        return f"{file} is written by the next command that needs Dagster"
    configuration = read_configuration(file.parent)
    require_sales_home(sales_home_of(configuration))
    if not uses_settings(configuration):
        _require_storage_of_settings(str(file.parent))
    found = compare(configuration)
    if not found.differences:
        return f"{file} equals the template {found.template}"
    differences = ", ".join(found.differences)
    if found.earlier_version:
        return (
            f"{file} is as version {found.earlier_version} wrote it; remove it to get this version's, from which it "
            f"differs: {differences}"
        )
    return f"{file} is kept as you changed it; nearest template {found.template}, differences: {differences}"


def _require_storage_of_settings(home: str) -> None:
    """Raise `WarehouseError` if the storage that dagster.yaml names is not in the database of the settings."""
    import dagster as dg

    from sales_assets.deploy.daemon import storage_url
    from sales_assets.postgres.connection import is_same_database
    from sales_assets.postgres.warehouse import WarehouseError, dagster_storage_url

    with dg.DagsterInstance.from_config(home) as instance:
        url = storage_url(instance)
    if not is_same_database(url, dagster_storage_url()):
        raise WarehouseError(
            f"the storage in {home}/dagster.yaml, in which Dagster works, is another database than that of the "
            "settings, which this report is about: set DAGSTER_STORAGE_URL to it"
        )


def _daemon() -> Iterator[Finding]:
    """Report which daemon works, and its heartbeats."""
    from sales_assets.deploy.daemon import daemon_sessions
    from sales_assets.deploy.storage import Storage
    from sales_assets.postgres.warehouse import dagster_storage_url

    url = dagster_storage_url()
    sessions = daemon_sessions(url)
    storage = Storage(url)
    try:
        beats = storage.run_storage.get_daemon_heartbeats().values()
    finally:
        storage.event_log_storage.dispose()
    now = dt.datetime.now(dt.UTC)
    age = min((now.timestamp() - beat.timestamp for beat in beats), default=None)
    heartbeat = "no heartbeat yet" if age is None else f"last heartbeat {age:.0f} s ago"
    working = [session for session in sessions if session.holds]
    standing_by = len(sessions) - len(working)
    if working:
        running = (now - working[0].since).total_seconds()
        is_late = (age is None or age > _OLDEST_HEARTBEAT_SECONDS) and running > _OLDEST_HEARTBEAT_SECONDS
        yield Finding("daemon", f"{working[0].name} works, {heartbeat}; {standing_by} stand by", good=not is_late)
    elif age is not None and age < _OLDEST_HEARTBEAT_SECONDS:
        yield Finding(
            "daemon",
            f"{heartbeat}, but none has the lock: it just ended, or it was started without it, by `dagster dev` or "
            "`dagster-daemon run`; beside another daemon it would start runs twice",
        )
    else:
        yield Finding(
            "daemon", "none works, so queued runs, schedules and sensors wait for `sales-assets dev` or `daemon`"
        )


def _report_api() -> str:
    import requests

    from sales_assets.resources.report_api import without_query

    url = settings().report_api_url
    try:
        # Any response will do: a real call would need a report, and requesting one is too expensive for a check.
        requests.get(url, timeout=5, allow_redirects=False)
    except requests.RequestException as error:
        raise OSError(f"{without_query(url)} does not answer ({type(error).__name__})") from None
    return f"{without_query(url)} answers"


def _state() -> Iterator[Finding]:
    from sales_assets.postgres.connection import connect
    from sales_assets.postgres.database import warehouse_url
    from sales_assets.postgres.queries import statements
    from sales_assets.schemas.calendar import date_id

    with connect(warehouse_url(), "sales_assets doctor", writing=False) as connection:
        report = connection.execute(
            "SELECT first_day, last_day, asked_at FROM raw.delivery WHERE kind = 'report' AND outcome = 'delivered' "
            "ORDER BY delivery_id DESC LIMIT 1"
        ).fetchone()
        latest = connection.execute(
            "SELECT max(first_day) AS day FROM raw.delivery WHERE kind = 'increment' AND outcome <> 'failed'"
        ).fetchone()
        waiting = connection.execute("SELECT count(*) AS lines FROM staging.quarantine WHERE state = 'open'").fetchone()
        undone = connection.execute(
            statements("checks/asked_days_done")["offending"],
            {"first_date_id": date_id(first_day()), "last_date_id": 9999_12_31},
        ).fetchall()
    if report is None:
        yield Finding("report", "none yet: run `sales-assets load --report`", good=False)
    else:
        yield Finding(
            "report",
            f"{report['first_day']} to {report['last_day']}, fetched {report['asked_at']:%Y-%m-%d %H:%M}",
            good=True,
        )
    yield _behind(latest["day"] if latest else None)
    yield from _undone([(row["date_id"], row["example"]) for row in undone])
    lines = waiting["lines"] if waiting else 0
    yield Finding(
        "quarantine",
        f"{lines} lines wait (`sales-assets quarantine list`)" if lines else "empty",
        good=not lines,
    )


def _undone(rows: Iterable[tuple[int, str]]) -> Iterator[Finding]:
    """Yield one finding per cause, with all its days."""
    from sales_assets.partitions import spelled_out
    from sales_assets.schemas.calendar import day_of

    days_of_cause: dict[str, list[dt.date]] = {}
    for number, cause in rows:
        days_of_cause.setdefault(cause, []).append(day_of(number))
    if not days_of_cause:
        yield Finding("days", "every requested day is done", good=True)
    for cause, days in list(days_of_cause.items())[:_SHOWN_CAUSES]:
        yield Finding("days", f"{spelled_out(days)}: {cause}", good=False)
    if len(days_of_cause) > _SHOWN_CAUSES:
        yield Finding("days", f"... and {len(days_of_cause) - _SHOWN_CAUSES} further causes", good=False)


def _orders(*, warehouse_is_there: bool) -> Iterator[Finding]:
    """Check the partner orders; a platform that takes none needs neither partner nor broker."""
    from sales_assets.postgres.connection import connect
    from sales_assets.postgres.database import warehouse_url
    from sales_assets.postgres.queries import statements

    url = settings().partnerapi_url
    if url:
        yield _tried("partner API", lambda: _partner_api(url))
    else:
        yield Finding("partner API", "PARTNERAPI_URL is not set, no orders are accepted")
    broker = _tried("broker", _broker)
    yield broker if broker.good or url else Finding("broker", f"{broker.text}; orders and mailings need it")
    if not warehouse_is_there:
        return
    with connect(warehouse_url(), "sales_assets doctor", writing=False) as connection:
        outbox, unsettled, unmapped, shared = (
            connection.execute(statements(file)[name]).fetchall()
            for file, name in (
                ("orders/outbox", "depth"),
                ("orders/partner_order", "unsettled"),
                ("staging/partner_mapping", "waiting"),
                ("staging/partner_mapping", "shared_phones"),
            )
        )
    depth, oldest = outbox[0]["depth"], outbox[0]["oldest_seconds"]
    yield Finding(
        "outbox",
        f"{depth} events wait for the broker, the oldest for {oldest:.0f} s" if depth else "empty",
        good=oldest < _OLDEST_SECONDS,
    )
    for what, number in unsettled[0].items():
        if number:
            yield Finding("orders", f"{number} {what} with unknown outcome at the partner are being looked up")
    yield Finding(
        "orders",
        f"{len(unmapped)} lines wait for a mapping (`sales-assets orders waiting`)" if unmapped else "all mapped",
        good=not unmapped,
    )
    if shared:
        yield Finding("orders", f"{len(shared)} phones are mapped to several customers and therefore unused")


def _partner_api(url: str) -> str:
    import requests

    try:
        # Any response will do; a real call would concern an actual order.
        requests.get(url, timeout=5, allow_redirects=False)
    except requests.RequestException as error:
        raise OSError(f"{_address(url)} does not answer ({type(error).__name__})") from None
    return f"{_address(url)} answers"


def _broker() -> str:
    from sales_assets.services.partner_orders.broker import Broker

    url = settings().rabbitmq_url.get_secret_value()
    try:
        asyncio.run(Broker(url, 5).ping())
    except (OSError, ValueError) as error:  # the libraries' connection errors are OSErrors
        raise OSError(f"no RabbitMQ at {_address(url)} ({type(error).__name__})") from None
    return f"RabbitMQ at {_address(url)} answers"


def _address(url: str) -> str:
    """Reduce a URL to host and port, without user name, password and the rest."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


def _behind(latest: dt.date | None) -> Finding:
    from sales_assets.partitions import DAYS, days_of

    yesterday = days_of([DAYS.get_last_partition_key() or ""])[0]
    if latest is None:
        return Finding("days", "no day was loaded yet", good=False)
    behind = (yesterday - latest).days
    text = f"loaded up to {latest}" + (f", {behind} behind yesterday" if behind > 0 else "")
    return Finding("days", text, good=behind <= 0)
