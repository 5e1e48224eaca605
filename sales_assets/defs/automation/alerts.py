"""Sensor that sends alerts to ALERT_URLS; defined only if that is set (docs/guides/alerts.md)."""

import datetime as dt
import time

import dagster as dg

from sales_assets.defs.automation.alert_causes import WAREHOUSE_GROUPS, read_events, unreadable, warehouse_causes
from sales_assets.defs.automation.alert_state import State
from sales_assets.defs.automation.decorators import sensor
from sales_assets.resources.alert_receivers import Receivers
from sales_assets.settings import definition_settings, settings

# The daemon aborts a tick after 60 s, and its messages would be sent again.
_TICK_SECONDS = 50
_LEAST_SEND_SECONDS = 10


@sensor(
    minimum_interval_seconds=30,
    # On by default, because setting ALERT_URLS requests alerts.
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def alerts(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Send one message for each new cause of an alert, and one when the cause is gone.

    Causes are failed runs and checks, days that are missing, a growing quarantine, a stuck outbox, mailings with many
    failures, and a warehouse that can't be read. The cursor holds the open alerts and the notified receivers
    of each. An unreachable receiver is retried with growing pauses and never delays the others. The tick never fails
    because of a receiver or the warehouse: it would lose the cursor, and send the messages again.
    """
    begin = time.monotonic()
    receivers = Receivers()
    now = _now()
    state = State.model_validate_json(context.cursor) if context.cursor else State()
    read_events(context.instance, context.repository_def, state, now, context.log.warning)
    try:
        state.replace(warehouse_causes(state.open.values(), now), WAREHOUSE_GROUPS, now)
    except Exception as error:  # noqa: BLE001  any error: the alerts of runs and checks have to be sent
        # The other alerts of the warehouse stay open, since their causes can't be checked.
        context.log.error(f"the warehouse can't be read: {type(error).__name__}")
        state.add(unreadable(error), now)
    names = receivers.identities(state.salt)
    outbox = state.messages(names, now, settings().alert_ui_url)
    seconds = max(_LEAST_SEND_SECONDS, _TICK_SECONDS - (time.monotonic() - begin))
    sent_to = receivers.send({names[one]: messages for one, messages in outbox.to_send().items()}, seconds)
    deliveries = {one: sent_to[name] for one, name in names.items() if name in sent_to}
    state.record(outbox, deliveries, now)
    for name, delivery in sent_to.items():
        if delivery.error is not None:
            context.log.error(f"could not reach receiver {name}: {delivery.error}")
    sent = sum(delivery.delivered for delivery in deliveries.values())
    summary = f"Open alerts: {len(state.open)}, messages sent: {sent}."
    unreached = [f" Receiver {of.name}: {of.error}." for of in state.receivers.values() if of.error]
    return dg.SensorResult(cursor=state.model_dump_json(), skip_reason=dg.SkipReason(summary + "".join(unreached)))


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@dg.definitions
def definitions() -> dg.Definitions:
    """Declare the sensor."""
    return dg.Definitions(sensors=[alerts] if definition_settings().alert_receivers else [])
