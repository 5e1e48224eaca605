"""Rules between the fields of a mailing, shared by the API and the admin page."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

from sales_assets.services.mailings.errors import NON_FIELD, Invalid

STARTED = "unable to update mailing with start time in the past"
END_BEFORE_START = "end must occur after start"
END_IN_THE_PAST = "end time cannot be in the past"


def check_mailing(values: Mapping[str, Any], now: dt.datetime) -> None:
    """Check the values of a whole mailing against each other. Raises `Invalid`.

    An end equal to the start is valid: such a mailing sends nothing, and its messages time out.
    """
    if values["start_time"] > values["end_time"]:
        raise Invalid({"end_time": [END_BEFORE_START]})
    if now > values["end_time"]:
        raise Invalid({"end_time": [END_IN_THE_PAST]})
    send_from, send_until = values.get("send_from"), values.get("send_until")
    if (send_from is None) != (send_until is None):
        raise Invalid({NON_FIELD: ["send_from and send_until are given together or not at all"]})
    if send_from is not None and send_from == send_until:
        raise Invalid({"send_until": ["a window must not end when it begins"]})


def check_change(stored: Mapping[str, Any], changed: Mapping[str, Any], now: dt.datetime) -> None:
    """Check whether a stored and locked mailing may be changed. Raises `Invalid`.

    Only a stored start in the past is refused: a new start in the past makes the mailing start at once.
    """
    check_mailing(changed, now)
    if stored["state"] != "scheduled" or stored["start_time"] <= now:
        raise Invalid({"start_time": [STARTED]})
