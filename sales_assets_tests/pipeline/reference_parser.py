"""Reference parser for the property tests: the rules of docs/data-contracts/day-rules.md, one character at a time.

It shares no code with `sales_assets.schemas.line_rules`.
"""

from dataclasses import dataclass, field
from datetime import date, time
from decimal import Decimal, InvalidOperation

DIGITS = set("0123456789")
ORDERS = {
    "uniq_id": "filled",
    "date_time": "date",
    "city_id": "integer",
    "city_name": "text",
    "customer_id": "integer",
    "first_name": "text",
    "last_name": "text",
    "item_id": "integer",
    "item_name": "text",
    "quantity": "amount",
    "payment_amount": "amount",
    "status": "status",
}
PRICES = {"item_name": "filled", "price": "amount"}

Values = dict[str, object]


class BadError(Exception):
    """The record breaks a rule."""


class UnclosedError(BadError):
    """The record ends inside quotes."""


class NotUtf8FileError(Exception):
    """The file as a whole is in another encoding."""


@dataclass
class Result:
    good: dict[int, Values] = field(default_factory=dict)
    bad: dict[int, str] = field(default_factory=dict)


def read_file(data: bytes, columns: list[str], kinds: dict[str, str], max_lines: int, max_bytes: int) -> Result:
    """Parse the lines after the header, which is line 1; in a file without a header, the first row is line 1."""
    raw_lines = data.split(b"\n")
    if not raw_lines[-1]:
        raw_lines.pop()
    first_no = 2 if "date_time" in kinds else 1
    result = Result()
    foreign = multibyte = False
    at = 0
    while at < len(raw_lines):
        count = 1
        raw = _chomp(raw_lines[at])
        if raw:
            try:
                values = _record(raw, columns, kinds)
            except UnclosedError:
                count = _span(raw_lines[at : at + max_lines], columns, kinds, max_bytes)
                raw = _chomp(b"\n".join(raw_lines[at : at + count]))
            except BadError:
                pass
            try:
                values = _record(raw, columns, kinds)
                result.good[first_no + at] = values
            except BadError:
                result.bad[first_no + at] = raw.decode(errors="backslashreplace").replace("\0", "\\x00")
            try:
                multibyte |= not raw.decode().isascii()
            except UnicodeDecodeError:
                foreign = True
        at += count
    if foreign and not multibyte:
        raise NotUtf8FileError
    return result


def _chomp(raw: bytes) -> bytes:
    return raw[:-1] if raw.endswith(b"\r") else raw


def _span(raw_lines: list[bytes], columns: list[str], kinds: dict[str, str], max_bytes: int) -> int:
    """Return how many of these lines form one record; the first line opens a quote."""
    for count in range(2, len(raw_lines) + 1):
        joined = b"\n".join(raw_lines[:count])
        if len(joined) > max_bytes:
            return 1
        try:
            cells = _cells(_chomp(joined).decode())
        except UnclosedError:
            continue
        except (BadError, UnicodeDecodeError):
            # A misplaced quote is invalid however many lines follow; an invalid byte may still precede the closing
            # quote.
            if joined.count(b'"') % 2:
                continue
            return 1
        alone = raw_lines[:count] if "date_time" in kinds else raw_lines[: count - 1]
        if len(cells) == len(columns) and not any(_is_good(line, columns, kinds) for line in alone):
            return count
        return 1
    return 1


def _is_good(raw: bytes, columns: list[str], kinds: dict[str, str]) -> bool:
    try:
        _record(_chomp(raw).replace(b'"', b""), columns, kinds)
    except BadError:
        return False
    return True


def _record(raw: bytes, columns: list[str], kinds: dict[str, str]) -> Values:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise BadError from None
    if "\0" in text:
        raise BadError
    cells = _cells(text)
    if len(cells) != len(columns):
        raise BadError
    delivered = dict(zip(columns, cells, strict=True))
    values: Values = {}
    for name, kind in kinds.items():
        cell = delivered.get(name)
        if kind == "status":
            values[name] = _status(cell or "")
        elif cell is None:
            values[name] = None
        elif kind == "integer":
            values[name] = _integer(cell)
        elif kind == "amount":
            values[name] = _amount(cell)
        elif kind == "date":
            values["date_id"] = _day(cell)
            values[name] = cell
        else:
            if kind == "filled" and not cell:
                raise BadError
            values[name] = cell
    return values


def _cells(text: str) -> list[str]:
    cells = [""]
    state = "start"
    for char in text:
        if state == "start" and char == '"':
            state = "quoted"
        elif state == "quoted":
            if char == '"':
                state = "quote in quoted"
            else:
                cells[-1] += char
        elif state == "quote in quoted" and char == '"':
            cells[-1] += char
            state = "quoted"
        elif char == ",":
            cells.append("")
            state = "start"
        elif state == "quote in quoted" or char in '"\r\n':
            raise BadError
        else:
            cells[-1] += char
            state = "unquoted"
    if state == "quoted":
        raise UnclosedError
    return cells


def _integer(cell: str) -> int:
    digits = cell[1:] if cell.startswith("-") else cell
    if not digits or set(digits) - DIGITS or not -(2**31) <= int(cell) < 2**31:
        raise BadError
    return int(cell)


def _amount(cell: str) -> Decimal:
    if not cell or cell[0] not in DIGITS or set(cell) - DIGITS - {"."}:
        raise BadError
    try:
        cents = Decimal(cell) * 100
    except InvalidOperation:
        raise BadError from None
    if cents != int(cents) or cents >= 10**10:
        raise BadError
    return Decimal(int(cents)).scaleb(-2)


def _day(cell: str) -> int:
    year, month, day = cell[:4], cell[5:7], cell[8:10]
    if cell[4:5] + cell[7:8] != "--" or set(year + month + day) - DIGITS or len(cell) < 10 or year < "1000":
        raise BadError
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        raise BadError from None
    _time_of_day(cell[10:])
    return int(year + month + day)


def _time_of_day(rest: str) -> None:
    if not rest:
        return
    if rest[0] not in "T ":
        raise BadError
    clock = rest[1:]
    if clock.endswith("Z"):
        clock = clock[:-1]
    else:
        for sign in "+-":
            clock, found, zone = clock.partition(sign)
            if found:
                pairs = zone.split(":") if ":" in zone else [zone[:2], zone[2:]] if zone[2:] else [zone]
                if len(pairs) > 2 or any(len(pair) != 2 or set(pair) - DIGITS for pair in pairs):
                    raise BadError
                break
    clock, found, fraction = clock.partition(".")
    parts = clock.split(":")
    if found and (not fraction or set(fraction) - DIGITS or len(parts) != 3):
        raise BadError
    if not 2 <= len(parts) <= 3 or any(len(part) != 2 or set(part) - DIGITS for part in parts):
        raise BadError
    try:
        time.fromisoformat(clock)
    except ValueError:
        raise BadError from None


def _status(cell: str) -> str:
    status = cell.strip().lower()
    if status not in ("", "shipped", "refunded"):
        raise BadError
    return status or "shipped"
