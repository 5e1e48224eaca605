"""Import and export of suppressed phones as files.

A CSV file with the columns ``phone`` and, optionally, ``suppressed_at``; other columns are ignored, so that an exported
file can be imported.
"""

import csv
import datetime as dt
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sales_assets.postgres.warehouse import Warehouse
from sales_assets.schemas.pseudonyms import Pseudonyms
from sales_assets.settings import settings

COLUMNS = ("phone", "source", "suppressed_at")
_STATEMENTS = "mailings/suppression"
_MOST_BYTES = 200 << 20
_MAX_SHOWN = 40


class SuppressionsError(Exception):
    """A file can't be imported; the message has the file, the line and the reason."""


@dataclass(frozen=True)
class _Entry:
    place: str
    phone: str
    suppressed_at: dt.datetime | None


def import_file(warehouse: Warehouse, file: Path) -> tuple[int, int]:
    """Suppress all phones of a file, or none; return the number of its phones and how many were added.

    Phones are normalized by ``mailings.phone_of``. Raises `SuppressionsError`.
    """
    entries = list(_entries(file))
    phones = [entry.phone for entry in entries]
    with warehouse.transaction("sales_assets suppressions import") as transaction:
        storable = [None if "\0" in phone else phone for phone in phones]
        normalized = [row["phone"] for row in transaction.rows(_STATEMENTS, "normalized", phones=storable)]
        for entry, phone in zip(entries, normalized, strict=True):
            if phone is None:
                raise SuppressionsError(f"{entry.place}: {entry.phone[:_MAX_SHOWN]!r} is not a Russian phone number")
        times = [entry.suppressed_at for entry in entries]
        known = Pseudonyms(settings().sales_erasure_secret.get_secret_value())
        erased = {"pseudonyms": known.of(normalized), "key_id": known.key_id}
        added = transaction.rows(_STATEMENTS, "add", phones=normalized, times=times, source="import", **erased)
    return len(set(normalized)), len(added)


def exported(warehouse: Warehouse) -> Iterator[str]:
    """Yield the lines of a CSV file with all suppressed phones."""
    yield ",".join(COLUMNS)
    for row in warehouse.rows(_STATEMENTS, "all"):
        yield f"{row['phone']},{row['source']},{row['suppressed_at'].astimezone(dt.UTC).isoformat()}"


def remove(warehouse: Warehouse, phone: str) -> str | None:
    """Allow mailings to a phone again, in any spelling; return the phone, None if it was not suppressed."""
    with warehouse.transaction("sales_assets suppressions remove") as transaction:
        (row,) = transaction.rows(_STATEMENTS, "normalized", phones=[phone])
        removed = transaction.row(_STATEMENTS, "remove", phone=row["phone"])
    return removed["phone"] if removed else None


def _entries(file: Path) -> Iterator[_Entry]:
    if file.stat().st_size > _MOST_BYTES:
        raise SuppressionsError(f"{file}: larger than {_MOST_BYTES >> 20} MiB")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SuppressionsError(f"{file}: not UTF-8 at byte {error.start}") from None
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    place = f"{file}, line 1"
    try:
        if "phone" not in (rows.fieldnames or ()):
            raise SuppressionsError(f"{place}: expected a header with the column phone")
        while True:
            place = f"{file}, line {rows.line_num + 1}"
            row = next(rows, None)
            if row is None:
                return
            yield _Entry(place, (row["phone"] or "").strip(), _moment(place, row.get("suppressed_at")))
    except csv.Error as error:
        raise SuppressionsError(f"{place}: {error}") from None


def _moment(place: str, text: str | None) -> dt.datetime | None:
    if not (text or "").strip():
        return None
    try:
        moment = dt.datetime.fromisoformat(str(text).strip())
        # The database can store years that an export can't read.
        return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise SuppressionsError(f"{place}: {str(text)[:_MAX_SHOWN]!r} is not an ISO 8601 time") from None
