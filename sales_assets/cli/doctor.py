"""`sales-assets doctor`: check configuration, connectivity and backlog, without changing anything."""

import asyncio
import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Sequence
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
# The sensor looks for loaded days every ten minutes and requests three ranges of them at a time.
_LONGEST_LAKE_DELAY = dt.timedelta(hours=1)


@dataclass(frozen=True)
class Finding:
    """One line of the report. `good` is None for a neutral fact; `step` is the remedy."""

    subject: str
    text: str
    good: bool | None = None
    step: str = ""


def doctor() -> None:
    """Check configuration, connectivity and backlog. Exit code 1 if something needs attention.

    The last line is the next step: the remedy for the first problem, or the next command if there is none.
    """
    findings = []
    for finding in examine():
        findings.append(finding)
        mark = {True: "[green]ok [/]", False: "[red]!! [/]", None: "   "}[finding.good]
        out.print(mark, end="", markup=True)
        out.print(f"{finding.subject}: {finding.text}")
    ill = [finding for finding in findings if finding.good is False]
    out.print(f"next step: {next_step(findings)}")
    if ill:
        raise typer.Exit(1)


def next_step(findings: Sequence[Finding]) -> str:
    """Return the step of the first finding that needs attention, else of the first neutral finding with a step."""
    ill = [finding for finding in findings if finding.good is False]
    if ill:
        return ill[0].step or f"see `{ill[0].subject}` above, then run `sales-assets doctor` again"
    return next((finding.step for finding in findings if finding.step), "none, all is well")


def examine() -> Iterator[Finding]:
    """Check each part in turn. A check that raises becomes a finding and does not stop the others."""
    from sales_assets.postgres.database import embedded
    from sales_assets.resources.raw_files import RawFiles

    yield Finding("home", str(settings().sales_home))
    if (settings().sales_home / "DEMO").exists():
        yield Finding("home", "holds generated data: it was filled by `sales-assets demo`")
    raw_files = _tried("raw files", RawFiles().probe, "set RAW_FILES_URL (or SALES_HOME) to a writable location")
    yield raw_files
    # Connecting to the embedded server would create it.
    is_created = embedded().data.exists()
    if settings().warehouse_url or is_created:
        where = "WAREHOUSE_URL" if settings().warehouse_url else f"embedded, log {embedded().log_path}"
        warehouse = _tried("warehouse", lambda: _revision(where), _warehouse_step)
    else:
        step = "run `sales-assets migrate`: it creates the warehouse in SALES_HOME"
        warehouse = Finding("warehouse", "embedded, not created yet", good=False, step=step)
    yield warehouse
    if warehouse.good and raw_files.good:
        yield from _recorded_files()
    if settings().dagster_storage_url or settings().warehouse_url or is_created:
        storage = _tried("Dagster storage", _dagster_storage, "correct DAGSTER_STORAGE_URL, or create its database")
    else:
        storage = Finding("Dagster storage", "embedded, not created yet")
    yield storage
    yield _tried("dagster.yaml", _configuration, "correct the file, or remove it: the next command writes it again")
    if storage.good:
        yield from _daemon()
    api = _tried("report API", _report_api, "set REPORT_API_URL to your report API; `sales-assets init` asks for it")
    yield api
    if not settings().report_api_key.get_secret_value():
        step = "set REPORT_API_KEY in the environment or .env; `sales-assets init` asks for it"
        yield Finding("report API", "REPORT_API_KEY is not set", good=False, step=step)
    elif api.good:
        yield from _refused_key()
    yield _alerts()
    if warehouse.good:
        yield from _state()
    if settings().lake_url:
        yield from _lake(warehouse_is_there=bool(warehouse.good), storage_is_there=bool(storage.good))
    yield from _orders(warehouse_is_there=bool(warehouse.good))
    if warehouse.good:
        yield from _erased_phones()


def _tried(subject: str, look: Callable[[], str], step: str | Callable[[Exception], str]) -> Finding:
    try:
        return Finding(subject, look(), good=True)
    except Exception as error:  # noqa: BLE001  every failure of a part is a finding
        return _failed(subject, error, step if isinstance(step, str) else step(error))


def _failed(subject: str, error: Exception, step: str) -> Finding:
    from sales_assets.failures import sentence

    return Finding(subject, sentence(error).splitlines()[0], good=False, step=step)


def _warehouse_step(error: Exception) -> str:
    from sales_assets.failures import is_unreachable

    if settings().warehouse_url and is_unreachable(error):
        return "correct WAREHOUSE_URL in the environment or .env, or start its server"
    return "run `sales-assets migrate`: it upgrades the warehouse, or reports what is wrong with WAREHOUSE_URL"


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
    """Read the newest recorded file and a random older one, as a load on this machine would."""
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
            step = "restore the file from a backup, or set RAW_FILES_URL to where the raw files are"
            yield Finding("raw files", text, good=False, step=step)
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
    """Explain how dagster.yaml differs from this version's templates. Operators may edit the file."""
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
            f"{file} is unchanged since version {found.earlier_version} wrote it; remove it to get this version's "
            f"file, which differs in: {differences}"
        )
    return f"{file} contains your changes; nearest template {found.template}, differences: {differences}"


def _require_storage_of_settings(home: str) -> None:
    """Raise `WarehouseError` if dagster.yaml and the settings configure different storage databases."""
    import dagster as dg

    from sales_assets.deploy.daemon import storage_url
    from sales_assets.postgres.connection import is_same_database
    from sales_assets.postgres.warehouse import WarehouseError, dagster_storage_url

    with dg.DagsterInstance.from_config(home) as instance:
        url = storage_url(instance)
    if not is_same_database(url, dagster_storage_url()):
        raise WarehouseError(
            f"{home}/dagster.yaml configures another storage database than the settings, which this report is about: "
            "set DAGSTER_STORAGE_URL to the database of the file"
        )


def _daemon() -> Iterator[Finding]:
    """Report the active daemon and its last heartbeat."""
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
        yield Finding(
            "daemon",
            f"{working[0].name} is active, {heartbeat}; {standing_by} stand by",
            good=not is_late,
            step="restart the daemon (`sales-assets daemon` or `dev`); its log has the reason" if is_late else "",
        )
    elif age is not None and age < _OLDEST_HEARTBEAT_SECONDS:
        yield Finding(
            "daemon",
            f"{heartbeat}, but no daemon holds the lock: it has just ended, or was started by `dagster dev` or "
            "`dagster-daemon run`, which take no lock; next to another daemon it would start runs twice",
        )
    else:
        yield Finding(
            "daemon",
            "not running: queued runs, schedules and sensors wait for `sales-assets dev` or `daemon`",
            step="`sales-assets dev` runs the UI and the daemon; switch on the sensor new_increments under Automation",
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


def _refused_key() -> Iterator[Finding]:
    from sales_assets.resources.report_api import ReportApi, ReportApiError

    try:
        ReportApi().require_access()
    except ReportApiError as error:
        yield _failed("report API", error, "correct REPORT_API_KEY in the environment or .env")


def _alerts() -> Finding:
    """Report the names of the alert receivers; the rest of their URLs may be secret."""
    from sales_assets.resources.alert_receivers import Receivers

    if not settings().alert_receivers:
        return Finding("alerts", "ALERT_URLS is not set, failures are shown in the Dagster UI only")
    return _tried(
        "alerts",
        lambda: f"sent to {', '.join(Receivers().names)}; `sales-assets alerts test` tries them",
        "correct ALERT_URLS, or install the extra [alerts]",
    )


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
        step = "`sales-assets load --report` fetches a report and loads its days"
        yield Finding("report", "none yet: run `sales-assets load --report`", good=False, step=step)
    else:
        yield Finding(
            "report",
            f"{report['first_day']} to {report['last_day']}, fetched {report['asked_at']:%Y-%m-%d %H:%M}",
            good=True,
        )
    yield _backlog(latest["day"] if latest else None)
    yield from _unfinished_days([(row["date_id"], row["example"]) for row in undone])
    lines = waiting["lines"] if waiting else 0
    yield Finding(
        "quarantine",
        f"{lines} lines wait (`sales-assets quarantine list`)" if lines else "empty",
        good=not lines,
        step="`sales-assets quarantine list` shows the lines; `sales-assets quarantine replay` resolves them"
        if lines
        else "",
    )


def _unfinished_days(rows: Iterable[tuple[int, str]]) -> Iterator[Finding]:
    """Yield one finding per cause, with all its days."""
    from sales_assets.partitions import format_days
    from sales_assets.schemas.calendar import day_of

    days_of_cause: dict[str, list[dt.date]] = {}
    for number, cause in rows:
        days_of_cause.setdefault(cause, []).append(day_of(number))
    if not days_of_cause:
        yield Finding("days", "every requested day is done", good=True)
    for cause, days in list(days_of_cause.items())[:_SHOWN_CAUSES]:
        first, last = min(days), max(days)
        step = f"remove the cause, then `sales-assets load --from {first} --to {last}`"
        yield Finding("days", f"{format_days(days)}: {cause}", good=False, step=step)
    if len(days_of_cause) > _SHOWN_CAUSES:
        yield Finding("days", f"... and {len(days_of_cause) - _SHOWN_CAUSES} further causes", good=False)


def _lake(*, warehouse_is_there: bool, storage_is_there: bool) -> Iterator[Finding]:
    """Check the lake's catalog and location, the days not copied yet, and the last comparison with the mart."""
    if warehouse_is_there:
        yield _tried("lake", _lake_state, "correct LAKE_URL, or install the extra [lake]")
    if storage_is_there:
        try:
            yield from _lake_backlog()
        except Exception as error:  # noqa: BLE001  as in `_tried`
            yield _failed("lake", error, "correct DAGSTER_STORAGE_URL, or create its database")


def _lake_state() -> str:
    from sales_assets.defs.lake.configured import lake_of
    from sales_assets.postgres.warehouse import Warehouse

    state = lake_of(Warehouse()).probe()
    committed = f"{state.rows} rows, last commit {state.committed_at:%Y-%m-%d %H:%M}" if state.committed_at else "empty"
    return f"{settings().lake_url} can be read and written, lake.f_sales: {committed}"


def _lake_backlog() -> Iterator[Finding]:
    import dagster as dg

    from sales_assets.defs.lake.changed_days import changed_days, changed_lake_days
    from sales_assets.defs.lake.f_sales import EQUAL_TO_MART
    from sales_assets.defs.mart.f_sales import F_SALES
    from sales_assets.defs.mart.f_sales_partner_orders import F_SALES_PARTNER_ORDERS
    from sales_assets.deploy.instance import CONFIGURATION_FILE, dagster_home
    from sales_assets.partitions import days_of, format_days

    if not (dagster_home() / CONFIGURATION_FILE).exists():
        return  # Dagster was not used yet
    with dg.DagsterInstance.from_config(str(dagster_home())) as instance:
        changed = changed_days(instance)
        oldest = [
            dt.datetime.fromtimestamp(record.timestamp, dt.UTC)
            for asset in (F_SALES, F_SALES_PARTNER_ORDERS)
            for record in instance.fetch_materializations(
                dg.AssetRecordsFilter(asset, storage_ids=[min(changed.values(), default=0)]), limit=1
            ).records
        ]
        compared = instance.get_latest_asset_check_evaluation_record(EQUAL_TO_MART.key)
    if changed:
        since = min(oldest)
        is_late = dt.datetime.now(dt.UTC) - since > _LONGEST_LAKE_DELAY
        yield Finding(
            "lake",
            f"{format_days(days_of(changed))} were loaded since {since:%Y-%m-%d %H:%M} and are not copied yet; the "
            f"sensor {changed_lake_days.name} requests them, or materialize lake/f_sales for these days",
            good=False if is_late else None,
            step=f"switch on the sensor {changed_lake_days.name}, or materialize lake/f_sales" if is_late else "",
        )
    else:
        yield Finding("lake", "every loaded day is copied", good=True)
    evaluation = compared and compared.event and compared.event.asset_check_evaluation
    if evaluation and not evaluation.passed:
        yield Finding(
            "lake",
            f"the check {EQUAL_TO_MART.name} failed: materialize lake/f_sales for the days that it names",
            good=False,
            step="materialize lake/f_sales for the days that the check names",
        )


def _orders(*, warehouse_is_there: bool) -> Iterator[Finding]:
    """Check partner orders. A platform without them needs neither partner API nor broker."""
    from sales_assets.postgres.connection import connect
    from sales_assets.postgres.database import warehouse_url
    from sales_assets.postgres.queries import statements

    url = settings().partnerapi_url
    if url:
        yield _tried("partner API", lambda: _partner_api(url), "set PARTNERAPI_URL to the partner's API")
    else:
        yield Finding("partner API", "PARTNERAPI_URL is not set, no orders are accepted")
    broker = _tried("broker", _broker, "start RabbitMQ, or set RABBITMQ_URL to it")
    yield broker if broker.good or url else Finding("broker", f"{broker.text}; orders and mailings need it")
    if not warehouse_is_there:
        return
    with connect(warehouse_url(), "sales_assets doctor", writing=False) as connection:
        outbox, unresolved, unmapped, shared = (
            connection.execute(statements(file)[name]).fetchall()
            for file, name in (
                ("orders/outbox", "depth"),
                ("orders/partner_order", "unresolved"),
                ("staging/partner_mapping", "waiting"),
                ("staging/partner_mapping", "shared_phones"),
            )
        )
    depth, oldest = outbox[0]["depth"], outbox[0]["oldest_seconds"]
    yield Finding(
        "outbox",
        f"{depth} events wait for the broker, the oldest for {oldest:.0f} s" if depth else "empty",
        good=oldest < _OLDEST_SECONDS,
        step="run `sales-assets api`, or its relay: `sales-assets api --part relay`"
        if oldest >= _OLDEST_SECONDS
        else "",
    )
    for what, number in unresolved[0].items():
        if number:
            yield Finding("orders", f"{number} {what} with unknown outcome at the partner are being looked up")
    yield Finding(
        "orders",
        f"{len(unmapped)} lines wait for a mapping (`sales-assets orders waiting`)" if unmapped else "all mapped",
        good=not unmapped,
        step="`sales-assets orders waiting` lists them; `sales-assets orders map FILE` maps them" if unmapped else "",
    )
    if shared:
        yield Finding("orders", f"{len(shared)} phones are mapped to several customers and therefore unused")


def _erased_phones() -> Iterator[Finding]:
    """Compare SALES_ERASURE_SECRET with that of former erasures; yield nothing if there are none."""
    from sales_assets.postgres.warehouse import Warehouse
    from sales_assets.schemas.pseudonyms import Pseudonyms

    pseudonyms = Pseudonyms(settings().sales_erasure_secret.get_secret_value())
    try:
        rows = Warehouse().rows("mailings/erased_phone", "of_another_secret", key_id=pseudonyms.key_id)
    except Exception as error:  # noqa: BLE001  as in `_tried`
        yield _failed("erased phones", error, "let the role read mailings.erased_phone, as `sales-assets migrate` does")
        return
    if rows[0]["phones"]:
        step = "set SALES_ERASURE_SECRET to the value that `sales-assets forget` used, in the environment or .env"
        yield Finding("erased phones", pseudonyms.other_secret, good=False, step=step)
    elif rows[0]["all_phones"]:
        yield Finding("erased phones", f"{rows[0]['all_phones']} are recognized by SALES_ERASURE_SECRET", good=True)


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


def _backlog(latest: dt.date | None) -> Finding:
    from sales_assets.partitions import DAYS, days_of

    yesterday = days_of([DAYS.get_last_partition_key() or ""])[0]
    if latest is None:
        return Finding("days", "no day was loaded yet", good=False, step="`sales-assets load --report` loads days")
    behind = (yesterday - latest).days
    if behind <= 0:
        return Finding("days", f"loaded up to {latest}", good=True)
    step = f"`sales-assets load --from {latest + dt.timedelta(days=1)} --to {yesterday}` loads the days behind"
    return Finding("days", f"loaded up to {latest}, {behind} behind yesterday", good=False, step=step)
