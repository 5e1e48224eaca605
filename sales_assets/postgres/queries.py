"""Read the named statements of the files in ``sql/``.

A file belongs to the table it is named after and may hold several statements, each under a ``-- name:`` line.
"""

import functools
import re
from pathlib import Path
from typing import LiteralString, cast

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@functools.cache
def sql_folder() -> Path:
    """Find the folder ``sql/``: beside the package in a checkout, inside it when installed from a wheel."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package.parent / "sql", package / "sql"):
        if (folder / "migrations").is_dir():
            return folder
    raise FileNotFoundError(f"the folder sql/ is neither beside nor inside {package}")


@functools.cache
def statements(file: str) -> dict[str, LiteralString]:
    """Read the named statements of ``sql/<file>.sql``, in file order. Placeholders are psycopg's ``%(name)s``."""
    text = (sql_folder() / f"{file}.sql").read_text(encoding="utf-8")
    parts = _NAME.split(text)[1:]
    # Files of the package are literals in all but name; psycopg's types require it.
    return {name: cast("LiteralString", body.strip()) for name, body in zip(parts[::2], parts[1::2], strict=True)}
