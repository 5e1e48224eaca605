"""Back up warehouse, Dagster's storage and raw files as of one moment, and restore them to an empty platform.

A backup is a folder::

    manifest.json        what it contains: revision, rows of each table, checksums
    warehouse/           pg_dump's directory format
    dagster/             the same; absent if the storage is in the warehouse's database
    raw/                 the raw files recorded in the warehouse, under their paths, each with its manifest

The snapshot of Dagster's storage is taken first: a day that Dagster shows as materialized is in the warehouse. Raw
files are only ever added, so that the files recorded in the warehouse's snapshot belong to the same moment. A backup
holds the same shared locks as a load: they exclude erasures, which rewrite raw files.
"""

import datetime as dt
import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from psycopg import sql
from pydantic import BaseModel, ValidationError, field_validator

from sales_assets.fsync import appearing
from sales_assets.postgres import migrations
from sales_assets.postgres.connection import connect, is_same_database
from sales_assets.postgres.database import warehouse_url
from sales_assets.postgres.dump import Snapshot, dump, restore, row_counts, snapshot
from sales_assets.postgres.queries import statements
from sales_assets.postgres.warehouse import dagster_storage_url
from sales_assets.resources.raw_files import RawFiles, RawFilesError, StoredFile
from sales_assets.settings import settings

Notify = Callable[[str], None]
Database = Literal["warehouse", "dagster"]

_MANIFEST = "manifest.json"
_RAW = "raw"
# Files are read, hashed and written; an object store answers several requests at a time.
_FILES_AT_ONCE = 4
_CHUNK = 1024 * 1024


class BackupError(Exception):
    """A backup can't be written, is damaged or can't be restored here. The message suggests a fix."""


class DatabaseDump(BaseModel):
    """Entry of a database in the manifest: rows by table, checksums of the dump's files, roles with privileges."""

    server_version: int
    rows: dict[str, int]
    roles: list[str]
    files: dict[str, str]


class RawFile(BaseModel):
    """A raw file of the backup, under its path below the location of the raw files."""

    path: str
    sha256: str

    @field_validator("path")
    @classmethod
    def _is_below(cls, value: str) -> str:
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError("leads out of the raw files")
        return value


class Manifest(BaseModel):
    """The manifest of a backup. `damaged`: raw files that could not be read, by path, with the reason."""

    format: Literal[1] = 1
    created_at: dt.datetime
    version: str
    revision: str
    databases: dict[Database, DatabaseDump]
    raw_files: list[RawFile]
    damaged: dict[str, str]


@dataclass(frozen=True)
class Restored:
    """Result of a restore.

    databases: the restored databases; others already had the backup's rows.
    events, messages: numbers of events and messages that the services will publish or send again.
    """

    manifest: Manifest
    databases: list[Database]
    events: int
    messages: int


def write_backup(target: Path, notify: Notify) -> Manifest:
    """Write a backup to a new folder, which appears when it is complete. Loads of days continue meanwhile.

    A raw file that is missing or damaged is listed in the manifest, and the rest is backed up. Raises `BackupError`,
    `DumpError` and `OSError`.
    """
    if target.exists():
        raise BackupError(f"{target} exists: a backup is written to a new folder")
    warehouse, dagster = warehouse_url(), dagster_storage_url()
    revision = migrations.current_revision(warehouse)
    if revision is None:
        raise BackupError("the warehouse holds no tables of this platform: there is nothing to back up")
    with appearing(target) as folder, ExitStack() as open_transactions:
        folder.mkdir(mode=0o700)  # names of customers, phones of clients
        writers = open_transactions.enter_context(connect(warehouse, "sales_assets backup", autocommit=True))
        for lock in ("share_raw_files", "share_everything"):
            writers.execute(statements("locks")[lock])
        snapshots: dict[Database, Snapshot] = {}
        if not is_same_database(warehouse, dagster):
            snapshots["dagster"] = open_transactions.enter_context(snapshot(dagster, "sales_assets backup"))
        snapshots["warehouse"] = open_transactions.enter_context(snapshot(warehouse, "sales_assets backup"))
        created_at = dt.datetime.now(dt.UTC)
        databases: dict[Database, DatabaseDump] = {}
        for name, of in snapshots.items():
            notify(f"dumping {name}")
            databases[name] = _dump(of, folder / name)
        raw_files = [RawFile.model_validate(row) for row in snapshots["warehouse"].rows("backup", "raw_files")]
        notify(f"copying {len(raw_files)} raw files")
        (folder / _RAW).mkdir()
        with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
            faults = list(pool.map(lambda file: _copy(file, folder / _RAW), raw_files))
        damaged = {file.path: fault for file, fault in zip(raw_files, faults, strict=True) if fault is not None}
        manifest = Manifest(
            created_at=created_at,
            version=version("sales_assets"),
            revision=revision,
            databases=databases,
            raw_files=[file for file in raw_files if file.path not in damaged],
            damaged=damaged,
        )
        (folder / _MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return manifest


def restore_backup(source: Path, notify: Notify, *, privileges: bool = True) -> Restored:
    """Restore a backup to the warehouse, Dagster's storage and the location of the raw files in the settings.

    The databases must be empty. Everything is verified first: checksums, revision, roles, targets. Each database is
    restored in one transaction and its rows are counted, so that an interrupted restore can be repeated. Raises
    `BackupError`, `DumpError` and `RawFilesError`.
    """
    manifest = read_manifest(source)
    notify("verifying the backup")
    verify(source, manifest)
    urls: dict[Database, str] = {"warehouse": warehouse_url(), "dagster": dagster_storage_url()}
    missing = [name for name in manifest.databases if not _is_restored(name, manifest, urls[name])]
    if privileges:
        for name in missing:
            _require_roles(manifest.databases[name].roles, urls[name])
    notify(f"restoring {len(manifest.raw_files)} raw files")
    with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
        list(pool.map(lambda file: _restore_raw_file(file, source / _RAW), manifest.raw_files))
    for name in missing:
        notify(f"restoring {name}")
        of = manifest.databases[name]
        restore(source / name, urls[name], of.server_version, privileges=privileges)
        if _rows(urls[name]) != of.rows:
            raise BackupError(f"{name}: the restored tables have other rows than the backup")
    with connect(urls["warehouse"], "sales_assets restore", writing=False) as connection:
        row = connection.execute(statements("backup")["repeated"]).fetchone()
    assert row is not None
    return Restored(manifest, missing, row["events"], row["messages"])


def read_manifest(source: Path) -> Manifest:
    """Read the manifest of a backup. Raises `BackupError` if it is missing, invalid or from a later version."""
    file = source / _MANIFEST
    try:
        manifest = Manifest.model_validate_json(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise BackupError(f"{source} is not a backup: it has no {_MANIFEST}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BackupError(f"{file}: {where}: {first['msg']}") from None
    if manifest.revision not in {revision for revision, _ in migrations.revisions()}:
        raise BackupError(
            f"{source} was written by sales_assets {manifest.version} at revision {manifest.revision}, which this "
            "version does not know: restore it with that version or a later one"
        )
    return manifest


def verify(source: Path, manifest: Manifest) -> None:
    """Compare all files of a backup with their checksums. Raises `BackupError` if one is missing or differs."""
    expected = {f"{_RAW}/{file.path}": file.sha256 for file in manifest.raw_files}
    for name, database in manifest.databases.items():
        expected |= {f"{name}/{file}": sha256 for file, sha256 in database.files.items()}

    def is_intact(item: tuple[str, str]) -> bool:
        path, sha256 = item
        try:
            return _sha256(source / path) == sha256
        except OSError:
            return False

    with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
        for path, intact in zip(expected, pool.map(is_intact, expected.items()), strict=True):
            if not intact:
                raise BackupError(f"{source / path} is missing or differs from the file that was backed up")


def _dump(of: Snapshot, folder: Path) -> DatabaseDump:
    dump(of, folder)
    return DatabaseDump(
        server_version=of.server_version,
        rows=row_counts(of.connection),
        roles=[row["name"] for row in of.rows("backup", "roles")],
        files={file.name: _sha256(file) for file in sorted(folder.iterdir())},
    )


def _copy(file: RawFile, folder: Path) -> str | None:
    """Copy a raw file and its manifest into the backup; returns the fault if it is missing or damaged."""
    target = folder / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    raw_files = RawFiles()
    try:
        with target.open("xb") as copy:
            for chunk in raw_files.verified_chunks(file.path, file.sha256):
                copy.write(chunk)
        Path(f"{target}.json").write_bytes(b"".join(raw_files.chunks(f"{file.path}.json")))
    except RawFilesError as error:
        target.unlink(missing_ok=True)
        return str(error)
    return None


def _restore_raw_file(file: RawFile, folder: Path) -> None:
    description: dict[str, Any] = json.loads(Path(f"{folder / file.path}.json").read_bytes())

    def chunks() -> Iterator[bytes]:
        with (folder / file.path).open("rb") as copy:
            while chunk := copy.read(_CHUNK):
                yield chunk

    def manifest(_: StoredFile) -> dict[str, Any]:
        return description

    RawFiles().add(str(PurePosixPath(file.path).parent), chunks(), manifest, {file.sha256: file.path})


def _is_restored(name: Database, manifest: Manifest, url: str) -> bool:
    """Return whether a database has the backup's tables and row counts. Raises `BackupError` if it has others."""
    found = _rows(url)
    if found == manifest.databases[name].rows:
        return True
    if not found:
        return False
    raise BackupError(
        f"{name}: the database has other tables or rows, and a backup is restored to an empty one: set SALES_HOME to "
        "a new folder, or WAREHOUSE_URL and DAGSTER_STORAGE_URL to new databases"
    )


def _rows(url: str) -> dict[str, int]:
    with connect(url, "sales_assets restore", writing=False) as connection:
        return row_counts(connection)


def _require_roles(roles: list[str], url: str) -> None:
    """Create missing roles on the embedded server, without login; raise `BackupError` for them on any other server."""
    with connect(url, "sales_assets restore", autocommit=True) as connection:
        rows = connection.execute(statements("backup")["missing_roles"], {"names": roles}).fetchall()
        create = [sql.SQL("CREATE ROLE {}").format(sql.Identifier(row["name"])) for row in rows]
        if settings().warehouse_url is None:
            for statement in create:
                connection.execute(statement)
            return
        missing = "; ".join(statement.as_string(connection) for statement in create)
    if missing:
        raise BackupError(
            f"the server lacks roles that have privileges in the backup: run {missing}, or use --no-privileges"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
