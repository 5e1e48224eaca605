"""Read a report file as a stream of typed rows and rejected rows, in bounded memory.

Splits the bytes into lines and records. Valid lines are converted in bulk by `fast_path`, all others are checked one by
one by `line_rules`. Rows are compared with each other later, in `deduplicate`.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sales_assets.pipeline.fast_path import Flags, Positions, convert_valid_lines
from sales_assets.pipeline.prefetch import parallel_map
from sales_assets.schemas.line_rules import (
    MAX_LINE,
    Header,
    InvalidRecordError,
    LineRules,
    NotUtf8Error,
    UnreadableFile,
    plain_header,
    read_header,
    record_of,
    refuse_utf16,
)
from sales_assets.schemas.report_files import ReportFile

__all__ = ["REJECTED_SCHEMA", "Batch", "Header", "ReportReader", "UnreadableFile", "parse_line"]

# Larger blocks are not faster, and take about 25 times their size in memory.
BLOCK_SIZE: Final = 1 << 20
# Maximum extent of a quoted value. Beyond it the quote counts as a stray one, and only its line is rejected.
MAX_SPAN_LINES: Final = 100
MAX_SPAN: Final = 64 << 10
MAX_TEXT: Final = 64 << 10
MAX_TEXT_OF_LONG_LINE: Final = 1 << 10

REJECTED_SCHEMA: Final = pa.schema(
    [
        pa.field("line_no", pa.int64(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)

_LF, _CR, _QUOTE, _COMMA = b'\n\r",'
_BEFORE_OPENING: Final = (_LF, _COMMA, _QUOTE)
_AFTER_CLOSING: Final = (_LF, _CR, _COMMA, _QUOTE)
_BLANK_LINES: Final = re.compile(rb"(?:\r?\n)++")
_GROUP: Final = 256
_UTF8_MARK: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive rows of a file in file order, split into valid and rejected rows; blank lines are skipped.

    lines: valid rows, with the schema of the ReportFile.
    rejected: line_no, text (as delivered, but shortened, and with undecodable bytes and NUL escaped), reason.
    """

    lines: pa.RecordBatch
    rejected: pa.RecordBatch


class ReportReader:
    """Iterator over the batches of one report file, for one pass; valid_lines and rejected_lines count the rows so far.

    The header is read on construction, which raises UnreadableFile for a wrong one. If the file turns out not to be
    UTF-8, perhaps only at its end, the iteration raises UnreadableFile and the batches yielded so far are invalid.

    A record that spans several lines (line breaks in a quoted value) counts as one, numbered by its first line.

    chunks: the bytes of the file, split anywhere.
    block_size: bytes processed at once; the result does not depend on it.
    """

    def __init__(self, chunks: Iterable[bytes], file: ReportFile, *, block_size: int = BLOCK_SIZE) -> None:
        self.file = file
        self.valid_lines = 0
        self.rejected_lines = 0
        self._blocks = _blocks(chunks, block_size)
        self._next_line = 1
        self._has_multibyte = False
        # The first line that is not UTF-8, with the reason.
        self._not_utf8: tuple[int, str] | None = None
        self.header = self._read_header()
        self._rules = LineRules(file, self.header)

    def __iter__(self) -> Iterator[Batch]:
        for part in self._parts():
            self._not_utf8 = self._not_utf8 or part.not_utf8
            self._has_multibyte |= part.has_multibyte
            self.valid_lines += part.batch.lines.num_rows
            self.rejected_lines += part.batch.rejected.num_rows
            if part.batch.lines.num_rows or part.batch.rejected.num_rows:
                yield part.batch
        if self._not_utf8 and not self._has_multibyte:
            line_no, reason = self._not_utf8
            raise UnreadableFile(
                f"the file is not UTF-8, perhaps cp1251 or latin-1: line {line_no} is {reason}, "
                "and no line holds a valid character beyond ASCII"
            )

    def _parts(self) -> Iterator["_Part"]:
        """Read blocks in order. Blocks without quotes are read in parallel: no record in them can span two blocks."""
        first_line = self._next_line
        rest = b""
        for has_quotes, blocks in groupby(self._blocks, lambda block: b'"' in block):
            for block in blocks:
                if has_quotes or rest:
                    parts: Iterable[_Part] = [self._read(rest + block, first_line)]
                else:
                    parts = parallel_map(
                        lambda numbered: self._read(*numbered),
                        _numbered(chain([block], blocks), first_line),  # noqa: B031  all are taken
                    )
                for part in parts:
                    rest = part.rest
                    first_line += part.line_count
                    yield part
        if rest:
            yield self._read(rest, first_line, is_last=True)

    def _read_header(self) -> Header:
        block = next(self._blocks, b"")
        refuse_utf16(block[:2])
        block = block.removeprefix(_UTF8_MARK)
        while block:
            blank = _BLANK_LINES.match(block)
            if blank:
                self._next_line += blank[0].count(b"\n")
                block = block[blank.end() :]
            if block:
                line, _, rest = block.partition(b"\n")
                header = read_header(line, self.file)
                if header is None:
                    rest = block
                else:
                    self._next_line += 1
                    self._has_multibyte = not line.isascii()
                self._blocks = chain([rest] if rest else [], self._blocks)
                return header or plain_header(self.file)
            block = next(self._blocks, b"")
        if self.file.has_header:
            raise UnreadableFile(f"the file is empty, expected the header {self.file.expected_header}")
        return plain_header(self.file)

    def _read(self, data: bytes, first_line: int, *, is_last: bool = False) -> "_Part":
        """Read complete lines. An unfinished record at the end is returned as `rest`, for the next block."""
        block = _Block(data)
        plain, records, end = self._split_lines(block, is_last=is_last)
        valid: list[pa.RecordBatch] = []
        has_multibyte = False
        if kept := block.cut(plain):
            has_multibyte = not kept.isascii()
            converted = convert_valid_lines(kept, self._rules)
            numbers = np.flatnonzero(plain)
            records += [(line, block.raw(line)) for line in numbers[converted.left].tolist()]
            line_no = pa.array(numbers[converted.lines] + first_line)
            valid.append(pa.RecordBatch.from_arrays([line_no, *converted.columns], schema=self.file.schema))
        numbered = [(first_line + line, raw) for line, raw in sorted(records)]
        checked, rejected, not_utf8 = _check_records(numbered, self._rules)
        has_multibyte |= any(
            line_no not in not_utf8 and len(raw) <= MAX_LINE and not raw.isascii() for line_no, raw in numbered
        )
        if checked.num_rows or not valid:
            valid.append(checked)
        lines = pa.concat_batches(valid)
        if len(valid) > 1:
            lines = lines.take(pc.sort_indices(lines.column("line_no")))
        rest = block.data[block.starts[end] :] if end < len(block) else b""
        return _Part(Batch(lines, rejected), rest, end, has_multibyte, next(iter(not_utf8.items()), None))

    def _split_lines(self, block: "_Block", *, is_last: bool) -> tuple[Flags, list[tuple[int, bytes]], int]:
        """Split the lines of a block into those for `fast_path` and those for `line_rules`.

        Returns a flag per line for `fast_path`, the records for `line_rules` with their first line, and the number of
        lines read; an unfinished record at the end is not read.
        """
        blank, odd = block.blank_lines(), block.irregular_lines()
        plain = ~(blank | odd)
        records: list[tuple[int, bytes]] = []
        after = 0
        for line in np.flatnonzero(odd).tolist():
            if line < after:
                continue
            found = self._end_of_record(block, line, is_last=is_last)
            if found is None:
                plain[line:] = False
                return plain, records, line
            after = found
            plain[line:after] = False
            records.append((line, block.raw(line, after - 1)))
        return plain, records, len(block)

    def _end_of_record(self, block: "_Block", first: int, *, is_last: bool) -> int | None:
        """Find the line after the record that starts in this line; None if that depends on the next block.

        A stray quote must not swallow the lines up to the next quote. So lines are joined only if the result is well
        formed, and if none of them would be valid without its quotes. The last line in a price list is exempt: the end
        of a quoted name and the price look like a valid line.
        """
        raw = block.raw(first)
        quotes = raw.count(b'"')
        # Quotes come in pairs in every closed value: an even number leaves none open.
        if quotes % 2 == 0 or not self._rules.opens_quote(raw):
            return first + 1
        for last in range(first + 1, first + MAX_SPAN_LINES):
            if last == len(block):
                return first + 1 if is_last else None
            if block.ends[last] - block.starts[first] > MAX_SPAN:
                break
            quotes += block.raw(last).count(b'"')
            if quotes % 2:
                continue
            own = range(first, last + 1 if self.file.has_header else last)
            if self._rules.fits(block.raw(first, last)) and not self._rules.has_valid_line(map(block.raw, own)):
                return last + 1
            break
        return first + 1


@dataclass(frozen=True, slots=True)
class _Part:
    """Result of reading one block.

    rest: an unfinished record at its end. line_count: its lines without the rest.
    has_multibyte: whether a line is valid UTF-8 beyond ASCII.
    not_utf8: number and reason of the first line that is not UTF-8.
    """

    batch: Batch
    rest: bytes
    line_count: int
    has_multibyte: bool
    not_utf8: tuple[int, str] | None


def _numbered(blocks: Iterable[bytes], first_line: int) -> Iterator[tuple[bytes, int]]:
    for block in blocks:
        yield block, first_line
        first_line += block.count(b"\n")


class _Block:
    """Block of complete lines, each with its line end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.bytes = np.frombuffer(data, dtype=np.uint8)
        self.ends = np.flatnonzero(self.bytes == _LF)
        self.starts = np.concatenate(([0], self.ends[:-1] + 1))

    def __len__(self) -> int:
        return len(self.ends)

    def raw(self, first: int, last: int | None = None) -> bytes:
        """Return the bytes of one line or several, without the last line end."""
        return self.data[self.starts[first] : self.ends[first if last is None else last]].removesuffix(b"\r")

    def blank_lines(self) -> Flags:
        lengths = self.ends - self.starts
        blank: Flags = (lengths == 0) | ((lengths == 1) & (self.bytes[self.starts] == _CR))
        return blank

    def irregular_lines(self) -> Flags:
        """Flag lines with a misplaced quote, NUL, a CR other than before LF, invalid UTF-8, or too many bytes."""
        odd: Flags = self.ends - self.starts > MAX_LINE
        if b'"' in self.data:
            odd[self._lines_with_wrong_quotes()] = True
        if b"\0" in self.data:
            odd[self._lines_of(np.flatnonzero(self.bytes == 0))] = True
        if b"\r" in self.data:
            returns = np.flatnonzero(self.bytes == _CR)
            odd[self._lines_of(returns[self.bytes[returns + 1] != _LF])] = True
        odd[self._lines_not_utf8()] = True
        return odd

    def _lines_of(self, positions: Positions) -> Positions:
        return np.searchsorted(self.ends, positions)

    def _lines_with_wrong_quotes(self) -> Positions:
        """Find lines with quoted values that violate RFC 4180 or are not closed.

        In a valid line, opening and closing quotes alternate. An opening one follows a comma or the line's start, a
        closing one precedes a comma or the line's end. A doubled quote counts as a closing and an opening one.
        """
        quotes = np.flatnonzero(self.bytes == _QUOTE)
        lines = self._lines_of(quotes)
        firsts = np.flatnonzero(np.diff(lines, prepend=-1))
        counts = np.diff(firsts, append=len(quotes))
        opens = (np.arange(len(quotes)) - np.repeat(firsts, counts)) % 2 == 0
        # A block ends in LF: every quote has a byte after it, and index -1, "before" the first byte, is an LF.
        before, after = self.bytes[quotes - 1], self.bytes[quotes + 1]
        sound = np.where(opens, np.isin(before, _BEFORE_OPENING), np.isin(after, _AFTER_CLOSING))
        return np.concatenate((lines[~sound], lines[firsts[counts % 2 == 1]]))

    def _lines_not_utf8(self) -> list[int]:
        if self.data.isascii():
            return []
        # Arrow is three times as fast as Python, but does not locate the fault: check groups first, then their lines.
        bounds = np.append(self.starts[::_GROUP], len(self.data)).astype(np.int32)
        groups = pa.Array.from_buffers(
            pa.string(), len(bounds) - 1, [None, pa.py_buffer(bounds), pa.py_buffer(self.data)]
        )
        found: list[int] = []
        for group in range(len(groups)):
            try:
                groups[group : group + 1].validate(full=True)
            except pa.ArrowInvalid:
                first = group * _GROUP
                lines = range(first, min(first + _GROUP, len(self)))
                found += [line for line in lines if not _is_utf8(self.raw(line))]
        return found

    def cut(self, keep: Flags) -> bytes:
        """Return the flagged lines with their line ends."""
        if keep.all():
            return self.data
        runs = np.flatnonzero(np.diff(keep, prepend=False, append=False)).reshape(-1, 2)
        view = memoryview(self.data)
        return b"".join(view[self.starts[first] : self.ends[after - 1] + 1] for first, after in runs.tolist())


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _blocks(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield whole lines, about `size` bytes at a time; a missing line end at the end of the file is added.

    A line that is far too long is cut to slightly more than MAX_LINE, so that it is still rejected as too long.
    """
    tail = b""
    for piece in _pieces(chunks, size):
        cut = piece.rfind(b"\n") + 1
        if cut:
            yield b"".join((tail, memoryview(piece)[:cut]))
            tail = piece[cut:]
        else:
            tail = (tail + piece)[: MAX_LINE + len(b"\r\n")]
    if tail:
        yield tail + b"\n"


def _pieces(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    held: list[memoryview] = []
    total = 0
    for chunk in chunks:
        for at in range(0, len(chunk), size):
            part = memoryview(chunk)[at : at + size]
            held.append(part)
            total += len(part)
            if total >= size:
                yield b"".join(held)
                held, total = [], 0
    if held:
        yield b"".join(held)


def _check_records(
    records: Iterable[tuple[int, bytes]], rules: LineRules
) -> tuple[pa.RecordBatch, pa.RecordBatch, dict[int, str]]:
    """Check numbered records one by one; returns valid rows, rejected rows, and {line_no: reason} of non-UTF-8 ones."""
    valid: list[dict[str, object]] = []
    rejected: list[dict[str, object]] = []
    not_utf8: dict[int, str] = {}
    for line_no, raw in records:
        try:
            valid.append({"line_no": line_no, **rules.read(raw)})
        except InvalidRecordError as fault:
            rejected.append({"line_no": line_no, "text": _shortened(raw), "reason": str(fault)})
            if isinstance(fault, NotUtf8Error):
                not_utf8[line_no] = str(fault)
    lines = pa.RecordBatch.from_pylist(valid, schema=rules.file.schema)
    return lines, pa.RecordBatch.from_pylist(rejected, schema=REJECTED_SCHEMA), not_utf8


def _shortened(raw: bytes) -> str:
    limit = MAX_TEXT if len(raw) <= MAX_LINE else MAX_TEXT_OF_LONG_LINE
    if len(raw) > limit:
        # Don't cut inside a character: all of its bytes but the first are 0b10......
        limit = next((at for at in range(limit, limit - 4, -1) if raw[at] & 0xC0 != 0x80), limit)
    return raw[:limit].decode(errors="backslashreplace").replace("\0", "\\x00")


def parse_line(text: str, file: ReportFile, header: Header, line_no: int) -> Batch:
    """Parse one record, such as a corrected row, to a batch of one valid or one rejected row.

    Surrounding line ends are ignored; a text of several records is rejected.
    """
    lines, rejected, _ = _check_records([(line_no, record_of(text))], LineRules(file, header))
    return Batch(lines, rejected)
