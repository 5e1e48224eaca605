"""State of the alerts: open causes, and the messages that each receiver got. Pure rules, without I/O.

The state is the cursor of the sensor `alerts`: each tick stores it in Dagster's storage, which also works while the
warehouse is down.
"""

import datetime as dt
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence

from pydantic import BaseModel, Field

from sales_assets.backoff import doubling_pause
from sales_assets.partitions import days_in, format_days, ranges
from sales_assets.resources.alert_receivers import Delivery, Message

_FIRST_PAUSE_SECONDS = 60
_LONGEST_PAUSE_SECONDS = 3600
# Maximum number of ended alerts that are kept for unreachable receivers.
_MOST_ENDED = 100
_MESSAGES_PER_TICK = 10
_SHOWN_ALERTS = 20

Spans = list[tuple[dt.date, dt.date]]


class Cause(BaseModel):
    """Cause of an alert: one present fault.

    key: identifies the cause; it stays the same while the cause lasts.
    group: new causes of a group share a message, with `title`; `plural` is the title of several.
    is_over: the fault was not fixed, but can't be fixed any more: an open alert is closed, and no new alert is opened.
    days: the days concerned, as spans (first, last); empty for a cause that concerns no day.
    fix: the command or page that fixes it, in which {first} and {last} are replaced by the first and last of `days`.
    ended: explanation for the message that the cause is gone.
    link: path of a page in the Dagster UI.
    """

    key: str
    group: str
    title: str
    plural: str
    text: str = ""
    fix: str = ""
    ended: str
    link: str = ""
    is_over: bool = False
    days: Spans = Field(default_factory=list)
    # Only for failed runs: a successful run of this job, or of all these assets, ends the alert.
    job: str = ""
    assets: list[str] = Field(default_factory=list)


class Alert(BaseModel):
    """A cause, and the receivers that were notified of it.

    told, told_end: receivers that got the message of its start, and the message of its end.
    """

    cause: Cause
    since: dt.datetime
    until: dt.datetime | None = None
    told: list[str] = Field(default_factory=list)
    told_end: list[str] = Field(default_factory=list)


class Attempts(BaseModel):
    """Failed attempts to reach a receiver; `error` is the last attempt's. name: present name of the receiver."""

    name: str = ""
    failures: int = 0
    retry_at: dt.datetime | None = None
    error: str = ""


class State(BaseModel):
    """State of all alerts.

    position: number of the last event of Dagster's log that was read.
    salt: salt of the receivers' identities.
    receivers: {identity: attempts}.
    """

    position: int | None = None
    salt: str = Field(default_factory=lambda: secrets.token_hex(16))
    alerts: list[Alert] = Field(default_factory=list)
    receivers: dict[str, Attempts] = Field(default_factory=dict)

    @property
    def open(self) -> dict[str, Alert]:
        return {alert.cause.key: alert for alert in self.alerts if alert.until is None}

    def add(self, cause: Cause, now: dt.datetime) -> None:
        """Open an alert for a cause, or add the days to its open alert."""
        alert = self.open.get(cause.key)
        if alert is None:
            self.alerts.append(Alert(cause=cause, since=now))
            return
        days = ranges([*days_in(alert.cause.days), *days_in(cause.days)])
        # Receivers that are not notified yet get the newest run.
        alert.cause = cause.model_copy(update={"days": days})

    def remove_days(self, alert: Alert, spans: Spans | None, now: dt.datetime) -> None:
        """Remove days from an alert; None: all of its days. An alert without days ends."""
        if spans is not None and alert.cause.days:
            left = set(days_in(alert.cause.days)) - set(days_in(spans))
            if left:
                alert.cause.days = ranges(left)
                return
        alert.until = now

    def replace(self, causes: Iterable[Cause], groups: Collection[str], now: dt.datetime) -> None:
        """Replace the open alerts of some groups by alerts of the given causes."""
        found = {cause.key: cause for cause in causes}
        for key, alert in self.open.items():
            if alert.cause.group in groups and key not in found:
                alert.until = now
        opened = self.open
        for key, cause in found.items():
            if key in opened:
                opened[key].cause = cause
                opened[key].until = now if cause.is_over else None
            elif not cause.is_over:
                self.alerts.append(Alert(cause=cause, since=now))

    def messages(self, receivers: Mapping[str, str], now: dt.datetime, ui_url: str) -> "Outbox":
        """Return the messages to send to each receiver now; an unreachable receiver is skipped until its pause ends.

        receivers: {identity: name}.
        """
        self._convert_former_cursor(receivers)
        for one in receivers:
            if one not in self.receivers:
                self.receivers[one] = Attempts()
                for alert in self.alerts:  # a new receiver gets no messages about ended alerts
                    if alert.until is not None:
                        alert.told_end.append(one)
        self.receivers = {one: self.receivers[one].model_copy(update={"name": name}) for one, name in receivers.items()}
        outbox = Outbox()
        for one, attempts in self.receivers.items():
            if attempts.retry_at is None or attempts.retry_at <= now:
                outbox.messages[one] = self._messages_for(one, ui_url)[:_MESSAGES_PER_TICK]
        return outbox

    def _convert_former_cursor(self, receivers: Mapping[str, str]) -> None:
        """Convert the cursor of an earlier version, which identified receivers by name."""
        identities = {name: identity for identity, name in receivers.items() if name in self.receivers}
        self.receivers = {identities.get(one, one): attempts for one, attempts in self.receivers.items()}
        for alert in self.alerts:
            alert.told = [identities.get(one, one) for one in alert.told]
            alert.told_end = [identities.get(one, one) for one in alert.told_end]

    def _messages_for(self, receiver: str, ui_url: str) -> list["Pending"]:
        new: dict[tuple[str, bool, bool], list[Alert]] = {}
        for alert in self.alerts:
            if receiver not in (alert.told if alert.until is None else alert.told_end):
                new.setdefault((alert.cause.group, alert.until is not None, alert.cause.is_over), []).append(alert)
        return [
            Pending(alerts, has_ended, _message(alerts, has_ended=has_ended, ui_url=ui_url))
            for (_, has_ended, _), alerts in new.items()
        ]

    def record(self, outbox: "Outbox", deliveries: Mapping[str, Delivery], now: dt.datetime) -> None:
        """Record deliveries, and drop ended alerts whose end every receiver was notified of."""
        for receiver, delivery in deliveries.items():
            for pending in outbox.messages[receiver][: delivery.delivered]:
                for alert in pending.alerts:
                    (alert.told_end if pending.has_ended else alert.told).append(receiver)
            former = self.receivers[receiver]
            if delivery.error is None:
                self.receivers[receiver] = Attempts(name=former.name)
            else:
                # A receiver that took a message can be reached.
                failures = 1 if delivery.delivered else former.failures + 1
                pause = doubling_pause(failures, first=_FIRST_PAUSE_SECONDS, longest=_LONGEST_PAUSE_SECONDS)
                retry_at = now + dt.timedelta(seconds=pause)
                self.receivers[receiver] = Attempts(
                    name=former.name, failures=failures, retry_at=retry_at, error=delivery.error
                )
        ended = [
            alert for alert in self.alerts if alert.until is not None and not self.receivers.keys() <= {*alert.told_end}
        ]
        self.alerts = [*(alert for alert in self.alerts if alert.until is None), *ended[-_MOST_ENDED:]]


class Pending:
    """A message to send, with its alerts."""

    def __init__(self, alerts: Sequence[Alert], has_ended: bool, message: Message) -> None:
        self.alerts, self.has_ended, self.message = alerts, has_ended, message


class Outbox:
    """Messages to send, by receiver."""

    def __init__(self) -> None:
        self.messages: dict[str, list[Pending]] = {}

    def to_send(self) -> dict[str, list[Message]]:
        return {name: [pending.message for pending in of_one] for name, of_one in self.messages.items() if of_one}


def _message(alerts: Sequence[Alert], *, has_ended: bool, ui_url: str) -> Message:
    causes = [alert.cause for alert in alerts]
    title = causes[0].title if len(causes) == 1 else f"{len(causes)} {causes[0].plural}"
    lines: list[str] = []
    for alert in alerts[:_SHOWN_ALERTS]:
        if len(alerts) > 1:
            lines.append(f"- {alert.cause.title}")
        lines += _lines(alert, ui_url)
    if len(alerts) > _SHOWN_ALERTS:
        lines.append(f"... and {len(alerts) - _SHOWN_ALERTS} more")
    if not has_ended:
        return Message(f"sales_assets, alert: {title}", "\n".join(lines), "failure")
    if causes[0].is_over:
        return Message(f"sales_assets, closed: {title}", "\n".join(lines), "info")
    return Message(f"sales_assets, resolved: {title}", "\n".join(lines), "success")


def _lines(alert: Alert, ui_url: str) -> list[str]:
    cause = alert.cause
    days = f"{format_days(days_in(cause.days))}: " if cause.days else ""
    if alert.until is not None:
        return [
            cause.ended,
            f"From {_minute(alert.since)} to {_minute(alert.until)}.",
            *([cause.text] if cause.text else []),
        ]
    ends = {"first": cause.days[0][0], "last": cause.days[-1][1]} if cause.days else {}
    return [
        *([f"{days}{cause.text}"] if days or cause.text else []),
        f"Since {_minute(alert.since)}.",
        *([cause.fix.format_map(ends)] if cause.fix else []),
        *([f"{ui_url}/{cause.link}"] if ui_url and cause.link else []),
    ]


def _minute(moment: dt.datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
