"""Reference model: the mart that follows from a list of deliveries, in plain Python and from the rules alone.

An independent implementation of the day rules (which lines count, which file is selected, the sign), slow, and for
whole files at a time. It shares no code with the package. `sales_assets_tests.pipeline.reference_parser` covers the
details of cells and quotes.
"""

import csv
import datetime as dt
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from types import MappingProxyType

NUMBERS = ("city_id", "customer_id", "item_id")
AMOUNTS = ("quantity", "payment_amount")
NAMES = ("city_name", "first_name", "last_name", "item_name")

# date_id, uniq_id, item_id, customer_id, city_id, quantity, amount, status
Row = tuple[int, str, int, int, int, Decimal, Decimal, str]
Key = tuple[dt.date, str, str]


@dataclass(frozen=True)
class Delivered:
    """One delivered order file, numbered by its place in the list. Equal objects have the same contents."""

    kind: str  # report or increment
    first_day: dt.date
    last_day: dt.date
    text: str


# The identity of a rejected row across contents: its text, its day, and its number among equal rows.
RowKey = tuple[str, tuple[object, ...], int]
# The corrected text of a rejected row, or None for a discarded row.
Resolutions = Mapping[RowKey, str | None]


@dataclass(frozen=True)
class Reading:
    """The parse result of a file: each line is exactly one of kept, repeats, bad and discarded.

    rejected: the lines that were bad before or after resolutions.
    """

    has_status: bool
    kept: dict[Key, Row]
    repeats: int
    bad: set[int]
    discarded: int = 0
    rejected: frozenset[int] = frozenset()

    @property
    def usable(self) -> bool:
        return bool(self.kept) or not self.bad


def read(delivered: Delivered, resolutions: Resolutions = MappingProxyType({})) -> Reading:
    """Parse a file with a valid header; rejected rows get the resolutions of identical rows."""
    resolved: dict[int, str | None] = {}
    rejected: set[int] = set()
    while True:
        reading = _read(delivered, resolved)
        rejected |= reading.bad
        keys = row_keys(delivered, rejected)
        found = {line_no: resolutions[key] for line_no, key in keys.items() if key in resolutions}
        if found.keys() <= resolved.keys():
            return replace(reading, rejected=frozenset(rejected))
        resolved |= found


def row_keys(delivered: Delivered, rejected: Iterable[int]) -> dict[int, RowKey]:
    """Return {line number: identity of the row} of the rejected rows of a file."""
    lines = delivered.text.split("\n")
    keys: dict[int, RowKey] = {}
    for line_no in sorted(rejected):
        text = lines[line_no - 1]
        cells = [*text.split(","), "", ""]
        try:
            day: dt.date | None = dt.date.fromisoformat(cells[2][:10])
        except ValueError:
            day = None
        where: tuple[object, ...] = (day,)
        if day is None or not delivered.first_day <= day <= delivered.last_day:
            where = (delivered.kind, delivered.first_day, delivered.last_day, day)
        occurrence = sum(key[:2] == (text, where) for key in keys.values())
        keys[line_no] = (text, where, occurrence)
    return keys


def _read(delivered: Delivered, resolved: Mapping[int, str | None]) -> Reading:
    rows = csv.reader(io.StringIO(delivered.text, newline=""))
    header = next(rows)
    copies: dict[Key, list[tuple[int, tuple[object, ...], Row]]] = defaultdict(list)
    bad: set[int] = set()
    discarded = 0
    for delivered_cells in rows:
        cells, line_no = delivered_cells, rows.line_num
        if not cells:
            continue
        if line_no in resolved:
            text = resolved[line_no]
            if text is None:
                discarded += 1
                continue
            cells = text.split(",")
        try:
            if len(cells) != len(header):
                raise ValueError("ragged")
            key, contents, row = _line(dict(zip(header, cells, strict=True)))
            if not delivered.first_day <= key[0] <= delivered.last_day:
                raise ValueError("outside")
            copies[key].append((line_no, contents, row))
        except (ValueError, InvalidOperation):
            bad.add(line_no)
    kept, repeats = {}, 0
    for key, lines in copies.items():
        if len({contents for _, contents, _ in lines}) == 1:
            kept[key] = lines[0][2]
            repeats += len(lines) - 1
        else:
            bad |= {line_no for line_no, _, _ in lines}
    return Reading("status" in header, kept, repeats, bad, discarded)


def stored_contents(deliveries: Sequence[Delivered]) -> dict[Delivered, int]:
    """Return the stored contents, in the order of their first delivery, each with the number of its latest delivery."""
    return {delivered: number for number, delivered in enumerate(deliveries)}


def mart(
    deliveries: Sequence[Delivered], days: Iterable[dt.date], resolutions: Resolutions = MappingProxyType({})
) -> list[Row]:
    """Return the report API's rows of the days, after all deliveries were made and each day was loaded."""
    readings = [
        (delivered, number, read(delivered, resolutions)) for delivered, number in stored_contents(deliveries).items()
    ]
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


def lines_by_day(folder: Path, file: str, date_column: str) -> dict[int, list[dict[str, str]]]:
    """Return {day: lines of the increment's file or, without an increment, of the report's}, without exact duplicates.

    For files without a status, in a folder of the simulator's layout. file: a pattern of the file's name.
    """
    days: dict[int, list[dict[str, str]]] = defaultdict(list)
    # Increments replace days of the report.
    for path in [*folder.glob(f"main/{file}.csv"), *folder.glob(f"inc/*/{file}_inc.csv")]:
        lines: dict[tuple[str, ...], dict[str, str]] = {}
        with path.open(newline="") as opened:
            for cells in csv.DictReader(opened):
                cells.pop("id", None)
                lines.setdefault(tuple(cells.values()), cells)
        found = defaultdict(list)
        for cells in lines.values():
            found[int(cells[date_column][:10].replace("-", ""))].append(cells)
        days |= found
    return days


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
