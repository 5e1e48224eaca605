"""Name conflicts of migrations: names that a migration creates, and foreign objects that already have them.

`migrate` checks them before any change. A migration that takes over an existing table checks its contents itself.
"""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import psycopg
from psycopg.types.json import Jsonb

from sales_assets.postgres.queries import statements

_COMMENT = re.compile(r"--[^\n]*")
_NAME = r'"?(\w+)"?'
_CREATE = re.compile(
    r"\bCREATE\s+(?:OR\s+REPLACE\s+|UNLOGGED\s+|RECURSIVE\s+|MATERIALIZED\s+)*"
    r"(TABLE|VIEW|SEQUENCE|FUNCTION|PROCEDURE|TYPE|DOMAIN)"
    rf"\s+(IF\s+NOT\s+EXISTS\s+)?{_NAME}\.{_NAME}",
    re.IGNORECASE,
)
_CREATE_INDEX = re.compile(
    rf"\bCREATE\s+(?:UNIQUE\s+)?INDEX\s+(?:CONCURRENTLY\s+)?(IF\s+NOT\s+EXISTS\s+)?{_NAME}\s+ON\s+(?:ONLY\s+)?"
    rf"{_NAME}\.{_NAME}",
    re.IGNORECASE,
)
_ALTER_TABLE = re.compile(
    rf"\bALTER\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?{_NAME}\.{_NAME}([^;]*);", re.IGNORECASE | re.DOTALL
)
_ADD_COLUMN = re.compile(rf"\bADD\s+COLUMN\s+(?!IF\s){_NAME}", re.IGNORECASE)
_ADD_CONSTRAINT = re.compile(rf"\bCONSTRAINT\s+{_NAME}\s+(?:CHECK|UNIQUE|PRIMARY|FOREIGN|EXCLUDE|NOT)\b", re.IGNORECASE)
_DROP = re.compile(
    rf"\bDROP\s+(TABLE|VIEW|SEQUENCE|FUNCTION|PROCEDURE|TYPE|DOMAIN|INDEX)\s+(?:IF\s+EXISTS\s+)?{_NAME}\.{_NAME}",
    re.IGNORECASE,
)
_DROP_PART = re.compile(rf"\bDROP\s+(COLUMN|CONSTRAINT)\s+(?:IF\s+EXISTS\s+)?{_NAME}", re.IGNORECASE)

_KINDS = {
    "TABLE": "relation",
    "VIEW": "relation",
    "INDEX": "relation",
    "SEQUENCE": "relation",
    "FUNCTION": "routine",
    "PROCEDURE": "routine",
    "TYPE": "type",
    "DOMAIN": "type",
}
# Existing relations that IF NOT EXISTS skips, by type (pg_class.relkind).
_ADOPTS = {"TABLE": "rp", "VIEW": "v", "SEQUENCE": "S"}


@dataclass(frozen=True)
class Name:
    """A name that a migration creates. `adopts`: kinds of existing relation (relkind) that it takes over."""

    kind: str
    schema: str
    name: str
    table: str = ""
    adopts: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        return (self.kind, self.schema, self.table if self.kind in ("column", "constraint") else "", self.name)


def created(script: str) -> list[Name]:
    """Return the names that the statements of a migration create, in their order."""
    text = _COMMENT.sub("", script)
    names = []
    for kind, if_not_exists, schema, name in _CREATE.findall(text):
        adopts = _ADOPTS.get(kind.upper(), "") if if_not_exists else ""
        names.append(Name(_KINDS[kind.upper()], schema, name, adopts=adopts))
    for if_not_exists, name, schema, _ in _CREATE_INDEX.findall(text):
        names.append(Name("relation", schema, name, adopts="iI" if if_not_exists else ""))
    for schema, table, actions in _ALTER_TABLE.findall(text):
        names += [Name("column", schema, name, table) for name in _ADD_COLUMN.findall(actions)]
        names += [Name("constraint", schema, name, table) for name in _ADD_CONSTRAINT.findall(actions)]
    return names


def dropped(script: str) -> list[Name]:
    """Return the names that the statements of a migration drop, perhaps to create them again."""
    text = _COMMENT.sub("", script)
    names = [Name(_KINDS[kind.upper()], schema, name) for kind, schema, name in _DROP.findall(text)]
    for schema, table, actions in _ALTER_TABLE.findall(text):
        names += [Name(kind.lower(), schema, name, table) for kind, name in _DROP_PART.findall(actions)]
    return names


def pending(applied: Iterable[str], to_apply: Iterable[str]) -> list[Name]:
    """Return the names that pending scripts create, except names that already belong to the platform.

    The platform's names were created by an applied script, or are dropped by a script: PostgreSQL may have chosen them.
    """
    known = {name.key for script in applied for name in created(script)}
    wanted: dict[tuple[str, ...], Name] = {}
    for script in to_apply:
        known |= {name.key for name in dropped(script)}
        for name in created(script):
            if name.key not in known:
                wanted.setdefault(name.key, name)
    return list(wanted.values())


def taken(cursor: psycopg.Cursor[tuple[str, str]], wanted: Iterable[Name]) -> list[tuple[str, str]]:
    """Return (object, statement that renames it) for every object that has one of the names."""
    parameters = {"wanted": Jsonb([asdict(name) for name in wanted])}
    return cursor.execute(statements("migrations/taken")["taken"], parameters).fetchall()
