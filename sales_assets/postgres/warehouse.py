"""Access to the warehouse: schema version, transactions, named statements of ``sql/`` with bound parameters, COPY."""

import contextlib
import enum
import itertools
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.csv as pa_csv
from psycopg.abc import Buffer

from sales_assets.connection_strings import with_database
from sales_assets.postgres import migrations
from sales_assets.postgres.connection import connect, rename
from sales_assets.postgres.database import embedded, warehouse_url
from sales_assets.postgres.queries import statements
from sales_assets.settings import settings

DAGSTER_DATABASE = "dagster"

_ROWS_READ_AT_ONCE = 10_000
# The server's table of locks has 6400 places by default, for all sessions.
_MOST_DAY_LOCKS = 400


class DayLock(enum.IntEnum):
    """Classes of the day locks in ``sql/locks.sql``: loads of the two sources may write a day at the same time."""

    REPORT_API = 7_205_020
    PARTNER_ORDERS = 7_205_021


class WarehouseError(Exception):
    """The warehouse cannot be used. The message suggests a fix."""


def dagster_storage_url() -> str:
    """Return a libpq connection string of Dagster's storage, in a separate database (created where it is missing)."""
    if settings().dagster_storage_url is not None:
        return settings().dagster_storage_url.get_secret_value()  # type: ignore[union-attr]
    if settings().warehouse_url is None:
        server = embedded()
        server.ensure_running()
        return server.url(DAGSTER_DATABASE)
    return _database_next_to_warehouse(settings().warehouse_url.get_secret_value())  # type: ignore[union-attr]


def _database_next_to_warehouse(url: str) -> str:
    # CREATE DATABASE takes no transaction.
    with connect(url, "sales_assets storage", autocommit=True) as connection:
        name = f"{connection.info.dbname}_dagster"
        exists = connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone()
        if exists is None:
            # The warehouse's locale supports UTF-8; the server's default (template1) may not.
            locale = connection.execute(
                "SELECT datcollate, datctype FROM pg_database WHERE datname = current_database()"
            ).fetchone()
            assert locale is not None
            try:
                connection.execute(
                    psycopg.sql.SQL(
                        "CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE {} LC_CTYPE {}"
                    ).format(psycopg.sql.Identifier(name), *(psycopg.sql.Literal(locale[key]) for key in locale))
                )
            except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                pass  # another process was faster
            except psycopg.errors.InsufficientPrivilege as error:
                raise WarehouseError(
                    f"the role of WAREHOUSE_URL may not create the database {name} for Dagster's storage; "
                    "create it, or set DAGSTER_STORAGE_URL"
                ) from error
    return with_database(url, name)


class Transaction:
    """An open transaction, committed as a whole or rolled back."""

    def __init__(self, connection: psycopg.Connection[dict[str, Any]]) -> None:
        self.connection = connection

    def run(self, file: str, name: str, /, **parameters: object) -> int:
        """Run statement `name` of ``sql/<file>.sql`` and return the number of affected rows."""
        return self.connection.execute(statements(file)[name], parameters).rowcount

    def rows(self, file: str, name: str, /, **parameters: object) -> list[dict[str, Any]]:
        return self.connection.execute(statements(file)[name], parameters).fetchall()

    def row(self, file: str, name: str, /, **parameters: object) -> dict[str, Any] | None:
        return self.connection.execute(statements(file)[name], parameters).fetchone()

    @contextlib.contextmanager
    def savepoint(self) -> Iterator["Transaction"]:
        """Open a savepoint: an error in the block undoes the block and is raised."""
        with self.connection.transaction():
            yield self

    def run_all(self, file: str, prefix: str, /, **parameters: object) -> None:
        """Run the statements of a file whose names start with `prefix`, in file order; there may be none."""
        for name in statements(file):
            if name.startswith(prefix):
                self.run(file, name, **parameters)

    def copy(self, file: str, name: str, /, blocks: Iterable[Buffer]) -> int:
        """Stream blocks into a ``COPY ... FROM STDIN``; return the number of rows that PostgreSQL stored.

        `binary_copy.encoded` makes the blocks of a ``FORMAT binary``.
        """
        with self.connection.cursor() as cursor:
            with cursor.copy(statements(file)[name]) as copy:
                for block in blocks:
                    copy.write(block)
            return cursor.rowcount

    def copy_out(self, file: str, name: str, schema: pa.Schema, /, **parameters: object) -> Iterator[pa.RecordBatch]:
        """Stream a ``COPY (SELECT ...) TO STDOUT (FORMAT csv)`` as Arrow batches, typed by `schema`."""
        read = pa_csv.ReadOptions(column_names=schema.names, use_threads=False)
        parse = pa_csv.ParseOptions(newlines_in_values=True)
        # COPY writes NULL as nothing, and an empty string in quotes.
        convert = pa_csv.ConvertOptions(
            column_types=schema, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
        )
        for block in self.copy_text(file, name, **parameters):
            yield from pa_csv.read_csv(pa.BufferReader(block), read, parse, convert).cast(schema).to_batches()

    def copy_text(self, file: str, name: str, /, **parameters: object) -> Iterator[bytes]:
        """Stream a ``COPY (SELECT ...) TO STDOUT (FORMAT csv)`` as PostgreSQL writes it, in blocks of whole rows."""
        with self.connection.cursor() as cursor, cursor.copy(statements(file)[name], parameters) as copy:
            rows = iter(copy)
            # Each message is one row.
            while block := b"".join(itertools.islice(rows, _ROWS_READ_AT_ONCE)):
                yield block


class Warehouse:
    """The PostgreSQL database of the settings, with the schemas raw, staging and mart."""

    def __init__(self) -> None:
        self._ready_url: str | None = None

    def url(self) -> str:
        """Return a libpq connection string; the first call verifies the revision of the schema."""
        if self._ready_url is None:
            url = warehouse_url()
            self._require_schema(url)
            self._ready_url = url
        return self._ready_url

    def _require_schema(self, url: str) -> None:
        latest = migrations.latest_revision()
        found = migrations.current_revision(url)
        if found == latest:
            return
        if settings().warehouse_url is None and found is None:
            migrations.migrate(url)  # a new embedded server has no data
            return
        raise WarehouseError(
            f"the warehouse is at revision {found or 'none'}, this version needs {latest}: run `sales-assets migrate`"
        )

    def require_writable(self) -> None:
        """Raise `psycopg.OperationalError` for a database that cannot store every text or accepts no writes."""
        connect(warehouse_url(), "sales_assets examination").close()

    @contextlib.contextmanager
    def transaction(self, purpose: str, read_only: bool = False) -> Iterator[Transaction]:
        """Open a transaction and commit at the end. `purpose` (run and asset) is the session's application name."""
        with self._connection(purpose, read_only) as connection:
            yield Transaction(connection)

    @contextlib.contextmanager
    def _connection(self, purpose: str, read_only: bool) -> Iterator[psycopg.Connection[dict[str, Any]]]:
        with connect(self.url(), purpose, writing=not read_only) as connection:
            connection.read_only = read_only
            yield connection

    @contextlib.contextmanager
    def keeping_connections(self) -> Iterator["Warehouse"]:
        """Yield a warehouse whose transactions share a few connections, for many short ones."""
        kept = _KeptConnections(self.url())
        try:
            yield kept
        finally:
            kept.close()

    @contextlib.contextmanager
    def writing_days(
        self, purpose: str, date_ids: Collection[int], kind: DayLock = DayLock.REPORT_API
    ) -> Iterator["Writer"]:
        """Hold the locks of days of staging and the mart, over one or several transactions.

        Never nest it, and never hold another lock: ``sql/locks.sql`` has the order. More than 400 days count as
        everything. `purpose` is the name of the waiting session in ``pg_stat_activity``.
        """
        if len(date_ids) > _MOST_DAY_LOCKS:
            with self.writing_everything(purpose) as writer:
                yield writer
            return
        with connect(self.url(), purpose, autocommit=True) as session:
            waited = _lock(session, "share_everything")
            waited += _lock(session, "days", kind=int(kind), date_ids=list(date_ids))
            yield Writer(self, session, waited)

    @contextlib.contextmanager
    def writing_everything(self, purpose: str) -> Iterator["Writer"]:
        """Hold the lock that excludes all other writers of staging, dimensions and mart."""
        with connect(self.url(), purpose, autocommit=True) as session:
            yield Writer(self, session, _lock(session, "everything"))

    @contextlib.contextmanager
    def reading_raw_files(self, purpose: str) -> Iterator[None]:
        """Fetch or parse raw files while no person is erased from them; take it before any lock of days."""
        with connect(self.url(), purpose, autocommit=True) as session:
            _lock(session, "share_raw_files")
            yield

    @contextlib.contextmanager
    def rewriting_raw_files(self, purpose: str) -> Iterator["Writer"]:
        """Wait for all loads, and exclude them and all other writers of staging, dimensions and mart."""
        with connect(self.url(), purpose, autocommit=True) as session:
            waited = _lock(session, "raw_files")
            yield Writer(self, session, waited + _lock(session, "everything"))

    def rows(self, file: str, name: str, /, **parameters: object) -> list[dict[str, Any]]:
        """Run one statement in a separate read-only transaction, and return its rows."""
        with self.transaction(f"sales_assets {file}", read_only=True) as transaction:
            return transaction.rows(file, name, **parameters)


class _KeptConnections(Warehouse):
    """Warehouse with reused connections: connecting takes 3 ms, and a new session has to read the catalog.

    Thread-safe, with as many connections as concurrent transactions.
    """

    def __init__(self, url: str) -> None:
        self._ready_url = url
        self._idle: deque[psycopg.Connection[dict[str, Any]]] = deque()

    @contextlib.contextmanager
    def _connection(self, purpose: str, read_only: bool) -> Iterator[psycopg.Connection[dict[str, Any]]]:
        connection = self._idle_connection(purpose) or connect(self.url(), purpose)
        # A generic plan would read whole tables for a day.
        connection.prepare_threshold = None
        connection.read_only = read_only
        with contextlib.ExitStack() as closing:
            closing.enter_context(connection)
            yield connection
            connection.commit()
            closing.pop_all()
        self._idle.append(connection)

    def _idle_connection(self, purpose: str) -> psycopg.Connection[dict[str, Any]] | None:
        while self._idle:
            connection = self._idle.pop()
            try:
                rename(connection, purpose)
            except psycopg.OperationalError:  # the server was restarted
                connection.close()
            else:
                return connection
        return None

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()


def _lock(session: psycopg.Connection[dict[str, Any]], name: str, **parameters: object) -> float:
    """Take locks by a statement of ``sql/locks.sql``; returns the seconds waited, 0 if all of them were free."""
    begin = time.monotonic()
    row = session.execute(statements("locks")[name], parameters).fetchone()
    assert row is not None
    return time.monotonic() - begin if row["waited"] else 0.0


class Writer:
    """Holder of writers' locks: session locks, which are released even if the process is killed.

    Its transactions are thread-safe.

    waited_seconds: time that the locks had to be waited for; 0 if all of them were free.
    """

    def __init__(
        self, warehouse: Warehouse, session: psycopg.Connection[dict[str, Any]], waited_seconds: float
    ) -> None:
        self.waited_seconds = waited_seconds
        self._warehouse = warehouse
        self._session = session

    @contextlib.contextmanager
    def transaction(self, purpose: str) -> Iterator[Transaction]:
        """Open a transaction; raise `psycopg.OperationalError` if the lock was lost before the commit."""
        with self._warehouse.transaction(purpose) as transaction:
            yield transaction
            # A server that was restarted meanwhile has released the lock, which another writer may hold now.
            self._session.execute("SELECT")
