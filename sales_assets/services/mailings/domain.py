"""What a client and a mailing are: their fields, and the rules between them. The API and the admin page both ask here.

Belongs here: decisions over values. Does not belong here: where the values come from and where they go.
"""

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any

from sales_assets.services.mailings.errors import NON_FIELD, Invalid
from sales_assets.services.mailings.fields import Clock, Field, Moment, Number, Text, Wrong, read_fields

INT32 = 2**31 - 1
INT64 = 2**63 - 1

STARTED = "unable to update mailing with start time in the past"
END_BEFORE_START = "end must occur after start"
END_IN_THE_PAST = "end time cannot be in the past"
PHONE_FORMAT = "The phone must have '7XXXXXXXXXX' format"


def _phone(text: str) -> None:
    if not re.fullmatch(r"7[0-9]{10}", text):
        raise Wrong(PHONE_FORMAT)


CLIENT: tuple[Field, ...] = (
    Text("phone", most=11, check=_phone),
    Text("operator_code", most=10),
    Text("tag", most=50, required=False, nullable=True),
    Text("timezone", most=64),
)
MAILING: tuple[Field, ...] = (
    Moment("start_time"),
    Text("text"),
    Text("client_operator_code_filter", most=10, required=False, nullable=True),
    Text("client_tag_filter", most=50, required=False, nullable=True),
    Moment("end_time"),
    # Beyond docs/data-contracts/mailings.md: the window of a day, in the client's zone, in which it may be sent.
    Clock("send_from"),
    Clock("send_until"),
)
CUSTOMER: tuple[Field, ...] = (Number("customer_id", least=0, most=INT32),)


def client_values(body: Mapping[str, Any], *, partial: bool = False) -> dict[str, Any]:
    """A client's values. Raises `Invalid`."""
    return read_fields(CLIENT, body, partial=partial)


def mailing_values(body: Mapping[str, Any], *, partial: bool = False) -> dict[str, Any]:
    """A mailing's values, each for itself; `check_mailing` comes after. Raises `Invalid`."""
    return read_fields(MAILING, body, partial=partial)


def customer_id(body: Mapping[str, Any]) -> int:
    """The customer of the mart that a client is linked to. Raises `Invalid`."""
    return int(read_fields(CUSTOMER, body)["customer_id"])


def check_mailing(values: Mapping[str, Any], now: dt.datetime) -> None:
    """The rules between the values of a whole mailing. Raises `Invalid`.

    An end at the very start is no end before it: such a mailing sends nothing, and its messages time out.
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
    """Whether a stored mailing, locked, may become the changed one. Raises `Invalid`.

    A start in the past is refused where it is the stored one: a mailing that waits may be told to start at once, as a
    new one may.
    """
    check_mailing(changed, now)
    if stored["state"] != "scheduled" or stored["start_time"] <= now:
        raise Invalid({"start_time": [STARTED]})
