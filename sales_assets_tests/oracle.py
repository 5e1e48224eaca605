"""What the mart must hold for a list of deliveries, in plain Python and from the rules alone.

Belongs here: a second opinion on a day (which lines count, which fetch is chosen, the sign), slow and whole files at
a time. It shares no code with the package. Does not belong here: the finer points of a cell or a quote;
`sales_assets_tests.pipeline.reference_parser` has those.
"""

import csv
import datetime as dt
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

NUMBERS = ("city_id", "customer_id", "item_id")
AMOUNTS = ("quantity", "payment_amount")
NAMES = ("city_name", "first_name", "last_name", "item_name")

# date_id, uniq_id, item_id, customer_id, city_id, quantity, amount, status
Row = tuple[int, str, int, int, int, Decimal, Decimal, str]
Key = tuple[dt.date, str, str]


@dataclass(frozen=True)
class Delivered:
    """One delivered order file; its place in the list is its number. Equal ones have the same contents."""

    kind: str  # report or increment
    first_day: dt.date
    last_day: dt.date
    text: str


@dataclass(frozen=True)
class Reading:
    """A file once it was read: each line in exactly one of kept, repeats and bad."""

    has_status: bool
    kept: dict[Key, Row]
    repeats: int
    bad: set[int]

    @property
    def usable(self) -> bool:
        return bool(self.kept) or not self.bad


def read(delivered: Delivered) -> Reading:
    """Read a file with a good header."""
    rows = csv.reader(io.StringIO(delivered.text, newline=""))
    header = next(rows)
    copies: dict[Key, list[tuple[int, tuple[object, ...], Row]]] = defaultdict(list)
    bad: set[int] = set()
    for cells in rows:
        if not cells:
            continue
        try:
            if len(cells) != len(header):
                raise ValueError("ragged")
            key, contents, row = _line(dict(zip(header, cells, strict=True)))
            if not delivered.first_day <= key[0] <= delivered.last_day:
                raise ValueError("outside")
            copies[key].append((rows.line_num, contents, row))
        except (ValueError, InvalidOperation):
            bad.add(rows.line_num)
    kept, repeats = {}, 0
    for key, lines in copies.items():
        if len({contents for _, contents, _ in lines}) == 1:
            kept[key] = lines[0][2]
            repeats += len(lines) - 1
        else:
            bad |= {line_no for line_no, _, _ in lines}
    return Reading("status" in header, kept, repeats, bad)


def kept(deliveries: Sequence[Delivered]) -> dict[Delivered, int]:
    """The contents that are kept, in the order of their first delivery, each with the number of its latest."""
    return {delivered: number for number, delivered in enumerate(deliveries)}


def mart(deliveries: Sequence[Delivered], days: Iterable[dt.date]) -> list[Row]:
    """The report API's rows of the days, once all of this was delivered and each day was loaded."""
    readings = [(delivered, number, read(delivered)) for delivered, number in kept(deliveries).items()]
    rows: list[Row] = []
    for day in days:
        candidates = [
            (reading.has_status, delivered.kind == "increment", number, reading)
            for delivered, number, reading in readings
            if delivered.first_day <= day <= delivered.last_day and reading.usable
        ]
        if candidates:
            chosen = max(candidates, key=lambda candidate: candidate[:3])[3]
            rows += [row for key, row in chosen.kept.items() if key[0] == day]
    return sorted(rows)


def _line(cells: dict[str, str]) -> tuple[Key, tuple[object, ...], Row]:
    day = dt.date.fromisoformat(cells["date_time"][:10])
    status = (cells.get("status") or "").strip().lower() or "shipped"
    if status not in ("shipped", "refunded"):
        raise ValueError(status)
    numbers = {name: int(cells[name]) for name in NUMBERS}
    amounts = {name: Decimal(cells[name]) for name in AMOUNTS}
    if any(amount < 0 or amount.as_tuple().exponent < -2 for amount in amounts.values()):  # type: ignore[operator]
        raise ValueError("amount")
    contents = (cells["date_time"], *numbers.values(), *amounts.values(), *(cells[name] for name in NAMES), status)
    uniq_id = cells.get("uniq_id", repr(contents))
    if not uniq_id:
        raise ValueError("uniq_id")
    sign = -1 if status == "refunded" else 1
    row = (
        day.year * 10_000 + day.month * 100 + day.day,
        uniq_id,
        numbers["item_id"],
        numbers["customer_id"],
        numbers["city_id"],
        sign * amounts["quantity"],
        sign * amounts["payment_amount"],
        status,
    )
    return (day, uniq_id, status), contents, row
