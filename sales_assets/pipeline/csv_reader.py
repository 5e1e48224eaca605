"""Reading a report file: bytes in, batches of typed lines and bad lines out, as a stream in bounded memory.

Belongs here: cutting the stream into lines and records, and sending each to `fast_path.py` or to `line_rules.py`.
Does not belong here: I/O (the caller hands over chunks of bytes), SQL, repeats and conflicts between lines.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sales_assets.pipeline.fast_path import Flags, Positions, take_good_lines
from sales_assets.pipeline.line_rules import (
    MAX_LINE,
    BadRecordError,
    Header,
    LineRules,
    NotUtf8Error,
    UnreadableFile,
    plain_header,
    read_header,
    refuse_utf16,
)
from sales_assets.pipeline.prefetch import parallel_map
from sales_assets.schemas.report_files import ReportFile

__all__ = ["BAD_SCHEMA", "Batch", "Header", "ReportReader", "UnreadableFile", "parse_line"]

# Larger blocks are no faster, and cost some 25 times their size in memory.
BLOCK_SIZE: Final = 1 << 20
# How far a quoted value may reach. Beyond it the quote is a stray one, and only the line opening it is bad.
MAX_SPAN_LINES: Final = 100
MAX_SPAN: Final = 64 << 10
MAX_BAD_TEXT: Final = 64 << 10
MAX_TEXT_OF_LONG_LINE: Final = 1 << 10

BAD_SCHEMA: Final = pa.schema(
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
    """Consecutive lines of a file: each that is not blank is either in `lines` or in `bad`, in file order.

    lines: the good ones, with the schema of the ReportFile.
    bad: line_no, text (as delivered, but shortened, and with undecodable bytes and NUL escaped), reason.
    """

    lines: pa.RecordBatch
    bad: pa.RecordBatch


class ReportReader:
    """Reads one report file. Iterating yields its batches, once; good_lines and bad_lines grow meanwhile.

    The header is read on construction: a wrong one raises UnreadableFile before anything is yielded, and
    `header` is known before the first batch. That a file is not UTF-8 may show only at its end: then the
    iteration raises UnreadableFile, and what it yielded is void.

    A record over several lines (line breaks in a quoted value) counts as one line, numbered by its first.

    chunks: the bytes of the file, cut anywhere.
    block_size: how many bytes are worked on at once; the result does not depend on it.
    """

    def __init__(self, chunks: Iterable[bytes], file: ReportFile, *, block_size: int = BLOCK_SIZE) -> None:
        self.file = file
        self.good_lines = 0
        self.bad_lines = 0
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
            self.good_lines += part.batch.lines.num_rows
            self.bad_lines += part.batch.bad.num_rows
            if part.batch.lines.num_rows or part.batch.bad.num_rows:
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
        """Read complete lines. An unfinished record at the end is left, to be read with the next block."""
        block = _Block(data)
        plain, records, end = self._set_apart(block, is_last=is_last)
        good: list[pa.RecordBatch] = []
        has_multibyte = False
        if kept := block.cut(plain):
            has_multibyte = not kept.isascii()
            taken = take_good_lines(kept, self._rules)
            numbers = np.flatnonzero(plain)
            records += [(line, block.raw(line)) for line in numbers[taken.left].tolist()]
            line_no = pa.array(numbers[taken.lines] + first_line)
            good.append(pa.RecordBatch.from_arrays([line_no, *taken.columns], schema=self.file.schema))
        numbered = [(first_line + line, raw) for line, raw in sorted(records)]
        judged, bad, not_utf8 = _judge(numbered, self._rules)
        has_multibyte |= any(
            line_no not in not_utf8 and len(raw) <= MAX_LINE and not raw.isascii() for line_no, raw in numbered
        )
        if judged.num_rows or not good:
            good.append(judged)
        lines = pa.concat_batches(good)
        if len(good) > 1:
            lines = lines.take(pc.sort_indices(lines.column("line_no")))
        rest = block.data[block.starts[end] :] if end < len(block) else b""
        return _Part(Batch(lines, bad), rest, end, has_multibyte, next(iter(not_utf8.items()), None))

    def _set_apart(self, block: "_Block", *, is_last: bool) -> tuple[Flags, list[tuple[int, bytes]], int]:
        """Split a block's lines by who is to read them.

        Returns which lines are plain, the records for `line_rules.py` with their first line, and where to stop.
        """
        blank, odd = block.blank_lines(), block.odd_lines()
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
        """Find the line after the record that starts in this line; None if only the next block can tell.

        A stray quote must not swallow the lines up to the next one. So lines are joined only if the result is
        sound, and if none of them is a good line without its quotes. (Not so the last line in a price list:
        there the end of a name and the price look like a line of their own.)
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
            if self._rules.fits(block.raw(first, last)) and not any(
                self._rules.is_good(block.raw(line).replace(b'"', b"")) for line in own
            ):
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
    """Complete lines, the last one with its line end too."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.bytes = np.frombuffer(data, dtype=np.uint8)
        self.ends = np.flatnonzero(self.bytes == _LF)
        self.starts = np.concatenate(([0], self.ends[:-1] + 1))

    def __len__(self) -> int:
        return len(self.ends)

    def raw(self, first: int, last: int | None = None) -> bytes:
        """Return the bytes of a line, or of several, without the line end."""
        return self.data[self.starts[first] : self.ends[first if last is None else last]].removesuffix(b"\r")

    def blank_lines(self) -> Flags:
        lengths = self.ends - self.starts
        blank: Flags = (lengths == 0) | ((lengths == 1) & (self.bytes[self.starts] == _CR))
        return blank

    def odd_lines(self) -> Flags:
        """Lines with a wrong quote, NUL, a CR other than before LF, bytes that are not UTF-8, or too many."""
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
        """Lines in which quoted values are not as in RFC 4180, or not closed.

        In a sound line the quotes take turns. One that opens follows a comma or the line's start, one that
        closes comes before a comma or the line's end. A doubled quote closes and opens.
        """
        quotes = np.flatnonzero(self.bytes == _QUOTE)
        lines = self._lines_of(quotes)
        firsts = np.flatnonzero(np.diff(lines, prepend=-1))
        counts = np.diff(firsts, append=len(quotes))
        opens = (np.arange(len(quotes)) - np.repeat(firsts, counts)) % 2 == 0
        # A block ends in LF: so there is a byte after every quote, and "before" the first byte comes an LF.
        before, after = self.bytes[quotes - 1], self.bytes[quotes + 1]
        sound = np.where(opens, np.isin(before, _BEFORE_OPENING), np.isin(after, _AFTER_CLOSING))
        return np.concatenate((lines[~sound], lines[firsts[counts % 2 == 1]]))

    def _lines_not_utf8(self) -> list[int]:
        if self.data.isascii():
            return []
        # Arrow is three times as fast as Python, but does not say where: so by groups, then line by line.
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
        """Return the kept lines, with their line ends."""
        if keep.all():
            return self.data
        turns = np.flatnonzero(np.diff(keep, prepend=False, append=False)).reshape(-1, 2)
        view = memoryview(self.data)
        return b"".join(view[self.starts[first] : self.ends[after - 1] + 1] for first, after in turns.tolist())


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _blocks(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Whole lines, about `size` bytes at a time. The last line gets a line end if it has none.

    A line that is far too long is cut to a little more than a line may have, enough to see that it is.
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


def _judge(
    records: Iterable[tuple[int, bytes]], rules: LineRules
) -> tuple[pa.RecordBatch, pa.RecordBatch, dict[int, str]]:
    """Read numbered records one by one: the good, the bad, and the reasons of those that are not UTF-8."""
    good: list[dict[str, object]] = []
    bad: list[dict[str, object]] = []
    not_utf8: dict[int, str] = {}
    for line_no, raw in records:
        try:
            good.append({"line_no": line_no, **rules.read(raw)})
        except BadRecordError as fault:
            bad.append({"line_no": line_no, "text": _bad_text(raw), "reason": str(fault)})
            if isinstance(fault, NotUtf8Error):
                not_utf8[line_no] = str(fault)
    lines = pa.RecordBatch.from_pylist(good, schema=rules.file.schema)
    return lines, pa.RecordBatch.from_pylist(bad, schema=BAD_SCHEMA), not_utf8


def _bad_text(raw: bytes) -> str:
    limit = MAX_BAD_TEXT if len(raw) <= MAX_LINE else MAX_TEXT_OF_LONG_LINE
    if len(raw) > limit:
        # Not inside a character, of which all bytes but the first are 0b10......
        limit = next((at for at in range(limit, limit - 4, -1) if raw[at] & 0xC0 != 0x80), limit)
    return raw[:limit].decode(errors="backslashreplace").replace("\0", "\\x00")


def parse_line(text: str, file: ReportFile, header: Header, line_no: int) -> Batch:
    """Read one record, such as a corrected one, by the rules of its file: a batch of one good or one bad line.

    Line ends around the text are read over; a text of several records is bad.
    """
    raw = text.strip("\r\n").encode(errors="surrogatepass")
    good, bad, _ = _judge([(line_no, raw)], LineRules(file, header))
    return Batch(good, bad)
