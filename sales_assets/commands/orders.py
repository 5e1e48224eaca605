"""`sales-assets orders map` and `waiting`: what the partner's ids are called here, and what waits for that.

Belongs here: reading a mapping file and storing it. Does not belong here: printing, or making the days anew (the
sensor `new_order_events` asks for them).
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sales_assets.postgres.warehouse import Warehouse
from sales_assets.settings import settings

_HEADER = ["kind", "theirs", "ours"]
_KINDS = ("item", "pharmacy", "customer")


class MappingError(ValueError):
    """A mapping file can't be used; the message says where and why."""


class Mapping(NamedTuple):
    """One name: an item's or pharmacy's id at the partner, or a customer's phone, and our item, city or customer id."""

    kind: str
    theirs: str
    ours: int


def mappings_in(file: Path) -> list[Mapping]:
    """The mappings of a CSV file of the columns kind, theirs, ours. Raises `MappingError`."""
    with file.open(encoding="utf-8-sig", newline="") as lines:
        rows = csv.reader(lines)
        if next(rows, None) != _HEADER:
            raise MappingError(f"{file}: the first line must be {','.join(_HEADER)}")
        return list(_read(file, rows))


def _read(file: Path, rows: Iterator[list[str]]) -> Iterator[Mapping]:
    for number, row in enumerate(rows, start=2):
        match row:
            case []:
                continue
            case [kind, theirs, ours] if kind in _KINDS and theirs and ours.isdecimal() and int(ours) < 2**31:
                yield Mapping(kind, theirs, int(ours))
            case _:
                raise MappingError(f"{file}, line {number}: not item, pharmacy or customer, their id, our number")


def store(warehouse: Warehouse, mappings: list[Mapping]) -> int:
    """Store all or none, under the KODPOST of the settings; the number of events whose days are asked for again."""
    with warehouse.transaction("sales_assets orders map") as transaction:
        for mapping in mappings:
            transaction.run(
                "staging/partner_mapping",
                f"map_{mapping.kind}",
                kodpost=settings().partnerapi_kodpost,
                theirs=mapping.theirs,
                ours=mapping.ours,
            )
        return transaction.run("staging/partner_order_event", "ask_again")


def waiting(warehouse: Warehouse) -> list[dict[str, Any]]:
    """The lines that can't go to the mart, with the reason."""
    return warehouse.rows("staging/partner_mapping", "waiting")
