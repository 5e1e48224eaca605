"""Blank the names of erased customers in the bytes of a report file, before it is stored.

Only cells are blanked: lines, commas and all other cells stay byte for byte, so that line numbers, keys and sums do
not change. The result depends on the contents and on the erased customers only, whether they were erased at once
or one after the other. A file that is delivered again is therefore recognized by the hash of its blanked contents.
"""

import codecs
import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain
from typing import Final

from sales_assets.pipeline.csv_reader import MAX_SPAN, MAX_SPAN_LINES
from sales_assets.postgres.warehouse import Transaction, Warehouse
from sales_assets.schemas.line_rules import (
    MAX_LINE,
    Header,
    LineRules,
    UnreadableFile,
    is_valid_cell,
    plain_header,
    read_header,
    utf16_of,
)
from sales_assets.schemas.report_files import Column, Kind, ReportFile

_CUSTOMER: Final = "customer_id"
_WRITTEN_AT_ONCE: Final = 1 << 20
# A well-formed quoted cell, or everything up to the next comma: lines that are rejected have any kind of cells.
_CELL: Final = re.compile(rb'(?:\A|(?<=,))(?:[ \t]*"(?:[^"]++|"")*+"[ \t]*(?=,|\Z)|[^,]*+)')
_QUOTED: Final = re.compile(rb'[ \t]*"(?:[^"]++|"")*+"[ \t]*')
_LETTER: Final = re.compile(rb"[A-Za-z\x80-\xff]")
_DATE: Final = re.compile(rb'"?\d{4}-\d{2}-\d{2}')
_AROUND: Final = b' \t\r"'
_UTF8_MARK: Final = b"\xef\xbb\xbf"
# The first line that is not blank, as far as it is read; in UTF-16 a line break has a NUL beside it.
_START: Final = re.compile(rb"[\0\r\n]*+[^\n]*+\n")


def erased_customers(connection: Warehouse | Transaction) -> frozenset[int]:
    """Read the ids of the customers whose names were erased."""
    return frozenset(row["customer_id"] for row in connection.rows("staging/erased_customer", "all"))


class NameEraser:
    """Blanks cells of erased customers in report files: their names, and columns that are not in the contract.

    In a row with as many cells as the header, the customer is the cell of the column `customer_id`. A cell that is not
    valid for its column, such as a name among the quantities, is masked: the row is rejected in either case. In a line
    with more or fewer cells, which is always rejected, every cell with an erased customer's number counts, and the
    cells after it are blanked as long as they contain letters: blanking too many cells of a rejected line is better
    than missing a name. If the header has names or unknown columns elsewhere, all cells of the line with letters are
    blanked. If the header can't be read, all lines are treated as if the names followed the number, and names elsewhere
    remain.

    A file in UTF-16, which no load accepts, is blanked too, and stays in UTF-16.
    """

    def __init__(self, customer_ids: Collection[int]) -> None:
        self._ids = frozenset(str(customer_id).encode() for customer_id in customer_ids)

    def erase(self, file: ReportFile, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the contents of a file with the cells blanked."""
        if not self._ids or not _has_customers(file):
            yield from chunks
            return
        start, chunks = _with_start(chunks)
        codec = utf16_of(start)
        if codec is None:
            yield from self._erase(file, chunks)
            return
        utf16 = _Utf16(chunks, codec)
        for erased in self._erase(file, utf16):
            yield utf16.encoded(erased)
        yield utf16.rest

    def _erase(self, file: ReportFile, chunks: Iterable[bytes]) -> Iterator[bytes]:
        held: list[bytes] = []
        size = 0
        for record in self._records(file, chunks):
            held.append(record)
            size += len(record)
            if size >= _WRITTEN_AT_ONCE:
                yield b"".join(held)
                held, size = [], 0
        if held:
            yield b"".join(held)

    def erase_line(self, text: str, file: ReportFile, header: Header | None) -> str:
        """Blank the cells of one line of a file with this header; None: the header can't be read."""
        if not self._ids or not _has_customers(file):
            return text
        columns = _Columns(file, header)
        return self._erased(text.encode(errors="surrogatepass"), columns).decode(errors="surrogatepass")

    def _records(self, file: ReportFile, chunks: Iterable[bytes]) -> Iterator[bytes]:
        lines = _Lines(chunks)
        columns: _Columns | None = None
        for line in lines:
            if columns is None:
                if not line.strip(b"\r\n" + _UTF8_MARK):
                    yield line
                    continue
                header = _header_in(line, file)
                columns = _Columns(file, header)
                if header is not None:
                    yield line
                    continue
            if line.count(b'"') % 2:
                record = _whole_record(line, lines, columns)
                yield self._erased(record, columns)
                continue
            # Most lines have neither quotes nor an erased customer.
            if b'"' not in line and columns.width:
                cells = line.split(b",")
                if len(cells) == columns.width and _number(cells[columns.customer]) not in self._ids:
                    yield line
                    continue
            yield self._erased(line, columns)

    def _erased(self, record: bytes, columns: "_Columns") -> bytes:
        body = record.rstrip(b"\r\n")
        spans = [match.span() for match in _CELL.finditer(body)]
        numbers = [_number(body[start:end]) for start, end in spans]
        masked: set[int] = set()
        if len(spans) == columns.width:
            if numbers[columns.customer] not in self._ids:
                return record
            blanked = set(columns.personal)
            masked = {at for at, column in columns.typed if not _has_value(body[slice(*spans[at])], column)}
        else:
            blanked = set()
            found = [at for at, number in enumerate(numbers) if number in self._ids]
            if found and not columns.names_follow:
                blanked = {at for at, span in enumerate(spans) if _may_be_name(body[slice(*span)])}
            for at in found:
                while at + 1 < len(spans) and _may_be_name(body[slice(*spans[at + 1])]):
                    at += 1
                    blanked.add(at)
        pieces, done = [], 0
        for at in sorted(blanked | masked):
            start, end = spans[at]
            pieces += [body[done:start], (_mask if at in masked else _blank)(body[start:end])]
            done = end
        return b"".join([*pieces, body[done:], record[len(body) :]])


class _Columns:
    """Positions of the customer, of the cells to blank, and of those with numbers, dates and statuses.

    Without a readable header, width is 0. names_follow: the cells to blank directly follow the customer.
    """

    def __init__(self, file: ReportFile, header: Header | None) -> None:
        names = header.columns if header else ()
        self.width = len(names)
        self.customer = names.index(_CUSTOMER) if header else 0
        unknown = set(header.extra_columns) if header else set()
        self.typed = [
            (names.index(column.header), column)
            for column in file.delivered
            if column.header in names and column.name != _CUSTOMER and column.kind is not Kind.TEXT
        ]
        self.personal = [at for at, name in enumerate(names) if name in file.personal or name in unknown]
        after = range(self.customer + 1, self.customer + 1 + len(self.personal))
        self.names_follow = sorted(self.personal) == list(after)
        self._rules = LineRules(file, header) if header else None

    def has_valid_line(self, lines: Iterable[bytes]) -> bool:
        return self._rules is not None and self._rules.has_valid_line(line.rstrip(b"\r\n") for line in lines)


class _Utf16:
    """Iterator that converts the chunks of a UTF-16 file to UTF-8. The conversion of any bytes is reversible.

    rest: bytes of an incomplete character after the last chunk.
    """

    def __init__(self, chunks: Iterable[bytes], codec: str) -> None:
        self._chunks = chunks
        self._codec = codec
        self.rest = b""

    def __iter__(self) -> Iterator[bytes]:
        decoder = codecs.getincrementaldecoder(self._codec)("surrogatepass")
        for chunk in self._chunks:
            yield decoder.decode(chunk).encode(errors="surrogatepass")
        self.rest = decoder.getstate()[0]

    def encoded(self, data: bytes) -> bytes:
        return data.decode(errors="surrogatepass").encode(self._codec, errors="surrogatepass")


def _with_start(chunks: Iterable[bytes]) -> tuple[bytes, Iterable[bytes]]:
    """Read up to the end of the first line that is not blank; returns that start, and all chunks."""
    chunks = iter(chunks)
    read = b""
    for chunk in chunks:
        read += chunk
        if len(read) > MAX_LINE or _START.match(read):
            break
    found = _START.match(read)
    return found[0] if found else read, chain([read], chunks)


class _Lines:
    """Iterator over the lines of a file, each with its line end; lines can be put back."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._lines = _split(chunks)
        self._returned: deque[bytes] = deque()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return self._returned.popleft() if self._returned else next(self._lines)

    def put_back(self, lines: Sequence[bytes]) -> None:
        self._returned.extendleft(reversed(lines))


def _split(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest: list[bytes] = []
    for chunk in chunks:
        first, *others = chunk.split(b"\n")
        rest.append(first)
        if others:
            yield b"".join(rest) + b"\n"
            for line in others[:-1]:
                yield line + b"\n"
            rest = [others[-1]]
    if last := b"".join(rest):
        yield last


def _whole_record(line: bytes, lines: _Lines, columns: _Columns) -> bytes:
    """Join a line with those that its open quote spans, if the result has as many cells as the header.

    Lines with misplaced quotes are joined too, although the reader rejects each of them: a name may span them. A line
    that is valid by itself is never joined, because the reader loads it as a row.
    """
    joined, size = [line], len(line)
    for more in lines:
        joined.append(more)
        size += len(more)
        if more.count(b'"') % 2:
            record = b"".join(joined)
            if len(_CELL.findall(record.rstrip(b"\r\n"))) == columns.width and not columns.has_valid_line(joined):
                return record
            break
        if len(joined) >= MAX_SPAN_LINES or size > MAX_SPAN:
            break
    lines.put_back(joined[1:])
    return line


def header_of_file(chunks: Iterable[bytes], file: ReportFile) -> Header | None:
    """Read a file's header as `NameEraser` does; None if it can't be read, or the file is blank."""
    start, chunks = _with_start(chunks)
    codec = utf16_of(start)
    for line in _Lines(chunks if codec is None else _Utf16(chunks, codec)):
        if line.strip(b"\r\n" + _UTF8_MARK):
            return _header_in(line, file)
    return None


def _header_in(line: bytes, file: ReportFile) -> Header | None:
    """Read the header from a file's first line that is not blank; None if it can't be read."""
    try:
        return read_header(line.removeprefix(_UTF8_MARK).rstrip(b"\n"), file) or plain_header(file)
    except UnreadableFile:
        return None


def _has_customers(file: ReportFile) -> bool:
    return any(column.name == _CUSTOMER for column in file.columns)


def _number(cell: bytes) -> bytes:
    """Normalize a cell to an id as `str` writes it: without quotes, blanks and leading zeros; -0 is 0."""
    number = cell.strip(_AROUND + b"\n")
    if not number.startswith((b"0", b"-0")):
        return number
    digits = number.removeprefix(b"-").lstrip(b"0")
    return (b"-" if number.startswith(b"-") else b"") + digits if digits else b"0"


def _may_be_name(cell: bytes) -> bool:
    """Return whether a cell may be a name: it is empty, or has letters and is not a timestamp."""
    return not cell or (_LETTER.search(cell) is not None and not _DATE.match(cell))


def _has_value(cell: bytes, column: Column) -> bool:
    text = cell.decode(errors="replace")
    if _QUOTED.fullmatch(cell):
        text = text.strip(" \t")[1:-1].replace('""', '"')
    return not text or is_valid_cell(text, column)


def _mask(cell: bytes) -> bytes:
    """Replace a cell by text that is not a number, date or status either; a date at its start is kept."""
    day = _DATE.match(cell)
    if day:
        return day[0] + _mask(cell[day.end() :])
    if b'"' not in cell:
        return re.sub(rb"[^\r\n]++", b"x", cell)
    if _QUOTED.fullmatch(cell):
        return b'"x' + re.sub(rb"[^\r\n]", b"", cell) + b'"'
    return re.sub(rb'[^"\r\n]++', b"x", cell)


def _blank(cell: bytes) -> bytes:
    """Empty a cell without moving the boundaries of other cells and lines.

    Line breaks stay, so that later lines keep their numbers. Misplaced quotes stay too, and the text between them is
    replaced.
    """
    if b'"' not in cell:
        return re.sub(rb"[^\r\n]", b"", cell)
    if _QUOTED.fullmatch(cell):
        return b'"' + re.sub(rb"[^\r\n]", b"", cell) + b'"'
    return re.sub(rb'[^"\r\n]++', b"x", cell)
