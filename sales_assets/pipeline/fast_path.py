"""Convert many valid lines at once, column by column, with numpy and Arrow.

Every test is stricter than the rule it replaces. A line that fails a test is left to `line_rules`, the only module
that rejects lines, with a reason.

pyarrow's own conversions are too lenient to serve as the test: integers may have spaces around them or be 0x1F,
decimals may be 1e2, .5 or +1. So columns are split as text, and converted once their bytes are checked.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from sales_assets.schemas.line_rules import (
    DECIMALS,
    INT4_DIGITS,
    MAX_INT4,
    SHIPPED,
    TIME_OF_DAY,
    WHOLE_DIGITS,
    InvalidRecordError,
    LineRules,
    day_of,
    status_of,
)
from sales_assets.schemas.report_files import Kind

Flags = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.int64]

_POWERS: Final = 10 ** np.arange(INT4_DIGITS - 1, -1, -1, dtype=np.int64)
_DATE_TIME: Final = rf"^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}{TIME_OF_DAY.pattern}$"
_UTF8_MARK: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class ConvertedLines:
    """Result of converting lines.

    columns: values of the valid lines, in the order of the file's columns without the line number.
    lines: positions of the valid lines, counted from 0.
    left: positions of the remaining lines, in order.
    """

    columns: list[pa.Array]
    lines: Positions
    left: Positions


def convert_valid_lines(data: bytes, rules: LineRules) -> ConvertedLines:
    """Convert the valid lines among complete lines of UTF-8 without blank lines, NUL, or CR other than in CRLF.

    Quotes, if any, must conform to RFC 4180 and be closed in their line.
    """
    cells, lines, ragged = _split(data, rules)
    count = len(lines)
    sure = np.ones(count, dtype=np.bool_)
    arrays: list[pa.Array] = []
    columns = [column for column in rules.file.columns if column.kind is not Kind.LINE_NO]
    for column in columns:
        array = cells.get("date_time" if column.kind is Kind.DAY else column.name)
        if array is None:
            array = pa.repeat(SHIPPED, count) if column.kind is Kind.STATUS else pa.nulls(count, pa.string())
        elif column.kind is Kind.DAY:
            array, ok = _days(array)
            sure &= ok
        elif column.kind is Kind.STATUS:
            array, ok = _statuses(array)
            sure &= ok
        elif column.kind is Kind.INTEGER:
            sure &= _are_integers(array)
        elif column.kind is Kind.AMOUNT:
            sure &= _are_amounts(array)
        elif column.kind is Kind.TEXT and not column.blank:
            sure &= np.diff(_layout(array)[1]) > 0
        arrays.append(array)
    left = ragged
    if not sure.all():
        mask = pa.array(sure)
        arrays = [array.filter(mask) for array in arrays]
        left = np.union1d(ragged, lines[~sure])
        lines = lines[sure]
    arrays = [array.cast(column.kind.arrow_type) for array, column in zip(arrays, columns, strict=True)]
    return ConvertedLines(arrays, lines, left)


def _split(data: bytes, rules: LineRules) -> tuple[dict[str, pa.Array], Positions, Positions]:
    """Split lines into {column: texts}, their positions, and the positions of lines with a wrong number of fields."""
    ragged: list[int] = []

    def leave(row: Any) -> str:
        ragged.append(row.number - 1)
        return "skip"

    if data.startswith(_UTF8_MARK):
        # pyarrow drops one byte order mark at the start; this one is inside the file and is text.
        data = _UTF8_MARK + data
    has_quotes = b'"' in data
    fields = [f"field {at}" for at in range(len(rules.header.columns))]
    names = {fields[position]: name for name, position in rules.positions.items()}
    table = pa_csv.read_csv(
        pa.BufferReader(data),
        read_options=pa_csv.ReadOptions(column_names=fields, use_threads=False, block_size=len(data) + 1),
        parse_options=pa_csv.ParseOptions(
            quote_char='"' if has_quotes else False, double_quote=has_quotes, invalid_row_handler=leave
        ),
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=list(names),
            strings_can_be_null=False,
            check_utf8=False,
        ),
    )
    lines = np.arange(len(table) + len(ragged))
    left = np.array(ragged, dtype=np.int64)
    cells: dict[str, pa.Array] = {}
    for field, name in names.items():
        (cells[name],) = table.column(field).chunks  # one, since all lines are one block
    return cells, np.delete(lines, left), left


def _layout(array: pa.Array) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """Return the concatenated bytes of all values and their n + 1 offsets. The array must not be a slice."""
    _, offsets, data = array.buffers()
    starts = np.frombuffer(offsets, dtype=np.int32, count=len(array) + 1)
    return np.frombuffer(data or b"", dtype=np.uint8, count=int(starts[-1])), starts


def _owners(positions: Positions, starts: npt.NDArray[np.int32]) -> Positions:
    """Find the index of the value that each byte position belongs to."""
    return np.searchsorted(starts, positions, side="right") - 1


def _are_integers(array: pa.Array) -> Flags:
    """Flag values of at most ten digits, without sign, in the range of a 4-byte integer."""
    data, starts = _layout(array)
    lengths = np.diff(starts)
    sure = (lengths >= 1) & (lengths <= INT4_DIGITS)
    # Unsigned bytes: characters below "0" wrap around to values above 9.
    sure[_owners(np.flatnonzero(data - ord("0") > 9), starts)] = False
    longest = np.flatnonzero(sure & (lengths == INT4_DIGITS))
    if longest.size:
        digits = data[starts[longest, None] + np.arange(INT4_DIGITS)].astype(np.int64) - ord("0")
        sure[longest[digits @ _POWERS > MAX_INT4]] = False
    return sure


def _are_amounts(array: pa.Array) -> Flags:
    """Flag values of at most eight digits, optionally followed by a point and at most two digits."""
    data, starts = _layout(array)
    lengths = np.diff(starts)
    sure = (lengths >= 1) & (lengths <= WHOLE_DIGITS)
    others = np.flatnonzero(data - ord("0") > 9)
    if not others.size:
        return sure
    is_point = data[others] == ord(".")
    points = others[is_point]
    owners = _owners(points, starts)
    whole = points - starts[owners]
    decimals = starts[owners + 1] - points - 1
    sure[owners] = (whole >= 1) & (whole <= WHOLE_DIGITS) & (decimals <= DECIMALS)
    sure[owners[1:][np.diff(owners) == 0]] = False
    sure[_owners(others[~is_point], starts)] = False
    return sure


def _days(array: pa.Array) -> tuple[pa.Array, Flags]:
    """Convert texts to YYYYMMDD, and flag the valid ones.

    `day_of` is called for distinct dates only: a file has some thirty, while its times may all differ.
    """
    encoded = array.dictionary_encode()
    texts = encoded.dictionary
    dates = pc.utf8_slice_codeunits(texts, 0, len("YYYY-MM-DD")).dictionary_encode()
    days = np.array([_day_or_0(text) for text in dates.dictionary.to_pylist()], dtype=np.int32)
    days_of_texts = days[dates.indices.to_numpy()] * _as_flags(pc.match_substring_regex(texts, _DATE_TIME))
    values = days_of_texts[encoded.indices.to_numpy()]
    return pa.array(values), values > 0


def _day_or_0(text: str) -> int:
    try:
        return day_of(text)
    except InvalidRecordError:
        return 0


def _as_flags(array: pa.Array) -> Flags:
    flags: Flags = array.to_numpy(zero_copy_only=False)
    return flags


def _statuses(array: pa.Array) -> tuple[pa.Array, Flags]:
    encoded = array.dictionary_encode()
    statuses: list[str] = []
    for text in encoded.dictionary.to_pylist():
        try:
            statuses.append(status_of(text))
        except InvalidRecordError:
            statuses.append("")
    known = np.array([bool(status) for status in statuses], dtype=np.bool_)
    values = pa.array(statuses, pa.string()).take(encoded.indices)
    return values, known[encoded.indices.to_numpy()]
