"""A folder of report files, read again at every request: its files and the days they cover.

    ROOT/main/{user_orders_log,custom_research,user_activity_log,price_log}.csv
    ROOT/inc/YYYY-MM-DD/{...}_inc.csv

The spellings `user_order_log` and `customer_research` are served too. Files may be added, changed or removed while a
server runs.
"""

import codecs
import csv
import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

ORDERS = ("user_orders_log", "user_order_log")
PRICES = "price_log"
NAMES = (*ORDERS, "custom_research", "customer_research", "user_activity_log", PRICES)
_ONE_DAY = timedelta(days=1)
_REPORT_LAG_DAYS = 8
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Period:
    """The days a report covers, both ends inclusive."""

    start: date
    end: date


class ReportFolder:
    """The report files below one folder.

    Symbolic links to other places are served, since only the folder's owner can create them; requests can only name
    listed files.
    """

    def __init__(self, root: Path) -> None:
        """Raise NotADirectoryError unless root is a folder. It may be empty."""
        if not root.is_dir():
            raise NotADirectoryError(f"{root} is not a folder of report files")
        self._root = root
        self._lock = threading.Lock()
        self._spans: dict[Path, tuple[tuple[int, int, int], Period | None]] = {}

    def report(self) -> dict[str, Path]:
        """Return the files of the main report by their key name."""
        return _files(self._root / "main", NAMES)

    def increment(self, day: date) -> dict[str, Path] | None:
        """Return the files of a day's increment by their key name, or None if the day has no folder."""
        folder = self._root / "inc" / day.isoformat()
        return _files(folder, [f"{name}_inc" for name in NAMES]) if folder.is_dir() else None

    def increment_days(self) -> list[date]:
        """Return the days that have an increment folder, in order."""
        folders = (path for path in self._root.glob("inc/*") if path.is_dir())
        days = (_day(os.fsencode(path.name)) for path in folders)
        return sorted(day for day in days if day is not None)

    def period(self) -> Period:
        """Return the period from the first to the last day of the main report's order lines.

        Without any such line it is the day before the first increment; without increments either, the last
        day that a report of the real service would cover today.
        """
        files = self.report()
        spans = [span for name in ORDERS if name in files and (span := self._span(files[name])) is not None]
        if spans:
            return Period(min(span.start for span in spans), max(span.end for span in spans))
        days = self.increment_days()
        day = days[0] - _ONE_DAY if days else datetime.now(UTC).date() - _REPORT_LAG_DAYS * _ONE_DAY
        return Period(day, day)

    def _span(self, path: Path) -> Period | None:
        # A file of ten million lines takes seconds to read: do it once per version, not in two requests at a time.
        with self._lock:
            version = file_version(path.stat())
            known = self._spans.get(path)
            if known is None or known[0] != version:
                known = self._spans[path] = (version, _read_span(path))
            return known[1]


def file_version(stat: os.stat_result) -> tuple[int, int, int]:
    """Return values that change when a file is edited, or replaced by a rename within one clock tick."""
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _files(folder: Path, names: Iterable[str]) -> dict[str, Path]:
    paths = {name: folder / f"{name}.csv" for name in names}
    return {name: path for name, path in paths.items() if path.is_file()}


def _read_span(path: Path) -> Period | None:
    first: date | None = None
    last: date | None = None
    with path.open("rb") as lines:
        names = [name.strip() for name in _cells(next(lines, b"").removeprefix(codecs.BOM_UTF8))]
        if b"date_time" not in names:
            return None
        column = names.index(b"date_time")
        while block := lines.read(_BLOCK_BYTES) + lines.readline():
            days = [day for text in _date_texts(block, column) if (day := _day(text))]
            first = min([*days, first] if first else days, default=None)
            last = max([*days, last] if last else days, default=None)
    return Period(first, last) if first and last else None


def _date_texts(block: bytes, column: int) -> set[bytes]:
    # A report may have ten million lines: the CSV reader, ten times as slow as splitting, is used only for blocks with
    # a quote or a line that is too short.
    lines = block.splitlines()
    if b'"' not in block:
        with suppress(IndexError):
            return {line.split(b",", column + 1)[column][:10] for line in lines}
    return {cells[column][:10] for cells in map(_cells, lines) if column < len(cells)}


def _cells(line: bytes) -> list[bytes]:
    try:
        return [cell.encode("latin-1") for cell in next(csv.reader([line.decode("latin-1")]), [])]
    except csv.Error:
        return []


def _day(text: bytes) -> date | None:
    try:
        # fromisoformat alone would also accept 20240908 and 2024-W36-7.
        return date.fromisoformat(text.decode("ascii")) if text[4:5] == text[7:8] == b"-" else None
    except ValueError:
        return None
