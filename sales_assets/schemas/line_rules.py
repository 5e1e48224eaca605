"""Validate the header of a report file and single lines, in plain Python, with a reason for every rejection.

The rules are those of docs/data-contracts/day-rules.md. Only this module rejects lines of a file; the pipeline's
`fast_path` converts lines that are certainly valid. A corrected line is checked by the same rules before it is stored
(``postgres/resolutions.py``).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final

from sales_assets.schemas.report_files import REPORT_FILES, Column, Kind, ReportFile, file_with_header

MAX_LINE: Final = 1 << 20
MAX_SHOWN: Final = 40
MAX_SHOWN_HEADER: Final = 200

MAX_INT4: Final = 2**31 - 1
MIN_INT4: Final = -(2**31)
INT4_DIGITS: Final = 10
# The range of numeric(10,2).
WHOLE_DIGITS: Final = 8
DECIMALS: Final = 2

SHIPPED: Final = "shipped"
REFUNDED: Final = "refunded"

# RFC 4180, with possessive quantifiers: a megabyte of quotes is scanned only once.
_CELL: Final = re.compile(r'(?:"((?:[^"]++|"")*+)"|([^",]*+))(?=,|\Z)')
_QUOTED: Final = re.compile(r'"(?:[^"]++|"")*+"')
_INTEGER: Final = re.compile(r"(-?)0*+([0-9]*)")
_AMOUNT: Final = re.compile(r"(-?)([0-9]++)(?:\.([0-9]*))?")
_DATE: Final = re.compile(r"([1-9][0-9]{3})-([0-9]{2})-([0-9]{2})")
TIME_OF_DAY: Final = re.compile(
    r"(?:[T ](?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]+)?)?"
    r"(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)?)?"
)
_CELLS: Final = re.compile(r"[^,;|\t]+")
_UTF16: Final = re.compile(rb",\x00[^\x00]\x00|\x00,\x00[^\x00]")
_UTF16_MARKS: Final = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


class UnreadableFile(ValueError):
    """The file as a whole can't be read: wrong header or encoding. The message has what was found and expected.

    The message gets into Dagster's events, which are never erased, so it has no value of a row (`_shown_header`).
    """


class InvalidRecordError(ValueError):
    """A record breaks a rule; the message is the reason."""


class UnclosedQuoteError(InvalidRecordError):
    """The record ends inside a quoted value, which may continue in the next line."""


class NotUtf8Error(InvalidRecordError):
    """The record holds bytes that are not UTF-8."""


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a file.

    columns: names as delivered, without surrounding spaces; the expected ones for a file without a header.
    extra_columns: unknown columns, which are ignored.
    has_status: whether the file has a status column.
    """

    columns: tuple[str, ...]
    extra_columns: tuple[str, ...] = ()
    has_status: bool = False


def read_header(line: bytes, file: ReportFile) -> Header | None:
    """Read the header from a file's first line (without LF); None if the file has no header and needs none.

    Raises UnreadableFile.
    """
    refuse_utf16(line)
    pieces = [piece for piece in line.removesuffix(b"\r").split(b"\r") if piece]
    if len(pieces) > 1 and (file.has_header or all(piece.count(b",") == 1 for piece in pieces)):
        raise UnreadableFile("the lines end in CR alone, expected LF or CRLF")
    line = line.removesuffix(b"\r")
    try:
        if len(line) > MAX_LINE:
            raise InvalidRecordError(f"longer than {MAX_LINE} bytes")
        names = [name.strip(" \t") for name in split_record(_decode(line))]
    except InvalidRecordError as error:
        if not file.has_header:
            return None
        raise UnreadableFile(
            f"the first line is not a header: {error}; found {_shown_header(line.decode(errors='replace'))}, "
            f"expected {file.expected_header}"
        ) from error
    if not file.has_header and sorted(names) != sorted(column.header or "" for column in file.delivered):
        _refuse_other(names, file)
        return None
    return header_of(names, file)


def header_of(names: Sequence[str], file: ReportFile) -> Header:
    """Build the header from column names in any order. Raises UnreadableFile if they don't fit the file."""
    found = f"found {_shown_header(','.join(names))}, expected {file.expected_header}"
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
    """Raise UnreadableFile if this is the header of another file: clearer than a list of missing columns."""
    other = file_with_header(names)
    if other is not None and other is not file:
        found = _shown_header(",".join(names))
        raise UnreadableFile(f"this looks like {other.name}: found {found}, expected {file.expected_header}")


def plain_header(file: ReportFile) -> Header:
    """Build the header that a file without one would have."""
    return header_of([column.header for column in file.delivered if column.header], file)


def refuse_utf16(start: bytes) -> None:
    """Raise UnreadableFile if the start of a file looks like UTF-16."""
    if utf16_of(start) is not None:
        raise UnreadableFile("the file is UTF-16, expected UTF-8")


def utf16_of(start: bytes) -> str | None:
    """Return the UTF-16 codec of a file with this start, by its byte order mark or NULs around commas; else None."""
    if marked := _UTF16_MARKS.get(start[:2]):
        return marked
    found = _UTF16.search(start)
    if found is None:
        return None
    return "utf-16-be" if start.index(b",", found.start()) % 2 else "utf-16-le"


def split_record(text: str) -> list[str]:
    """Split one record into fields by RFC 4180. A quote inside an unquoted field is an error.

    Raises InvalidRecordError, and UnclosedQuoteError if a further line could complete the record.
    """
    if '"' not in text:
        if "\r" in text or "\n" in text:
            raise InvalidRecordError("line break inside the line")
        return text.split(",")
    cells: list[str] = []
    at = 0
    while match := _CELL.match(text, at):
        quoted, unquoted = match.groups()
        if quoted is None and ("\r" in unquoted or "\n" in unquoted):
            raise InvalidRecordError("line break inside the line")
        cells.append(unquoted if quoted is None else quoted.replace('""', '"'))
        if match.end() == len(text):
            return cells
        at = match.end() + 1
    field = len(cells) + 1
    if text[at] != '"':
        raise InvalidRecordError(f"quote inside field {field}, which does not start with one")
    if _QUOTED.match(text, at):
        raise InvalidRecordError(f"text after the closing quote of field {field}")
    raise UnclosedQuoteError(f"the quote that opens field {field} is not closed")


class LineRules:
    """Validates the lines of a file with a given header."""

    def __init__(self, file: ReportFile, header: Header) -> None:
        self.file = file
        self.header = header
        self.positions = {
            column.name: header.columns.index(column.header)
            for column in file.delivered
            if column.header in header.columns
        }

    def read(self, raw: bytes) -> dict[str, object]:
        """Parse one record (without its line end) to {column: value}, without the line number.

        Raises InvalidRecordError with every faulty column in its message.
        """
        if len(raw) > MAX_LINE:
            raise InvalidRecordError(f"the line is longer than {MAX_LINE} bytes")
        text = _decode(raw)
        if "\0" in text:
            raise InvalidRecordError(f"NUL byte at character {text.index(chr(0)) + 1}")
        cells = split_record(text)
        if len(cells) != len(self.header.columns):
            raise InvalidRecordError(f"{len(cells)} fields, expected {len(self.header.columns)}")
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
                    raise InvalidRecordError("is empty")
                values[column.name] = _READ[column.kind](cell)
                if column.kind is Kind.DATE_TIME:
                    values["date_id"] = day_of(cell)
            except InvalidRecordError as fault:
                shown = f" {_shown(cell)}" if cell else ""
                faults.append(f"{column.header}{shown} {fault}")
        if faults:
            raise InvalidRecordError("; ".join(faults))
        return values

    def opens_quote(self, raw: bytes) -> bool:
        """Return whether the record ends inside a quoted value and is valid up to there."""
        try:
            self.read(raw)
        except UnclosedQuoteError:
            return True
        except InvalidRecordError:
            return False
        return False

    def fits(self, raw: bytes) -> bool:
        """Return whether the record is well formed (UTF-8, quotes, number of fields); values are not checked."""
        try:
            return len(split_record(_decode(raw))) == len(self.header.columns)
        except InvalidRecordError:
            return False

    def has_valid_line(self, lines: Iterable[bytes]) -> bool:
        """Return whether a line is valid by itself, quotes ignored. Such lines are never joined to a record."""
        return any(self.is_valid(line.replace(b'"', b"")) for line in lines)

    def is_valid(self, raw: bytes) -> bool:
        try:
            self.read(raw)
        except InvalidRecordError:
            return False
        return True


def record_of(text: str) -> bytes:
    """Encode a record that was given as text, without surrounding line ends, for `LineRules.read`."""
    return text.strip("\r\n").encode(errors="surrogatepass")


def day_of(text: str) -> int:
    """Parse the date in the first ten characters to YYYYMMDD, without time zone conversion."""
    match = _DATE.match(text)
    if not match:
        raise InvalidRecordError("does not start with a date YYYY-MM-DD")
    year, month, day = map(int, match.groups())
    try:
        date(year, month, day)
    except ValueError:
        raise InvalidRecordError("is not a calendar date") from None
    if not TIME_OF_DAY.fullmatch(text, match.end()):
        raise InvalidRecordError("does not continue with a time of day")
    return year * 10000 + month * 100 + day


def status_of(text: str) -> str:
    """Parse a status (shipped or refunded), ignoring case and surrounding spaces; empty is shipped."""
    status = text.strip().lower() or SHIPPED
    if status not in (SHIPPED, REFUNDED):
        raise InvalidRecordError("is unknown")
    return status


def is_valid_cell(text: str, column: Column) -> bool:
    """Return whether a cell is valid for its column; a row with an invalid cell is rejected."""
    if not text:
        return column.blank
    try:
        _READ[column.kind](text)
        if column.kind is Kind.DATE_TIME:
            day_of(text)
    except InvalidRecordError:
        return False
    return True


def _integer_of(text: str) -> int:
    match = _INTEGER.fullmatch(text)
    if not match or text == "-":
        raise InvalidRecordError("is not an integer")
    sign, digits = match.groups()
    # Check the length first: int() raises another error for more than 4300 digits.
    value = int(f"{sign}{digits or 0}") if len(digits) <= INT4_DIGITS else MAX_INT4 + 1
    if not MIN_INT4 <= value <= MAX_INT4:
        raise InvalidRecordError("is out of the range of a 4-byte integer")
    return value


def _amount_of(text: str) -> Decimal:
    match = _AMOUNT.fullmatch(text)
    if not match:
        raise InvalidRecordError("is not a plain decimal number")
    minus, whole, decimals = match.groups(default="")
    if minus:
        # Includes -0: the API writes no signs, so it isn't worth an exception.
        raise InvalidRecordError("is negative")
    whole, decimals = whole.lstrip("0"), decimals.rstrip("0")
    if len(whole) > WHOLE_DIGITS:
        raise InvalidRecordError(f"has more than {WHOLE_DIGITS} digits before the decimal point")
    if len(decimals) > DECIMALS:
        raise InvalidRecordError(f"has more than {DECIMALS} decimals")
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


def _shown(text: str, limit: int = MAX_SHOWN) -> str:
    return f"'{text}'" if len(text) <= limit else f"'{text[:limit]}...'"


def _shown_header(line: str) -> str:
    """Quote a first line, with ? for every cell that is not a column name: the line may be a row of a person."""
    known = {column.header for file in REPORT_FILES.values() for column in file.delivered}
    known |= {name for file in REPORT_FILES.values() for name in file.ignored}
    return _shown(
        _CELLS.sub(lambda cell: cell[0] if cell[0].strip(' "').lower() in known else "?", line), MAX_SHOWN_HEADER
    )
