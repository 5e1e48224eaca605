"""The rules of a report file's header and of one of its lines, in plain Python.

Belongs here: what makes a header readable and a line good, and the reason when it is not. This is the only
place that decides; `fast_path.py` may wave through what is good beyond doubt, and nothing else.
Does not belong here: streams, blocks, arrow batches.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final

from sales_assets.schemas.report_files import Kind, ReportFile, file_with_header

MAX_LINE: Final = 1 << 20
MAX_SHOWN: Final = 40
MAX_SHOWN_HEADER: Final = 200

MAX_INT4: Final = 2**31 - 1
MIN_INT4: Final = -(2**31)
INT4_DIGITS: Final = 10
# What numeric(10,2) can hold.
WHOLE_DIGITS: Final = 8
DECIMALS: Final = 2

SHIPPED: Final = "shipped"
REFUNDED: Final = "refunded"

# RFC 4180, possessive: a megabyte of quotes is gone through once.
_CELL: Final = re.compile(r'(?:"((?:[^"]++|"")*+)"|([^",]*+))(?=,|\Z)')
_QUOTED: Final = re.compile(r'"(?:[^"]++|"")*+"')
_INTEGER: Final = re.compile(r"(-?)0*+([0-9]*)")
_AMOUNT: Final = re.compile(r"(-?)([0-9]++)(?:\.([0-9]*))?")
_DATE: Final = re.compile(r"([1-9][0-9]{3})-([0-9]{2})-([0-9]{2})")
TIME_OF_DAY: Final = re.compile(
    r"(?:[T ](?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]+)?)?"
    r"(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)?)?"
)
_UTF16: Final = re.compile(rb",\x00[^\x00]\x00|\x00,\x00[^\x00]")
_UTF16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")


class UnreadableFile(ValueError):
    """The file as a whole can't be read: wrong header or encoding. Says what was found and expected."""


class BadRecordError(ValueError):
    """A record breaks a rule; the message is the reason."""


class UnclosedQuoteError(BadRecordError):
    """The record ends inside a quoted value, which may go on in the next line."""


class NotUtf8Error(BadRecordError):
    """The record holds bytes that are not UTF-8."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of a file says.

    columns: the names as delivered, without surrounding spaces; the known ones for a file without a header.
    extra_columns: those of them that are unknown and therefore not read.
    has_status: whether the file states statuses.
    """

    columns: tuple[str, ...]
    extra_columns: tuple[str, ...] = ()
    has_status: bool = False


def read_header(line: bytes, file: ReportFile) -> Header | None:
    """Read the header in a file's first line (without LF); None if a file without a header starts there.

    Raises UnreadableFile.
    """
    refuse_utf16(line)
    pieces = [piece for piece in line.removesuffix(b"\r").split(b"\r") if piece]
    if len(pieces) > 1 and (file.has_header or all(piece.count(b",") == 1 for piece in pieces)):
        raise UnreadableFile("the lines end in CR alone, expected LF or CRLF")
    line = line.removesuffix(b"\r")
    try:
        if len(line) > MAX_LINE:
            raise BadRecordError(f"longer than {MAX_LINE} bytes")
        names = [name.strip(" \t") for name in split_record(_decode(line))]
    except BadRecordError as error:
        if not file.has_header:
            return None
        raise UnreadableFile(
            f"the first line is no header: {error}; found {_shown(line, MAX_SHOWN_HEADER)}, "
            f"expected {file.expected_header}"
        ) from error
    if not file.has_header and sorted(names) != sorted(column.header or "" for column in file.delivered):
        _refuse_other(names, file)
        return None
    return header_of(names, file)


def header_of(names: Sequence[str], file: ReportFile) -> Header:
    """Make the header with these column names, in any order. Raises UnreadableFile if the file can't have it."""
    found = f"found {_shown(','.join(names), MAX_SHOWN_HEADER)}, expected {file.expected_header}"
    known = {column.header for column in file.delivered} | set(file.ignored)
    counts = Counter(names)
    missing = [c.header for c in file.delivered if c.header and not c.optional and not counts[c.header]]
    if missing:
        _refuse_other(names, file)
    if not known.intersection(names):
        raise UnreadableFile(f"there is no header: {found}")
    if missing:
        raise UnreadableFile(f"the header lacks {', '.join(missing)}: {found}")
    if double := [c.header for c in file.delivered if c.header and counts[c.header] > 1]:
        raise UnreadableFile(f"the header has {', '.join(double)} more than once: {found}")
    # Very old files have an unnamed index column in front.
    extra = [name for at, name in enumerate(names) if name not in known and (name or at)]
    has_status = any(c.kind is Kind.STATUS and counts[c.header or ""] for c in file.delivered)
    return Header(tuple(names), tuple(extra), has_status)


def _refuse_other(names: Sequence[str], file: ReportFile) -> None:
    """Raise UnreadableFile if a first line is another file's: clearer than an error about missing columns."""
    other = file_with_header(names)
    if other is not None and other is not file:
        found = _shown(",".join(names), MAX_SHOWN_HEADER)
        raise UnreadableFile(f"this looks like {other.name}: found {found}, expected {file.expected_header}")


def plain_header(file: ReportFile) -> Header:
    """Make the header that a file without one would have."""
    return header_of([column.header for column in file.delivered if column.header], file)


def refuse_utf16(start: bytes) -> None:
    """Raise UnreadableFile if a file that starts so is UTF-16: by its mark, or by the NULs around commas."""
    if start.startswith(_UTF16_MARKS) or _UTF16.search(start):
        raise UnreadableFile("the file is UTF-16, expected UTF-8")


def split_record(text: str) -> list[str]:
    """Split one record into fields by RFC 4180. A quote inside an unquoted field is an error: nobody guesses.

    Raises BadRecordError, and UnclosedQuoteError where a further line could complete the record.
    """
    if '"' not in text:
        if "\r" in text or "\n" in text:
            raise BadRecordError("line break inside the line")
        return text.split(",")
    cells: list[str] = []
    at = 0
    while match := _CELL.match(text, at):
        quoted, unquoted = match.groups()
        if quoted is None and ("\r" in unquoted or "\n" in unquoted):
            raise BadRecordError("line break inside the line")
        cells.append(unquoted if quoted is None else quoted.replace('""', '"'))
        if match.end() == len(text):
            return cells
        at = match.end() + 1
    field = len(cells) + 1
    if text[at] != '"':
        raise BadRecordError(f"quote inside field {field}, which does not start with one")
    if _QUOTED.match(text, at):
        raise BadRecordError(f"text after the closing quote of field {field}")
    raise UnclosedQuoteError(f"the quote that opens field {field} is not closed")


class LineRules:
    """The rules for the lines of one file with one header."""

    def __init__(self, file: ReportFile, header: Header) -> None:
        self.file = file
        self.header = header
        self.positions = {
            column.name: header.columns.index(column.header)
            for column in file.delivered
            if column.header in header.columns
        }

    def read(self, raw: bytes) -> dict[str, object]:
        """Read the values of one record (without its line end) by column name, except for its line number.

        Raises BadRecordError with every faulty column in its message.
        """
        if len(raw) > MAX_LINE:
            raise BadRecordError(f"the line is longer than {MAX_LINE} bytes")
        text = _decode(raw)
        if "\0" in text:
            raise BadRecordError(f"NUL byte at character {text.index(chr(0)) + 1}")
        cells = split_record(text)
        if len(cells) != len(self.header.columns):
            raise BadRecordError(f"{len(cells)} fields, expected {len(self.header.columns)}")
        values: dict[str, object] = {}
        faults: list[str] = []
        for column in self.file.delivered:
            position = self.positions.get(column.name)
            if position is None:
                values[column.name] = SHIPPED if column.kind is Kind.STATUS else None
                continue
            cell = cells[position]
            try:
                if not cell and not column.blank:
                    raise BadRecordError("is empty")
                values[column.name] = _READ[column.kind](cell)
                if column.kind is Kind.DATE_TIME:
                    values["date_id"] = day_of(cell)
            except BadRecordError as fault:
                shown = f" {_shown(cell)}" if cell else ""
                faults.append(f"{column.header}{shown} {fault}")
        if faults:
            raise BadRecordError("; ".join(faults))
        return values

    def opens_quote(self, raw: bytes) -> bool:
        """Whether the record ends inside a quoted value and is sound up to there."""
        try:
            self.read(raw)
        except UnclosedQuoteError:
            return True
        except BadRecordError:
            return False
        return False

    def fits(self, raw: bytes) -> bool:
        """Whether the record is sound in itself, whatever its values: UTF-8, quotes, number of fields."""
        try:
            return len(split_record(_decode(raw))) == len(self.header.columns)
        except BadRecordError:
            return False

    def is_good(self, raw: bytes) -> bool:
        try:
            self.read(raw)
        except BadRecordError:
            return False
        return True


def day_of(text: str) -> int:
    """Read the calendar date in the first ten characters, as YYYYMMDD, never converted between time zones."""
    match = _DATE.match(text)
    if not match:
        raise BadRecordError("does not start with a date YYYY-MM-DD")
    year, month, day = map(int, match.groups())
    try:
        date(year, month, day)
    except ValueError:
        raise BadRecordError("is no day of the calendar") from None
    if not TIME_OF_DAY.fullmatch(text, match.end()):
        raise BadRecordError("does not go on with a time of day")
    return year * 10000 + month * 100 + day


def status_of(text: str) -> str:
    """Read shipped or refunded, ignoring case and surrounding spaces; empty is shipped."""
    status = text.strip().lower() or SHIPPED
    if status not in (SHIPPED, REFUNDED):
        raise BadRecordError("is unknown")
    return status


def _integer_of(text: str) -> int:
    match = _INTEGER.fullmatch(text)
    if not match or text == "-":
        raise BadRecordError("is no integer")
    sign, digits = match.groups()
    # The length first: int() refuses more than 4300 digits with an error of its own.
    value = int(f"{sign}{digits or 0}") if len(digits) <= INT4_DIGITS else MAX_INT4 + 1
    if not MIN_INT4 <= value <= MAX_INT4:
        raise BadRecordError("is out of the range of an integer of 4 bytes")
    return value


def _amount_of(text: str) -> Decimal:
    match = _AMOUNT.fullmatch(text)
    if not match:
        raise BadRecordError("is no plain decimal number")
    minus, whole, decimals = match.groups(default="")
    if minus:
        # -0 too: the service writes no sign, and a sign that means nothing is not worth a rule.
        raise BadRecordError("is negative")
    whole, decimals = whole.lstrip("0"), decimals.rstrip("0")
    if len(whole) > WHOLE_DIGITS:
        raise BadRecordError(f"has more than {WHOLE_DIGITS} digits before the decimal point")
    if len(decimals) > DECIMALS:
        raise BadRecordError(f"has more than {DECIMALS} decimals")
    return Decimal(f"{whole or 0}.{decimals or 0}")


_READ: Final[dict[Kind, Callable[[str], object]]] = {
    Kind.INTEGER: _integer_of,
    Kind.AMOUNT: _amount_of,
    Kind.TEXT: str,
    Kind.DATE_TIME: str,
    Kind.STATUS: status_of,
}


def _decode(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise NotUtf8Error(f"not UTF-8: byte 0x{raw[error.start]:02x} at position {error.start + 1}") from None


def _shown(value: str | bytes, limit: int = MAX_SHOWN) -> str:
    text = value.decode(errors="backslashreplace") if isinstance(value, bytes) else value
    return f"'{text}'" if len(text) <= limit else f"'{text[:limit]}...'"
