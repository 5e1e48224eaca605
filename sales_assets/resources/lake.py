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
from pyiceberg.io import FSSPEC_FILE_IO, PY_IO_IMPL, load_file_io
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

_PROBE = ".probe"

_DAYS_PER_COMMIT = 31
# Rows in memory: 130 bytes each as read, and two copies of them while they are written.
_ROWS_AT_ONCE = 500_000

_SNAPSHOT_AGE = dt.timedelta(days=7)
# Unreferenced files may belong to a writer that has not committed yet.
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
    # A commit adds a manifest and a metadata file; these limit how many a reader has to read.
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

    sums: {(date_id, status, source): sums} of the mart, in the snapshot that was copied.
    differences: a row (date_id, offending, example) per day in which the committed table differs.
    """

    days: Sequence[dt.date]
    sums: Sums
    differences: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Maintained:
    """Result of a table's maintenance: what was removed, and the number of files left."""

    table: str
    expired_snapshots: int
    deleted_files: int
    files: int


@dataclass(frozen=True)
class LakeState:
    """Rows of `lake.f_sales`, and when they were committed; None before the first commit."""

    rows: int
    committed_at: dt.datetime | None


class Lake:
    """The lake at LAKE_URL, a copy of tables of a warehouse."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse

    def replace_days(self, days: Sequence[dt.date], purpose: str) -> Iterator[ReplacedDays]:
        """Replace days in ascending order, several per commit; each commit has one snapshot of the mart.

        Concurrent writers of the same days wait, and then read the mart again, so that the newest data stays. Raises
        `LakeError`; the days yielded before are committed.
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

    def forget_names(self, purpose: str) -> int:
        """Replace the customers by those of the mart, and delete all former snapshots of them immediately.

        Returns the number of deleted files. A reader of a former snapshot fails, and reads the table again. Raises
        `LakeError`.
        """
        with self._session() as session, _lake_errors("lake.d_customer"):
            return session.forget_names(purpose)

    def maintain(self, now: dt.datetime) -> list[Maintained]:
        """Expire old snapshots and delete the files that no snapshot references. Raises `LakeError`."""
        with self._session() as session:
            done = []
            for name in LAKE_TABLES:
                with _lake_errors(f"maintenance of lake.{name}"):
                    done.append(session.maintain(name, now))
            return done

    def probe(self) -> LakeState:
        """Test that the catalog and every table can be read, and that the location can be written to.

        Only an object `.probe` is created, and deleted again. Raises `LakeError`.
        """
        with self._session() as session, _lake_errors(f"the lake at {settings().lake_url}"):
            return session.probe()

    def table(self, name: str) -> Table:
        """Load a table, for reading. It is valid until its snapshot expires. Raises `LakeError`."""
        with self._session() as session, _lake_errors(f"lake.{name}"):
            return session.table(name)

    @contextlib.contextmanager
    def _session(self) -> Iterator["_Session"]:
        with connect(self._warehouse.url(), "sales_assets lake", autocommit=True) as connection:
            yield _Session(self._warehouse, connection, settings().lake_url)


class _Catalog(SqlCatalog):
    """PyIceberg's SQL catalog on an open connection."""

    def __init__(self, engine: sa.Engine, location: str) -> None:
        # SqlCatalog's constructor would create an engine from a URL, and expose the URL in its properties.
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
        """Replace days in one commit; compare the written rows with the mart before the commit and after it."""
        date_ids = [date_id(day) for day in days]
        chosen = {"date_ids": date_ids, "first_date_id": min(date_ids), "last_date_id": max(date_ids)}
        of_the_days = In(PARTITION_COLUMN, days)  # type: ignore[call-arg, arg-type]  # its signature is pydantic's
        began = time.time()  # this clock continues while a machine is suspended
        with self._locked(date_ids):
            table, columns = self._current("f_sales")
            change = table.transaction()
            with self._mart(purpose) as mart:
                sums = {
                    tuple(row[key] for key in _KEYS): {name: row[name] for name in ("rows", *_SUMMED.values())}
                    for row in mart.rows("lake/f_sales", "sums_of_days", **chosen)
                }
                # `overwrite` would need all new rows at once. This also deletes a day that lost its last row.
                if next(iter(table.scan(of_the_days).plan_files()), None) is not None:
                    change.delete(of_the_days)
                rows = mart.copy_out("lake/f_sales", "copy_days", columns, **chosen)
                for chunk in _chunks(rows):
                    change.append(chunk)
            staged = DataScan(change.table_metadata, table.io, of_the_days, selected_fields=(*_KEYS, *_SUMMED))
            if wrong := differences(sums, sums_of(staged)):
                raise LakeError("; ".join(f"{row['date_id']}: {row['example']}" for row in wrong))
            # Before the days, so that no sale is visible without its dimension rows.
            self.refresh_dimensions(purpose)
            if time.time() - began > _GRACE.total_seconds() / 2:
                raise LakeError("writing took more than half a day: maintenance may delete the files as unreferenced")
            change.commit_transaction()
            found = sums_of(table.scan(of_the_days, selected_fields=(*_KEYS, *_SUMMED)))
        return ReplacedDays(days, sums, differences(sums, found))

    def refresh_dimensions(self, purpose: str) -> list[str]:
        refreshed = []
        with self._locked([_DIMENSIONS_LOCK]), self._mart(purpose) as mart:
            for name in DIMENSIONS:
                table, columns = self._current(name)
                found = mart.rows(f"lake/{name}", "fingerprint")[0]["contents"]
                if table.properties.get(_CONTENTS) == found:
                    continue
                rows = pa.RecordBatchReader.from_batches(columns, mart.copy_out(f"lake/{name}", "copy_rows", columns))
                with table.transaction() as change:
                    change.overwrite(rows, AlwaysTrue() if table.current_snapshot() else AlwaysFalse())
                    change.set_properties({_CONTENTS: found})
                refreshed.append(name)
        return refreshed

    def forget_names(self, purpose: str) -> int:
        # All writers of the table take this lock, so no unreferenced file belongs to a running writer.
        with self._locked([_DIMENSIONS_LOCK]):
            self.refresh_dimensions(purpose)
            table = self.table("d_customer")
            if len(table.snapshots()) > 1:
                # The manifests of a snapshot list the files that it deleted, with the least and greatest name in each:
                # the first rewrite deletes the files with the names, the second the files of the first.
                for _ in range(2):
                    rows = table.scan().to_arrow()
                    with table.transaction() as change:
                        change.overwrite(rows, AlwaysTrue())
                    table.refresh()
                self._expire("d_customer", dt.datetime.now(dt.UTC))
            return self._delete_unreferenced_files("d_customer", dt.datetime.now(dt.UTC) + _GRACE)[0]

    def maintain(self, name: str, now: dt.datetime) -> Maintained:
        return Maintained(
            name, self._expire(name, now - _SNAPSHOT_AGE), *self._delete_unreferenced_files(name, now - _GRACE)
        )

    def _expire(self, name: str, before: dt.datetime) -> int:
        """Expire a table's snapshots older than `before`, except the current one; return their number."""
        expired = 0
        for attempt in _commits():
            with attempt:
                table = self.table(name)
                found = len(table.snapshots())
                table.maintenance.expire_snapshots().older_than(before).commit()
                expired = found - len(table.refresh().snapshots())
        return expired

    def probe(self) -> LakeState:
        io = load_file_io({PY_IO_IMPL: FSSPEC_FILE_IO}, self._location)
        probe = f"{self._location}/{_PROBE}"
        with io.new_output(probe).create(overwrite=True) as file:
            file.write(_PROBE.encode())
        with io.new_input(probe).open() as file:
            file.read()
        io.delete(probe)
        tables = {name: self.table(name) for _, name in self._catalog.list_tables((NAMESPACE,)) if name in LAKE_TABLES}
        snapshot = tables["f_sales"].current_snapshot() if "f_sales" in tables else None
        if snapshot is None:
            return LakeState(0, None)
        rows = snapshot.summary["total-records"] if snapshot.summary else None
        return LakeState(int(rows or 0), dt.datetime.fromtimestamp(snapshot.timestamp_ms / 1000, dt.UTC))

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
                f"the table is at {table.location()}, but LAKE_URL is {self._location}; to create a new lake there, "
                "delete the rows of lake.iceberg_tables and materialize the assets again"
            )
        return table

    def _current(self, name: str) -> tuple[Table, pa.Schema]:
        """Load a table for writing, and return it with the columns of its statement, in their order.

        Columns that this version adds, widens or describes differently are changed in the table first; existing rows
        have no value in an added column. Columns of another version stay, and are empty in new rows. Raises `LakeError`
        for a type that existing rows can't be read as.
        """
        ours = [column.name for column in LAKE_TABLES[name]]
        for attempt in _commits():
            with attempt:
                table = self.table(name)
                change = table.transaction()
                with change.update_schema() as update:
                    update.union_by_name(_optional_where_new(_schema(name), table.schema()))
                    for field in table.schema().fields:
                        if field.required and field.name not in ours:
                            update.make_column_optional(field.name)
                if change.table_metadata.current_schema_id != table.metadata.current_schema_id:
                    if _CONTENTS in table.properties:
                        change.remove_properties(_CONTENTS)  # equal rows have to be written again
                    table = change.commit_transaction()
        # With the ids of the table's fields, by which PyIceberg writes columns.
        return table, Schema(*(table.schema().find_field(column) for column in ours)).as_arrow()

    def _delete_unreferenced_files(self, name: str, before: dt.datetime) -> tuple[int, int]:
        """Delete a table's unreferenced files that are older than `before`; return (deleted, left)."""
        filesystem, folder = fsspec.core.url_to_fs(f"{self._location}/{name}")
        filesystem.invalidate_cache()
        found = set(filesystem.find(folder))
        # Loaded after the files were listed, so that it references files committed meanwhile.
        kept = {fsspec.core.url_to_fs(location)[1] for location in _referenced(self.table(name))}
        deleted = [path for path in sorted(found - kept) if filesystem.modified(path) < before]
        if deleted:
            filesystem.rm(deleted)
        return len(deleted), len(found) - len(deleted)

    @contextlib.contextmanager
    def _mart(self, purpose: str) -> Iterator[Transaction]:
        """Open a transaction with one snapshot of the mart."""
        with self._warehouse.transaction(purpose, read_only=True) as transaction:
            transaction.run("lake/session", "use_one_snapshot")
            yield transaction

    @contextlib.contextmanager
    def _locked(self, keys: Sequence[int]) -> Iterator[None]:
        """Hold the locks of days, or of the dimensions; those of days are always taken first."""
        parameters = {"space": _LOCKS, "keys": list(keys)}
        self._connection.execute(statements("lake/session")["lock"], parameters)
        try:
            yield
        finally:
            # A lost connection has released the locks, and the block's own error matters more.
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
            mart, lake = _formatted(expected.get(key)), _formatted(found.get(key))
            wrong.setdefault(day, []).append(f"{status} of {source}: {mart} in the mart, {lake} in the lake")
    return [{"date_id": day, "offending": len(texts), "example": texts[0]} for day, texts in wrong.items()]


def _formatted(sums: Mapping[str, Any] | None) -> str:
    return ", ".join(f"{name} {value}" for name, value in sums.items()) if sums else "nothing"


def _schema(name: str) -> Schema:
    return Schema(
        *(
            NestedField(number, column.name, _TYPES[column.kind], required=column.required, doc=column.description)
            for number, column in enumerate(LAKE_TABLES[name], start=1)
        )
    )


def _optional_where_new(schema: Schema, existing: Schema) -> Schema:
    """Return the schema with optional fields for those that existing rows do not have."""
    known = existing.column_names
    return Schema(
        *(field if field.name in known else field.model_copy(update={"required": False}) for field in schema.fields)
    )


def _commits() -> Retrying:
    """Retry a commit that conflicts with another process. PyIceberg retries only commits that add a snapshot."""
    return Retrying(
        retry=retry_if_exception_type(CommitFailedException),
        stop=stop_after_attempt(10),
        wait=wait_exponential_jitter(multiplier=0.1, max=10, jitter=0.1),
        reraise=True,
    )


def _partitions(schema: Schema, name: str) -> PartitionSpec:
    if LAKE_TABLES[name] is not F_SALES:
        return UNPARTITIONED_PARTITION_SPEC
    source = schema.find_field(PARTITION_COLUMN).field_id
    return PartitionSpec(PartitionField(source, 1000, IdentityTransform(), PARTITION_COLUMN))


def _chunks(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Combine batches to tables that fit into memory. Each becomes a file per day."""
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
    """Collect the locations of all files that the table's metadata references, in any snapshot."""
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
