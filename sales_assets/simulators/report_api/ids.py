"""Report and task ids of the simulator: base64, self-contained, verifiable without state.

Reports stay valid for days while the simulator may be restarted, so an id contains all that a later process needs.
Check bytes distinguish issued ids from garbage; they do not prevent forgery.
"""

import base64
import binascii
import hashlib
import os
import time
from datetime import date
from enum import Enum

# Every id begins with "+/" and ends with "==": a client that forgets to URL-encode fails on its first call,
# where truly random ids would let it through about half of the time.
_PREFIX = b"\xfb\xff"
_PAYLOAD_BYTES = 16
_CHECK_BYTES = 7
_MILLISECOND_BYTES = 8


class UnknownIdError(ValueError):
    """The text is not an id of the required kind."""


class Kind(Enum):
    """Kind of an id; an id of one kind is never accepted as another."""

    TASK = b"task"
    REPORT = b"report"
    INCREMENT = b"increment"


def _encode(kind: Kind, payload: bytes) -> str:
    return base64.b64encode(_PREFIX + payload + _check(kind, payload)).decode()


def _check(kind: Kind, payload: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=_CHECK_BYTES, person=kind.value).digest()


def payload_of(kind: Kind, text: str) -> bytes:
    """Return the 16 bytes inside an id.

    Raises:
        UnknownIdError: the text was never issued as this kind of id.
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise UnknownIdError(text) from None
    payload = raw[len(_PREFIX) : len(_PREFIX) + _PAYLOAD_BYTES]
    if raw != _PREFIX + payload + _check(kind, payload):
        raise UnknownIdError(text)
    return payload


def new_task() -> str:
    """Return a new unique task id, which contains its time of creation."""
    made = time.time_ns() // 1_000_000
    nonce = os.urandom(_PAYLOAD_BYTES - _MILLISECOND_BYTES)
    return _encode(Kind.TASK, made.to_bytes(_MILLISECOND_BYTES, "big") + nonce)


def task_age(task_id: str) -> float:
    """Return the seconds since the task was created."""
    made = int.from_bytes(payload_of(Kind.TASK, task_id)[:_MILLISECOND_BYTES], "big")
    return time.time() - made / 1000


def report_of(task_id: str) -> str:
    """Return the id of the report that a task generates: one per task."""
    return _encode(Kind.REPORT, _derive(payload_of(Kind.TASK, task_id), b""))


def increment_of(report_id: str, day: date) -> str:
    """Return the id of a day's increment under a report.

    It depends on these two only, as in the real API: a day whose contents change keeps its id, and each new report
    changes the ids of all days.
    """
    return _encode(Kind.INCREMENT, _derive(payload_of(Kind.REPORT, report_id), day.isoformat().encode()))


def _derive(payload: bytes, salt: bytes) -> bytes:
    return hashlib.blake2b(payload + salt, digest_size=_PAYLOAD_BYTES).digest()
