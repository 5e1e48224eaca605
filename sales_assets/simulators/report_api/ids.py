"""Report and task ids of the simulator: base64, self-contained, checkable without any memory.

A report lives for days while a simulator is restarted at will, so an id carries what is needed to answer for
it later, in another process. Its check bytes tell an issued id from garbage; they do not prevent forgery.
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
    """The text is no id of the kind that was asked for."""


class Kind(Enum):
    """What an id stands for: one kind is never taken for another."""

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
    """Return a new task id, different at every call, that remembers when it was made."""
    made = time.time_ns() // 1_000_000
    nonce = os.urandom(_PAYLOAD_BYTES - _MILLISECOND_BYTES)
    return _encode(Kind.TASK, made.to_bytes(_MILLISECOND_BYTES, "big") + nonce)


def task_age(task_id: str) -> float:
    """Return the seconds since the task was made."""
    made = int.from_bytes(payload_of(Kind.TASK, task_id)[:_MILLISECOND_BYTES], "big")
    return time.time() - made / 1000


def report_of(task_id: str) -> str:
    """Return the id of the report that a task makes: always the same one, and no other task makes it."""
    return _encode(Kind.REPORT, _derive(payload_of(Kind.TASK, task_id), b""))


def increment_of(report_id: str, day: date) -> str:
    """Return the id of a day's increment under a report.

    It depends on the two and nothing else: a day whose contents changed keeps its id, and each new report
    renames every day. That is how the real service does it.
    """
    return _encode(Kind.INCREMENT, _derive(payload_of(Kind.REPORT, report_id), day.isoformat().encode()))


def _derive(payload: bytes, salt: bytes) -> bytes:
    return hashlib.blake2b(payload + salt, digest_size=_PAYLOAD_BYTES).digest()
