"""Dump a database as of an exported snapshot and restore it into an empty one, by pg_dump, pg_restore and psql.

The programs in the embedded server's wheel have no TLS and support servers up to their own version; for other servers
the installed programs are used.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from sales_assets.connection_strings import without_password
from sales_assets.postgres.connection import connect
from sales_assets.postgres.embedded import MAJOR, binary
from sales_assets.postgres.queries import statements

# Its rows are paths of files outside the database; a restored lake is filled from the mart.
_LAKE_CATALOG = "lake.iceberg_tables"
_JOBS = 2
# pg_restore of version 17 and later writes this at the top of its script; earlier servers don't have the setting.
_SETTING_SINCE_17 = b"SET transaction_timeout"
_SETTING_SINCE_17_VERSION = 170_000
_LINES_OF_SETTINGS = 40


class DumpError(Exception):
    """A database can't be dumped or restored. The message is that of the program, without credentials."""


@dataclass(frozen=True)
class Snapshot:
    """Exported snapshot of a database, valid while its transaction is open."""

    id: str
    url: str
    connection: psycopg.Connection[dict[str, Any]]

    @property
    def server_version(self) -> int:
        return self.connection.info.server_version

    def rows(self, file: str, name: str) -> list[dict[str, Any]]:
        """Run a named statement as of this moment."""
        return self.connection.execute(statements(file)[name]).fetchall()


@contextmanager
def snapshot(url: str, purpose: str) -> Iterator[Snapshot]:
    """Open a read-only transaction and export its snapshot."""
    with connect(url, purpose, writing=False) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        row = connection.execute(statements("backup")["snapshot"]).fetchone()
        assert row is not None
        yield Snapshot(row["id"], url, connection)


def row_counts(connection: psycopg.Connection[dict[str, Any]]) -> dict[str, int]:
    """Count the rows of each table, by "schema.table"; empty if the database has no tables."""
    counts = {}
    for table in connection.execute(statements("backup")["tables"]).fetchall():
        name = sql.Identifier(table["schema"], table["name"])
        row = connection.execute(sql.SQL("SELECT count(*) AS rows FROM {}").format(name)).fetchone()
        assert row is not None
        counts[f"{table['schema']}.{table['name']}"] = row["rows"]
    return counts


def dump(of: Snapshot, folder: Path) -> None:
    """Write the database of a snapshot to a new folder, in pg_dump's directory format. Raises `DumpError`."""
    command = [
        *("--format=directory", f"--jobs={_JOBS}", "--compress=1", "--no-publications", "--no-subscriptions"),
        *(f"--exclude-table-data={_LAKE_CATALOG}", f"--snapshot={of.id}", f"--file={folder}"),
    ]
    conninfo, environment = _address(of.url)
    done = subprocess.run(
        [_program("pg_dump", of.connection), *command, f"--dbname={conninfo}"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        raise DumpError(f"pg_dump failed: {_error_output(done.stderr)}")


def restore(folder: Path, url: str, server_version: int, *, privileges: bool) -> None:
    """Restore a dump into an empty database, in one transaction. Raises `DumpError`.

    server_version: version of the dumped server. privileges: restore privileges too; their roles must exist.
    The objects belong to the role of `url`.
    """
    conninfo, environment = _address(url)
    with connect(url, "sales_assets restore", autocommit=True) as connection:
        psql = _program("psql", connection)
        filters_settings = connection.info.server_version < _SETTING_SINCE_17_VERSION
    reads = str(binary("pg_restore")) if server_version // 10_000 <= MAJOR else _installed("pg_restore")
    options = ["--no-owner", *([] if privileges else ["--no-privileges"]), "--file=-"]
    runs = ["--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1", "--output=/dev/null"]
    with (
        subprocess.Popen([reads, *options, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as script,
        subprocess.Popen(
            [psql, *runs, f"--dbname={conninfo}", "--file=-"],
            env=environment,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as session,
    ):
        assert script.stdout is not None
        assert script.stderr is not None
        assert session.stdin is not None
        assert session.stderr is not None
        try:
            for _ in range(_LINES_OF_SETTINGS if filters_settings else 0):
                line = script.stdout.readline()
                session.stdin.write(b"" if line.startswith(_SETTING_SINCE_17) else line)
            shutil.copyfileobj(script.stdout, session.stdin, 1024 * 1024)
            unread = script.stderr.read()
            if script.wait() != 0:
                # Otherwise psql would commit the part that it has received.
                session.kill()
                raise DumpError(f"pg_restore failed: {_error_output(unread)}")
            session.stdin.close()
        except BrokenPipeError:
            script.kill()
        message = session.stderr.read()
        if session.wait() != 0:
            raise DumpError(f"the dump can't be restored: {_error_output(message)}")


def _address(url: str) -> tuple[str, Mapping[str, str]]:
    """Return connection parameters for a command line, and an environment with the password."""
    conninfo, password = without_password(url)
    return conninfo, {**os.environ, **({"PGPASSWORD": password} if password is not None else {})}


def _program(name: str, connection: psycopg.Connection[Any]) -> str:
    if connection.info.server_version // 10_000 <= MAJOR and not connection.pgconn.ssl_in_use:
        return str(binary(name))
    return _installed(name)


def _installed(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise DumpError(
            f"{name} is not installed, and the bundled one is of PostgreSQL {MAJOR} and has no TLS: install "
            "PostgreSQL's client programs in the server's version or a later one"
        )
    return found


def _error_output(output: bytes) -> str:
    """Return the first lines of a program's messages; rows of data in them are left out."""
    lines = [
        line
        for line in output.decode(errors="replace").splitlines()
        if not line.startswith(("CONTEXT", "DETAIL", "LINE"))
    ]
    return "\n".join(lines[:5])
