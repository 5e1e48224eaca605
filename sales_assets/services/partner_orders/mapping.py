"""Mapping of the partner's ids to ours: read a mapping file, store it, list order lines that wait for a mapping.

Phones are normalized by the database function ``mailings.phone_key``; the sensor `new_order_events` reloads the days.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sales_assets.postgres.warehouse import Transaction, Warehouse
from sales_assets.schemas.pseudonyms import Pseudonyms
from sales_assets.settings import settings

_COLUMNS = ("kind", "theirs", "ours")
_KINDS = ("item", "pharmacy", "customer")
_DELIMITERS = ",;\t"
_ENCODINGS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_MOST_BYTES = 64 * 1024 * 1024
_MOST_CHARACTERS = 256
# A long number as spreadsheets save it.
_ROUNDED = re.compile(r"[0-9]+([.,][0-9]*)?E[+-][0-9]+", re.IGNORECASE)
# Prefix or form that makes a spreadsheet treat digits as text.
_AS_TEXT = re.compile(r'="(.*)"|\'(.+)')


class MappingError(ValueError):
    """A mapping file can't be used; the message contains the file, the line and the reason."""


@dataclass(frozen=True)
class Mapping:
    """Mapping of an item's or pharmacy's id at the partner, or a customer's phone, to our item, city or customer id.

    `place`: file and line, for messages.
    """

    kind: str
    theirs: str
    ours: int
    place: str = field(default="mapping", compare=False)


def mappings_in(file: Path) -> list[Mapping]:
    """Read a CSV file of the columns kind, theirs and ours, in any order. Raises `MappingError`.

    As editors and spreadsheets save it: UTF-8 or UTF-16 with a byte order mark; commas, semicolons or tabs; any line
    ends; empty rows and trailing delimiters.
    """
    lines = _lines(file, _text(file))
    _, header = next(lines, (1, []))
    names = [cell.lower() for cell in header]
    if sorted(names) != sorted(_COLUMNS):
        raise MappingError(f"{file}, line 1: the columns must be {','.join(_COLUMNS)}")
    mappings: dict[tuple[str, str], Mapping] = {}
    for number, cells in lines:
        place = f"{file}, line {number}"
        if len(cells) != len(names):
            raise MappingError(f"{place}: {len(cells)} columns instead of {len(names)}")
        one = _mapping(place, **dict(zip(names, cells, strict=True)))
        # A phone may belong to two customers; any other name maps to one id.
        key = (one.kind, f"{one.theirs}\t{one.ours}" if one.kind == "customer" else one.theirs)
        known = mappings.setdefault(key, one)
        if known != one:
            raise MappingError(f"{place}: {one.kind} {one.theirs} is {one.ours}, but {known.ours} in {known.place}")
    return list(mappings.values())


def _text(file: Path) -> str:
    if file.stat().st_size > _MOST_BYTES:
        raise MappingError(f"{file}: larger than {_MOST_BYTES // 1024 // 1024} MiB")
    data = file.read_bytes()
    encoding = _ENCODINGS.get(data[:2], "utf-8-sig")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        number = len(_unified(data[: error.start].decode(encoding, "replace")).split("\n"))
        raise MappingError(f'{file}, line {number}: not UTF-8: save it as "CSV UTF-8"') from None
    return _unified(text)


def _unified(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _lines(file: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) of all rows that are not empty."""
    for number, line in enumerate(text.split("\n"), start=1):
        if "\x00" in line or "\ufffd" in line:
            raise MappingError(f"{file}, line {number}: holds a character that is not text")
    first = text.partition("\n")[0]
    rows = csv.reader(io.StringIO(text), delimiter=max(_DELIMITERS, key=first.count), strict=True)
    width = 0
    while True:
        number = rows.line_num + 1
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise MappingError(f"{file}, line {number}: {error}") from None
        if row is None:
            return
        cells = [_cell(cell) for cell in row]
        # Spreadsheets write a delimiter for every column that was ever used.
        while len(cells) > width and not cells[-1]:
            cells.pop()
        if any(cells):
            width = width or len(cells)
            yield number, cells


def _cell(text: str) -> str:
    text = text.strip()
    marked = _AS_TEXT.fullmatch(text)
    return (marked[1] or marked[2] or "").strip() if marked else text


def _mapping(place: str, *, kind: str, theirs: str, ours: str) -> Mapping:
    if kind.lower() not in _KINDS:
        raise MappingError(f"{place}: the kind must be {', '.join(_KINDS)}, not {kind[:40]!r}")
    if not theirs or len(theirs) > _MOST_CHARACTERS:
        raise MappingError(f"{place}: theirs must have 1 to {_MOST_CHARACTERS} characters")
    if _ROUNDED.fullmatch(theirs):
        raise MappingError(f"{place}: {theirs} was rounded by a spreadsheet: format the column as text")
    if not (ours.isascii() and ours.isdecimal() and len(ours) <= 10 and int(ours) < 2**31):
        raise MappingError(f"{place}: ours must be a whole number below 2147483648, not {ours[:40]!r}")
    return Mapping(kind.lower(), theirs, int(ours), place)


def store(warehouse: Warehouse, mappings: Sequence[Mapping]) -> int:
    """Store all mappings or none, under the configured supplier code; return the number of events to reload.

    Replaces the customers that a phone was mapped to before. Raises `MappingError`.
    """
    with warehouse.transaction("sales_assets orders map") as transaction:
        for kind, statement in (("item", "map_items"), ("pharmacy", "map_pharmacies")):
            some = [mapping for mapping in mappings if mapping.kind == kind]
            transaction.run(
                "staging/partner_mapping",
                statement,
                kodpost=settings().partnerapi_kodpost,
                theirs=[mapping.theirs for mapping in some],
                ours=[mapping.ours for mapping in some],
            )
        _store_customers(transaction, [mapping for mapping in mappings if mapping.kind == "customer"])
        return transaction.run("staging/partner_order_event", "mark_waiting_as_new")


def _store_customers(transaction: Transaction, mappings: Sequence[Mapping]) -> None:
    phones, customers = [mapping.theirs for mapping in mappings], [mapping.ours for mapping in mappings]
    keys = [row["key"] for row in transaction.rows("mailings/erased_phone", "phone_keys", phones=phones)]
    if None in keys:
        wrong = mappings[keys.index(None)]
        raise MappingError(f"{wrong.place}: {wrong.theirs!r} is not a phone number")
    known = Pseudonyms(settings().sales_erasure_secret.get_secret_value())
    pseudonyms = known.of(keys)
    transaction.run("staging/partner_mapping", "forget_customers", keys=keys, pseudonyms=pseudonyms)
    parameters = {"phones": phones, "ours": customers, "pseudonyms": pseudonyms, "key_id": known.key_id}
    transaction.run("staging/partner_mapping", "map_customers", **parameters)


def shared_phones(warehouse: Warehouse) -> list[dict[str, Any]]:
    """Return phones mapped to several customers, with these customers; such phones are not used."""
    return warehouse.rows("staging/partner_mapping", "shared_phones")


def waiting(warehouse: Warehouse) -> list[dict[str, Any]]:
    """Return the lines that can't be loaded into the mart, with the reason and the phone."""
    return warehouse.rows("staging/partner_mapping", "waiting")
