"""Digest of the code under torture: the results of one version do not apply to another."""

import hashlib
from pathlib import Path

import sales_assets
from sales_assets.postgres.queries import sql_folder


def code_under_test() -> str:
    """Return a short digest of the package and its SQL files."""
    files = [*Path(sales_assets.__file__).parent.rglob("*.py"), *sql_folder().rglob("*.sql")]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(files))).hexdigest()[:16]
