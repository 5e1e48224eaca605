"""The lake: Iceberg tables for other engines, written by PyIceberg, with their catalog in the warehouse's PostgreSQL.

``lake.f_sales`` is a copy of ``mart.f_sales``, a partition per day; the dimensions are small tables. Days are replaced
whole and read back before their commit. PyIceberg is an optional package (extra ``lake``), so this module is imported
inside functions only.

The session that commits to the catalog also holds the locks. A writer that lost its locks, because the server was
restarted or the connection broke, has lost the session too and can't commit.
"""

import contextlib
import datetime as dt
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import fsspec
import psycopg
import pyarrow as pa
import sqlalchemy as sa
from pyiceberg.catalog import MetastoreCatalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError
from pyiceberg.expressions import AlwaysFalse, AlwaysTrue, In
from pyiceberg.io import FSSPEC_FILE_IO, PY_IO_IMPL
from pyiceberg.manifest import ManifestFile
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import DataScan, Table, TableProperties
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import DateType, DecimalType, IntegerType, LongType, NestedField, StringType, TimestampType
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from sales_assets.postgres.connection import connect
from sales_assets.postgres.engines import engine_of
from sales_assets.postgres.queries import statements
from sales_assets.postgres.warehouse import Transaction, Warehouse
from sales_assets.schemas.calendar import date_id
from sales_assets.schemas.lake import DIMENSIONS, F_SALES, LAKE_TABLES, PARTITION_COLUMN, Kind
from sales_assets.scrubbing import scrubbed
from sales_assets.settings import settings

CATALOG = "sales_assets"
NAMESPACE = "lake"

# Arbitrary, but used by no other lock of the platform; the second key is a day as YYYYMMDD.
_LOCKS = 7_205_010
_DIMENSIONS_LOCK = 0

_DAYS_PER_COMMIT = 31
# Rows in memory: 130 bytes each as read, and two copies of them while they are written.
_ROWS_AT_ONCE = 500_000

_SNAPSHOT_AGE = dt.timedelta(days=7)
# Files that no snapshot names may belong to a writer that has not committed yet.
_GRACE = dt.timedelta(days=1)

_TYPES: Mapping[Kind, Any] = {
    "integer": IntegerType(),
    "bigint": LongType(),
    "text": StringType(),
    "date": DateType(),
    "timestamp": TimestampType(),
    "numeric(10,2)": DecimalType(10, 2),
}
_PROPERTIES = {
    TableProperties.PARQUET_COMPRESSION: "zstd",
    TableProperties.COMMIT_NUM_RETRIES: "10",
    # A commit adds a manifest and a metadata file; these bound how many a reader has to look at.
    TableProperties.MANIFEST_MERGE_ENABLED: "true",
    TableProperties.METADATA_DELETE_AFTER_COMMIT_ENABLED: "true",
    TableProperties.METADATA_PREVIOUS_VERSIONS_MAX: "20",
}
# Table property: fingerprint of the rows of a dimension.
_CONTENTS = "sales_assets.contents"

_KEYS = ["date_id", "status", "source"]
_SUMMED = {
    "quantity": "quantity",
    "amount": "amount",
    "sale_id": "sale_ids",
    "item_id": "item_ids",
    "customer_id": "customer_ids",
    "city_id": "city_ids",
}

# {(date_id, status, source): {name of a sum: sum}}
Sums = Mapping[tuple[Any, ...], Mapping[str, Any]]


class LakeError(Exception):
    """The lake can't be read or written. The message is one sentence without credentials."""


@dataclass(frozen=True)
class ReplacedDays:
    """Days that one commit has replaced.

    sums: {(date_id, status, source): sums} of the mart, at the moment that the days were copied.
    differences: what the committed table has instead, a row (date_id, offending, example) per differing day.
    """

    days: Sequence[dt.date]
    sums: Sums
    differences: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Maintained:
    """What the maintenance of a table has removed, and the files that are left."""

    table: str
    expired_snapshots: int
    deleted_files: int
    files: int


class Lake:
    """The lake of the settings (LAKE_URL), and the warehouse that it is a copy of."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse

    def replace_days(self, days: Sequence[dt.date], purpose: str) -> Iterator[ReplacedDays]:
        """Replace days in ascending order, several in a commit, each commit from one moment of the mart.

        Other writers wait for the same days only, and then read the mart again: the newest data stays. Raises
        `LakeError`; days yielded before are committed.
        """
        with self._session() as session:
            ordered = sorted(set(days))
            for first in range(0, len(ordered), _DAYS_PER_COMMIT):
                some = ordered[first : first + _DAYS_PER_COMMIT]
                with _lake_errors(f"lake.f_sales, {some[0]} to {some[-1]}"):
                    yield session.replace(some, purpose)

    def refresh_dimensions(self, purpose: str) -> list[str]:
        """Replace the dimensions whose rows have changed, and return their names. Raises `LakeError`."""
        with self._session() as session, _lake_errors("dimensions of the lake"):
            return session.refresh_dimensions(purpose)

    def maintain(self, now: dt.datetime) -> list[Maintained]:
        """Expire old snapshots and delete the files that no snapshot names. Raises `LakeError`."""
        with self._session() as session:
            done = []
            for name in LAKE_TABLES:
                with _lake_errors(f"maintenance of lake.{name}"):
                    done.append(session.maintain(name, now))
            return done

    def table(self, name: str) -> Table:
        """Load a table, for reading. It is valid while nobody expires its snapshot. Raises `LakeError`."""
        with self._session() as session, _lake_errors(f"lake.{name}"):
            return session.table(name)

    @contextlib.contextmanager
    def _session(self) -> Iterator["_Session"]:
        with connect(self._warehouse.url(), "sales_assets lake", autocommit=True) as connection:
            yield _Session(self._warehouse, connection, settings().lake_url)


class _Catalog(SqlCatalog):
    """PyIceberg's SQL catalog on an open connection."""

    def __init__(self, engine: sa.Engine, location: str) -> None:
        # Not SqlCatalog's own, which makes an engine of a URL, and passes the URL on among its properties.
        properties = {"warehouse": location, PY_IO_IMPL: FSSPEC_FILE_IO, "init_catalog_tables": "false"}
        MetastoreCatalog.__init__(self, CATALOG, **properties)
        self.engine = engine
        self._init_catalog()


class _Session:
    """One connection for locks and catalog; rows of the mart are read on others."""

    def __init__(self, warehouse: Warehouse, connection: psycopg.Connection[Any], location: str) -> None:
        self._warehouse = warehouse
        self._connection = connection
        self._location = location
        connection.execute(statements("lake/session")["use_catalog"])
        self._catalog = _Catalog(engine_of(connection), location)

    def replace(self, days: Sequence[dt.date], purpose: str) -> ReplacedDays:
        """Replace days in one commit, read back before it and after it."""
        date_ids = [date_id(day) for day in days]
        chosen = {"date_ids": date_ids, "first_date_id": min(date_ids), "last_date_id": max(date_ids)}
        of_the_days = In(PARTITION_COLUMN, days)  # type: ignore[call-arg, arg-type]  # its signature is pydantic's
        began = time.time()  # goes on while a machine is suspended
        with self._locked(date_ids):
            table = self.table("f_sales")
            change = table.transaction()
            with self._mart(purpose) as mart:
                sums = {
                    tuple(row[key] for key in _KEYS): {name: row[name] for name in ("rows", *_SUMMED.values())}
                    for row in mart.rows("lake/f_sales", "sums_of_days", **chosen)
                }
                # Not `overwrite`: it takes the new rows at once. A day that lost its last row is deleted here.
                if next(iter(table.scan(of_the_days).plan_files()), None) is not None:
                    change.delete(of_the_days)
                rows = mart.copy_out("lake/f_sales", "copy_days", table.schema().as_arrow(), **chosen)
                for chunk in _chunks(rows):
                    change.append(chunk)
            staged = DataScan(change.table_metadata, table.io, of_the_days, selected_fields=(*_KEYS, *_SUMMED))
            if wrong := differences(sums, sums_of(staged)):
                raise LakeError("; ".join(f"{row['date_id']}: {row['example']}" for row in wrong))
            # Before the days: no sale is seen without the names of its keys.
            self.refresh_dimensions(purpose)
            if time.time() - began > _GRACE.total_seconds() / 2:
                raise LakeError("writing took half a day: the files may be deleted as unreferenced")
            change.commit_transaction()
            found = sums_of(table.scan(of_the_days, selected_fields=(*_KEYS, *_SUMMED)))
        return ReplacedDays(days, sums, differences(sums, found))

    def refresh_dimensions(self, purpose: str) -> list[str]:
        refreshed = []
        with self._locked([_DIMENSIONS_LOCK]), self._mart(purpose) as mart:
            for name in DIMENSIONS:
                table = self.table(name)
                found = mart.rows(f"lake/{name}", "fingerprint")[0]["contents"]
                if table.properties.get(_CONTENTS) == found:
                    continue
                schema = table.schema().as_arrow()
                rows = pa.RecordBatchReader.from_batches(schema, mart.copy_out(f"lake/{name}", "copy_rows", schema))
                with table.transaction() as change:
                    change.overwrite(rows, AlwaysTrue() if table.current_snapshot() else AlwaysFalse())
                    change.set_properties({_CONTENTS: found})
                refreshed.append(name)
        return refreshed

    def maintain(self, name: str, now: dt.datetime) -> Maintained:
        expired = 0
        # PyIceberg repeats only commits that add a snapshot.
        for attempt in Retrying(
            retry=retry_if_exception_type(CommitFailedException),
            stop=stop_after_attempt(10),
            wait=wait_exponential_jitter(multiplier=0.1, max=10, jitter=0.1),
            reraise=True,
        ):
            with attempt:
                table = self.table(name)
                before = len(table.snapshots())
                table.maintenance.expire_snapshots().older_than(now - _SNAPSHOT_AGE).commit()
                expired = before - len(table.refresh().snapshots())
        return Maintained(name, expired, *self._sweep(name, now - _GRACE))

    def table(self, name: str) -> Table:
        """Load a table, created where it is missing. Raises `LakeError` for one outside the lake's location."""
        location = f"{self._location}/{name}"
        try:
            table = self._catalog.load_table((NAMESPACE, name))
        except NoSuchTableError:
            schema = _schema(name)
            table = self._catalog.create_table_if_not_exists(
                (NAMESPACE, name), schema, location, _partitions(schema, name), properties=_PROPERTIES
            )
        if table.location() != location:
            raise LakeError(
                f"the table is at {table.location()}, and LAKE_URL says {self._location}; to make a new lake there, "
                "delete the rows of lake.iceberg_tables and materialize the assets again"
            )
        return table

    def _sweep(self, name: str, before: dt.datetime) -> tuple[int, int]:
        """Delete files of a table that no snapshot names and that are older; return (deleted, left)."""
        filesystem, folder = fsspec.core.url_to_fs(f"{self._location}/{name}")
        filesystem.invalidate_cache()
        found = set(filesystem.find(folder))
        # Loaded after the files were listed: one that was committed meanwhile is named by it.
        kept = {fsspec.core.url_to_fs(location)[1] for location in _referenced(self.table(name))}
        deleted = [path for path in sorted(found - kept) if filesystem.modified(path) < before]
        if deleted:
            filesystem.rm(deleted)
        return len(deleted), len(found) - len(deleted)

    @contextlib.contextmanager
    def _mart(self, purpose: str) -> Iterator[Transaction]:
        """Open a transaction that sees one moment of the mart."""
        with self._warehouse.transaction(purpose, read_only=True) as transaction:
            transaction.run("lake/session", "see_one_moment")
            yield transaction

    @contextlib.contextmanager
    def _locked(self, keys: Sequence[int]) -> Iterator[None]:
        """Hold the locks of days, or of the dimensions; those of days are always taken first."""
        parameters = {"space": _LOCKS, "keys": list(keys)}
        self._connection.execute(statements("lake/session")["lock"], parameters)
        try:
            yield
        finally:
            # With a lost connection the locks are gone, and the error of the block matters.
            with contextlib.suppress(psycopg.OperationalError):
                self._connection.execute(statements("lake/session")["unlock"], parameters)


def sums_of(scan: DataScan) -> Sums:
    """Sum the rows of a scan by day, status and source, from the data files."""
    empty = scan.projection().as_arrow().empty_table()
    parts = [_grouped(pa.Table.from_batches([batch]), "") for batch in scan.to_arrow_batch_reader()]
    total = _grouped(pa.concat_tables(parts), "_sum") if parts else _grouped(empty, "")
    return {
        tuple(row[key] for key in _KEYS): {
            "rows": row["rows"],
            **{title: row[f"{column}_sum"] for column, title in _SUMMED.items()},
        }
        for row in total.to_pylist()
    }


def _grouped(table: pa.Table, suffix: str) -> pa.Table:
    """Group rows, or (with suffix ``_sum``) groups of several parts."""
    count: tuple[Any, str] = ("rows", "sum") if suffix else ([], "count_all")
    grouped = table.group_by(_KEYS).aggregate([count, *((f"{column}{suffix}", "sum") for column in _SUMMED)])
    names = {"count_all": "rows", "rows_sum": "rows"} | {f"{column}_sum_sum": f"{column}_sum" for column in _SUMMED}
    return grouped.rename_columns([names.get(name, name) for name in grouped.column_names])


def differences(expected: Sums, found: Sums) -> list[dict[str, Any]]:
    """Compare sums; return a row (date_id, offending, example) per day that differs."""
    wrong: dict[int, list[str]] = {}
    for key in sorted({*expected, *found}):
        if expected.get(key) != found.get(key):
            day, status, source = key
            mart, lake = _spelled(expected.get(key)), _spelled(found.get(key))
            wrong.setdefault(day, []).append(f"{status} of {source}: {mart} in the mart, {lake} in the lake")
    return [{"date_id": day, "offending": len(texts), "example": texts[0]} for day, texts in wrong.items()]


def _spelled(sums: Mapping[str, Any] | None) -> str:
    return ", ".join(f"{name} {value}" for name, value in sums.items()) if sums else "nothing"


def _schema(name: str) -> Schema:
    return Schema(
        *(
            NestedField(number, column.name, _TYPES[column.kind], required=column.required, doc=column.description)
            for number, column in enumerate(LAKE_TABLES[name], start=1)
        )
    )


def _partitions(schema: Schema, name: str) -> PartitionSpec:
    if LAKE_TABLES[name] is not F_SALES:
        return UNPARTITIONED_PARTITION_SPEC
    source = schema.find_field(PARTITION_COLUMN).field_id
    return PartitionSpec(PartitionField(source, 1000, IdentityTransform(), PARTITION_COLUMN))


def _chunks(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Gather batches to tables that fit into memory. Each becomes a file per day."""
    gathered: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        gathered.append(batch)
        rows += batch.num_rows
        if rows >= _ROWS_AT_ONCE:
            yield pa.Table.from_batches(gathered)
            gathered, rows = [], 0
    if rows:
        yield pa.Table.from_batches(gathered)


def _referenced(table: Table) -> set[str]:
    """Collect the locations of all files that the table's metadata leads to, of every snapshot."""
    metadata = table.metadata
    found = {table.metadata_location, *(entry.metadata_file for entry in metadata.metadata_log)}
    found |= {statistics.statistics_path for statistics in (*metadata.statistics, *metadata.partition_statistics)}
    manifests: dict[str, ManifestFile] = {}
    for snapshot in metadata.snapshots:
        found.add(snapshot.manifest_list)
        manifests |= {manifest.manifest_path: manifest for manifest in snapshot.manifests(table.io)}
    for path, manifest in manifests.items():
        found.add(path)
        # Without the entries of deleted files: older snapshots, if any, have manifests in which they are alive.
        found |= {entry.data_file.file_path for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)}
    return found


@contextlib.contextmanager
def _lake_errors(what: str) -> Iterator[None]:
    """Raise `LakeError` for every error of PyIceberg and of the storage library.

    The original error is not chained: its text and its cause's may hold keys and signed links, and Dagster stores whole
    chains.
    """
    try:
        yield
    except psycopg.Error:
        raise
    except LakeError as error:
        raise LakeError(f"{what}: {error}") from None
    except Exception as error:  # noqa: BLE001  every storage library has its own kinds
        text = scrubbed(" ".join(f"{type(error).__name__}: {error}".split()))[:500]
        raise LakeError(f"{what}: {text}") from None
