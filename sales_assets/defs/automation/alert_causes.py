"""Find the causes of alerts: failed runs and checks in Dagster's event log, and backlogs in the warehouse."""

import datetime as dt
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
from sqlalchemy.exc import SQLAlchemyError

from sales_assets.dagster_internals import assets_of_run, events_after, is_retried, range_of
from sales_assets.defs.automation.alert_state import Alert, Cause, Spans, State
from sales_assets.defs.load_events import CAUSES
from sales_assets.defs.mart.f_sales import F_SALES
from sales_assets.partitions import days_in, days_of, ranges
from sales_assets.postgres.connection import connect
from sales_assets.postgres.database import warehouse_url
from sales_assets.postgres.queries import statements
from sales_assets.scrubbing import redacted
from sales_assets.settings import first_day, secrets_in_force, settings

# Groups of causes that are read from the warehouse at each tick.
MISSING_DAYS, QUARANTINE, OUTBOX, MAILINGS, WAREHOUSE = "missing days", "quarantine", "outbox", "mailings", "warehouse"

_EVENTS = (
    dg.DagsterEventType.RUN_FAILURE,
    dg.DagsterEventType.RUN_SUCCESS,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
)
_EVENTS_PER_TICK = 500
_SETTLED_SECONDS = 60
# The first tick reads the events of the last day.
_FIRST_WINDOW = dt.timedelta(days=1)
_MISSING_WINDOW_DAYS = 30
_LEAST_FINISHED_MESSAGES = 20
_LONGEST_REASON = 400
_SHOWN_ASSETS = 3
_CONNECT_SECONDS = 2

_LOAD_AGAIN = (
    "`sales-assets why {first}` explains a day. Once the cause is fixed, run "
    "`sales-assets load --from {first} --to {last}`."
)

# Reasons of a failed run with the days of each.
Causes = list[tuple[str, Spans]]

# Checks whose subject has a separate alert: failed days, rejected rows, failed messages.
_ALERTED_SEPARATELY = {"asked_days_done", "quarantine_empty", "few_failed"}
_DATE = r"\d{4}-\d\d-\d\d"
# Parts of a reason that differ between days and attempts of one cause.
_VARIABLE = re.compile(r"[0-9a-f-]*\d[\w.:+-]*", re.IGNORECASE)


def read_events(
    instance: dg.DagsterInstance,
    repository: dg.RepositoryDefinition | None,
    state: State,
    now: dt.datetime,
    warn: Callable[[str], None],
) -> None:
    """Update the alerts of runs and checks by the events since the last tick.

    A malformed event is skipped with a warning, because it would stop all alerts.
    """
    for number, entry in events_after(instance, _EVENTS, state.position, now - _FIRST_WINDOW, _EVENTS_PER_TICK):
        try:
            if not _read_event(instance, repository, entry, state, now):
                return
        except SQLAlchemyError:  # Dagster's storage is unreachable: the next tick reads the event again
            raise
        except Exception as error:  # noqa: BLE001 - one malformed event must not stop all alerts
            warn(f"skipped malformed event {number} of Dagster's event log: {type(error).__name__}")
        state.position = number


def _read_event(
    instance: dg.DagsterInstance,
    repository: dg.RepositoryDefinition | None,
    entry: dg.EventLogEntry,
    state: State,
    now: dt.datetime,
) -> bool:
    """Process one event; return False if it can't be processed yet."""
    event = entry.dagster_event
    assert event is not None, "these events are Dagster's"
    if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
        _read_check(event.asset_check_evaluation_data, state, now)
    elif (run := instance.get_run_by_id(entry.run_id)) is not None:
        if not run.is_finished and now.timestamp() - entry.timestamp < _SETTLED_SECONDS:
            return False  # Dagster stores the event first, then the run's status and whether it is retried
        assets = assets_of_run(run, repository)
        if event.event_type == dg.DagsterEventType.RUN_SUCCESS:
            _end(state, run, assets, _run_days(run), now)
        elif not is_retried(run):
            _read_failure(run, assets, _causes_of(instance, run, event.message or ""), state, now)
    return True


def _read_failure(
    run: dg.DagsterRun, assets: frozenset[dg.AssetKey], causes: Causes, state: State, now: dt.datetime
) -> None:
    days = _run_days(run)
    broken = {day for _, spans in causes for day in days_in(spans)}
    loaded = ranges(set(days_in(days)) - broken) if broken else []
    if loaded:
        _end(state, run, assets, loaded, now)
    for reason, spans in causes:
        state.add(_run_cause(run, assets, reason, spans or days), now)


def _end(state: State, run: dg.DagsterRun, assets: frozenset[dg.AssetKey], days: Spans, now: dt.datetime) -> None:
    """Remove the days of a successful run from the alerts of failed runs of the same job or assets."""
    keys = {asset.to_user_string() for asset in assets}
    for alert in state.open.values():
        cause = alert.cause
        # Materializations of selected assets all have the same job name: only the assets show which run repeats which.
        is_same_job = cause.job == run.job_name and not (cause.assets and run.asset_selection)
        repeats = is_same_job or (cause.assets and keys >= {*cause.assets})
        # A run without days repeats a failed run without days, and no other.
        if cause.job and repeats and (days or not cause.days):
            state.remove_days(alert, days, now)


def _run_cause(run: dg.DagsterRun, assets: frozenset[dg.AssetKey], reason: str, days: Spans) -> Cause:
    names = sorted(asset.to_user_string() for asset in assets)
    is_load = F_SALES in assets and bool(days)
    if run.job_name.startswith("__"):  # Dagster's job of all runs that were started without a job
        of = f" {hashlib.sha256(' '.join(names).encode()).hexdigest()[:16]}"
        title = f"The materialization of {_shortened(names)} failed" if names else "A materialization failed"
        plural = "materializations failed"
    else:
        of, title, plural = "", f"{run.job_name} failed", f"causes for which {run.job_name} failed"
    return Cause(
        key=f"run {run.job_name}{of} {_fingerprint(reason)}",
        group=f"run {run.job_name}",
        title=title,
        plural=plural,
        text=redacted(reason, secrets_in_force())[:_LONGEST_REASON],
        fix=_LOAD_AGAIN if is_load else "Fix the cause, then run it again in the Dagster UI.",
        ended="A later run succeeded.",
        link=f"runs/{run.run_id}",
        days=days,
        job=run.job_name,
        assets=names,
    )


def _shortened(names: Sequence[str]) -> str:
    shown, others = names[:_SHOWN_ASSETS], len(names) - _SHOWN_ASSETS
    return ", ".join(shown) + (f" and {others} other assets" if others > 0 else "")


def _causes_of(instance: dg.DagsterInstance, run: dg.DagsterRun, message: str) -> Causes:
    """Return the reasons of a failed run, each with its days if a load has reported them."""
    causes: Causes = []
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        assert entry.dagster_event is not None, "a step's failure is Dagster's event"
        failure = entry.dagster_event.step_failure_data
        if failure.user_failure_data is not None:
            reported = failure.user_failure_data.metadata.get(CAUSES)
            if isinstance(reported, dg.JsonMetadataValue):
                named: Any = reported.value
                causes += [(cause, [span for ends in spans for span in _span(*ends)]) for cause, spans in named]
            else:
                causes.append((failure.user_failure_data.description or message, []))
        elif failure.error is not None:
            error = failure.error
            while error.cause is not None:
                error = error.cause
            causes.append((error.message, []))
    return causes or [(message, [])]


def _run_days(run: dg.DagsterRun) -> Spans:
    first, last = range_of(run.tags)
    return _span(first, last)


def _span(first: str, last: str) -> Spans:
    """Return the span between two partition keys; empty if they are not days, as in runs of other definitions."""
    try:
        return [(dt.date.fromisoformat(first), dt.date.fromisoformat(last))]
    except ValueError:
        return []


def _fingerprint(reason: str) -> str:
    """Hash a reason without its days, ids and times, which differ between failures of one cause."""
    return hashlib.sha256(_VARIABLE.sub("#", reason).encode()).hexdigest()[:16]


def _read_check(found: dg.AssetCheckEvaluation, state: State, now: dt.datetime) -> None:
    if found.check_name in _ALERTED_SEPARATELY:
        return
    asset = found.asset_key.to_user_string()
    key = f"check {asset} {found.check_name}"
    alert = state.open.get(key)
    days = _still_failing(found, alert.cause.days if alert else None)
    if days is None:
        if alert is not None:
            state.remove_days(alert, None, now)
        return
    if found.passed and alert is not None:
        alert.cause.days = days
        return
    metadata = found.metadata
    offending = f"{metadata['offending'].value} offending rows. " if "offending" in metadata else ""
    severity = "" if found.severity == dg.AssetCheckSeverity.ERROR else " (a warning)"
    cause = Cause(
        key=key,
        group="checks",
        title=f"The check {found.check_name} of {asset} fails{severity}",
        plural="checks fail",
        text=f"{offending}{found.description or ''}".strip(),
        fix="The failing rows are in the result of the check in the Dagster UI.",
        ended="The check passes again.",
        link=f"assets/{asset}?view=checks&checkDetail={found.check_name}",
        days=days,
    )
    if alert is None:
        state.add(cause, now)
    else:
        alert.cause = cause


def _still_failing(found: dg.AssetCheckEvaluation, known: Spans | None) -> Spans | None:
    """Return the days for which a check still fails after a result: [] if it fails for unknown days, None if it passes.

    The result updates only the days that it covers.
    known: the days of the open alert; None: no alert is open.
    """
    checked, failing = _checked_days(found), _failing_days(found)
    if not found.passed and not failing:
        failing = checked or []
    if checked is None:
        return None if found.passed else failing
    if known is None:
        return failing or None
    if not known:
        return []
    return ranges(set(days_in(known)) - set(days_in(checked)) | set(days_in(failing))) or None


def _checked_days(found: dg.AssetCheckEvaluation) -> Spans | None:
    """Return the days that a check covered; None: all."""
    # Version 0.1 reported the days as "days asked"; its last events may be read after an upgrade.
    checked = found.metadata.get("days checked") or found.metadata.get("days asked")
    # Several spans are separated by commas.
    spans = re.findall(rf"({_DATE})(?: to ({_DATE}))?", str(checked.value)) if checked is not None else []
    return [span for first, last in spans for span in _span(first, last or first)] or None


def _failing_days(found: dg.AssetCheckEvaluation) -> Spans:
    """Return the failing days; empty if the result does not list all of them."""
    shown, total = found.metadata.get("first failing days"), found.metadata.get("failing days")
    if not isinstance(shown, dg.TableMetadataValue) or total is None:
        return []
    named = {str(record.data["day"]) for record in shown.records}
    try:
        days = days_of(named)
    except ValueError:
        return []
    return ranges(days) if len(days) == total.value else []


def warehouse_causes(alerts: Iterable[Alert], now: dt.datetime) -> list[Cause]:
    """Find missing days, rejected rows, a stuck outbox and failing mailings in the warehouse. Raises `psycopg.Error`.

    alerts: open alerts. A span of missing days keeps its cause while it grows or shrinks.
    """
    found = settings()
    alerts = list(alerts)
    known = {alert.cause.key: alert.cause.days for alert in alerts if alert.cause.group == MISSING_DAYS}
    first, last = _due_days(now)
    # Days that were reported as missing are checked until they are loaded.
    first = min([first, *(day for spans in known.values() for day, _ in spans)])
    with connect(warehouse_url(), "sales_assets alerts", writing=False, patience=_CONNECT_SECONDS) as connection:
        asked = statements("alerts/causes")
        connection.execute(asked["limit_time"])
        missing = connection.execute(asked["missing_days"], {"first_day": first, "last_day": last}).fetchall()
        quarantine = connection.execute(asked["quarantine"]).fetchall()[0]
        outbox = connection.execute(statements("orders/outbox")["depth"]).fetchall()[0]
        mailings = connection.execute(
            asked["failing_mailings"],
            {
                "share": found.alert_failed_messages,
                "least_finished": _LEAST_FINISHED_MESSAGES,
                "known": [int(alert.cause.key.split()[1]) for alert in alerts if alert.cause.group == MAILINGS],
            },
        ).fetchall()
    causes = _missing_days([row["day"] for row in missing], known)
    if quarantine["new"] >= found.alert_quarantine_rows:
        causes.append(
            Cause(
                key=QUARANTINE,
                group=QUARANTINE,
                title="The quarantine grows",
                plural="quarantines grow",
                text=f"{quarantine['new']} rows were rejected within 24 hours; {quarantine['waiting']} rows wait.",
                fix="`sales-assets quarantine list` shows them with their reasons.",
                ended=f"Fewer than {found.alert_quarantine_rows} rows of the last 24 hours wait.",
            )
        )
    if outbox["oldest_seconds"] > found.alert_outbox_seconds:
        causes.append(
            Cause(
                key=OUTBOX,
                group=OUTBOX,
                title="The outbox of the partner orders is stuck",
                plural="outboxes are stuck",
                text=f"{outbox['depth']} events wait for the broker, the oldest for {outbox['oldest_seconds']:.0f} s.",
                fix="Is RabbitMQ reachable, and does one process run the part relay? `sales-assets doctor` shows more.",
                ended="The events were published.",
            )
        )
    causes += [
        Cause(
            key=f"mailing {row['mailing_id']}",
            group=MAILINGS,
            title=f"Messages of mailing {row['mailing_id']} fail",
            plural="mailings have many failed messages",
            text=f"{row['failed']} of {row['finished']} finished messages failed.",
            fix="The reasons are in mart.f_mailing_deliveries, and in the admin page of the mailings.",
            ended="The mailing ended a day ago, or was deleted: nothing more is sent, and failed messages stay failed."
            if row["is_over"]
            else "Fewer messages fail.",
            is_over=row["is_over"],
        )
        for row in mailings
    ]
    return causes


WAREHOUSE_GROUPS = (MISSING_DAYS, QUARANTINE, OUTBOX, MAILINGS, WAREHOUSE)


def unreadable(error: Exception) -> Cause:
    """Return the cause for an unreadable warehouse, with the error's type only: its text contains hosts and users."""
    return Cause(
        key=WAREHOUSE,
        group=WAREHOUSE,
        title="The warehouse can't be read",
        plural="warehouses can't be read",
        text=f"{type(error).__name__}. Until then, days, quarantine, outbox and mailings are not monitored.",
        fix="`sales-assets doctor` shows the reason.",
        ended="The warehouse can be read again.",
    )


def _due_days(now: dt.datetime) -> tuple[dt.date, dt.date]:
    """Return the first and last day that have to be loaded: a day is due at ALERT_DAY_DUE_AT of the next day."""
    local = now.astimezone(ZoneInfo(settings().sales_timezone))
    last = local.date() - dt.timedelta(days=1 if local.time() >= settings().alert_day_due_at else 2)
    # A day has a partition once it has ended in UTC, which may be later.
    last = min(last, now.astimezone(dt.UTC).date() - dt.timedelta(days=1))
    return max(first_day(), last - dt.timedelta(days=_MISSING_WINDOW_DAYS - 1)), last


def _missing_days(days: Sequence[dt.date], known: Mapping[str, Spans]) -> list[Cause]:
    """Return a cause per span of missing days. Days next to missing days of a known cause join it.

    known: {key of the cause: its days}.
    """
    key_of_day = {day: key for key, spans in known.items() for day in days_in(spans)}
    found: dict[str, list[dt.date]] = {}
    for first, last in ranges(days):
        span = days_in([(first, last)])
        key = next((key_of_day[day] for day in span if day in key_of_day), f"{MISSING_DAYS} {first}")
        for day in span:
            key = key_of_day.get(day, key)
            found.setdefault(key, []).append(day)
    return [
        Cause(
            key=key,
            group=MISSING_DAYS,
            title="Days are missing",
            plural="spans of days are missing",
            text="not loaded, though due",
            fix=_LOAD_AGAIN,
            ended="The days are loaded.",
            days=ranges(of_one),
        )
        for key, of_one in found.items()
    ]
