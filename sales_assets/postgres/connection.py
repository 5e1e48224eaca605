"""Open connections to PostgreSQL, for all drivers and engines: no other module connects.

Each connection has the session state of ``sql/session.sql``, regardless of the role, the database, a connection service
or the PG* variables. Connections for writing are refused on a database that cannot store every text or accepts no
writes. `sales_assets.postgres.database` chooses the server.
"""

import secrets
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn, Ping
from psycopg.rows import dict_row
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential_jitter

from sales_assets.connection_strings import parse
from sales_assets.postgres.queries import statements

_RESTART_SECONDS = 20
_CONNECT_SECONDS = 10
# A server that vanished, without closing its connections, is noticed after a minute instead of two hours.
_KEEPALIVES = {"keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3"}
# Maximum length of an application name in PostgreSQL.
_NAME_BYTES = 63

Row = dict[str, Any]


class UnusableDatabaseError(psycopg.OperationalError):
    """The database is reachable but not writable as the platform requires. The message is one sentence."""


def connect(
    url: str,
    purpose: str,
    *,
    autocommit: bool = False,
    writing: bool = True,
    patience: float | None = None,
    statement_ms: int = 0,
    may_choose_schema: bool = False,
) -> psycopg.Connection[Row]:
    """Open a connection named `purpose`; rows come as mappings. Raises `psycopg.OperationalError`.

    Retries for `patience` seconds (20) while the server can't be reached or is starting up; a wrong password, role or
    database name, or an unknown host, fails at once.

    may_choose_schema: the connection string is that of Dagster's storage, and may name the schema of its tables
        (`options=-c search_path=...`).
    """
    conninfo = _conninfo(url, purpose, _CONNECT_SECONDS)

    def attempt() -> psycopg.Connection[Row]:
        return psycopg.connect(conninfo, autocommit=True, row_factory=dict_row)

    def is_unreachable(error: BaseException) -> bool:
        # Without a pgconn there was no connection attempt: the host is unknown.
        if not isinstance(error, psycopg.OperationalError) or error.pgconn is None:
            return False
        # libpq gives no SQLSTATE for a refused connection, and its text depends on the server's language.
        return PGconn.ping(conninfo.encode()) in (Ping.REJECT, Ping.NO_RESPONSE)

    retrying = Retrying(
        retry=retry_if_exception(is_unreachable),
        stop=stop_after_delay(_RESTART_SECONDS if patience is None else patience),
        wait=wait_exponential_jitter(multiplier=0.1, max=2, jitter=0.2),
        reraise=True,
    )
    try:
        connection = retrying(attempt)
    except psycopg.OperationalError:
        connection = attempt()  # the server may have come up between the refusal and the ping
    try:
        session = _session(statement_ms) | {"search_path": _search_path(url) if may_choose_schema else "public"}
        found = connection.execute(statements("session")["pin"], session).fetchone()
        if writing:
            _require_writable(found)
        connection.autocommit = autocommit
    except BaseException:
        connection.close()
        raise
    return connection


def rename(connection: psycopg.Connection[Row], purpose: str) -> None:
    """Rename an idle connection to another purpose. Raises `psycopg.OperationalError` if it was lost."""
    connection.autocommit = True
    connection.execute(statements("session")["rename"], {"purpose": purpose[:_NAME_BYTES]})
    connection.autocommit = False


async def connect_async(
    url: str, purpose: str, *, connect_seconds: int = 5, statement_ms: int = 0, lock_ms: int = 0
) -> psycopg.AsyncConnection[Row]:
    """Open a connection in autocommit mode for writing; rows come as mappings. One attempt."""
    connection = await psycopg.AsyncConnection.connect(
        _conninfo(url, purpose, connect_seconds), autocommit=True, row_factory=dict_row
    )
    try:
        cursor = await connection.execute(statements("session")["pin"], _session(statement_ms, lock_ms))
        _require_writable(await cursor.fetchone())
    except BaseException:
        await connection.close()
        raise
    return connection


def connect_psycopg2(url: str, purpose: str) -> Any:
    """Open a psycopg2 connection for writing; Dagster's storage uses this driver, and may choose its schema."""
    # Imported here, because `sales-assets warehouse url` doesn't need it.
    import psycopg2
    from psycopg2.extras import RealDictCursor

    connection = psycopg2.connect(_conninfo(url, purpose, _CONNECT_SECONDS))
    try:
        connection.autocommit = True
        with connection.cursor(cursor_factory=RealDictCursor) as cursor:
            cursor.execute(statements("session")["pin"], {**_session(), "search_path": _search_path(url)})
            _require_writable(cursor.fetchone())
        connection.autocommit = False
    except BaseException:
        connection.close()
        raise
    return connection


def is_same_database(one: str, other: str) -> bool:
    """Return whether two connection strings lead to the same database: both see the same advisory lock."""
    probe = {"key": secrets.randbits(63)}
    with connect(one, "sales_assets comparison", writing=False) as first:
        first.execute(statements("session")["probe"], probe)
        with connect(other, "sales_assets comparison", writing=False) as second:
            row = second.execute(statements("session")["probe"], probe).fetchone()
    assert row is not None
    return not row["acquired"]


def _conninfo(url: str, purpose: str, timeout: int) -> str:
    return make_conninfo(
        **{
            "connect_timeout": str(timeout),
            **_KEEPALIVES,
            **parse(url),
            "application_name": purpose[:_NAME_BYTES],
            # Also here, because drivers choose their codec when they connect; it overrides PGCLIENTENCODING.
            "client_encoding": "UTF8",
        }
    )


def _search_path(url: str) -> str | None:
    """Return the schema of Dagster's tables; None if the connection string chooses it."""
    return None if "search_path" in parse(url).get("options", "") else "public"


def _session(statement_ms: int = 0, lock_ms: int = 0) -> dict[str, str]:
    return {"statement_timeout": str(statement_ms), "lock_timeout": str(lock_ms), "search_path": "public"}


def _require_writable(found: Mapping[str, Any] | None) -> None:
    """Raise `UnusableDatabaseError` for a database that cannot store every text, or accepts no writes."""
    assert found is not None
    database = f"the database {found['database']}"
    if found["encoding"] != "UTF8":
        raise UnusableDatabaseError(
            f"{database} has the encoding {found['encoding']}, which cannot store every text: use one that was "
            "created with CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
        )
    if found["standby"]:
        raise UnusableDatabaseError(f"{database} accepts no writes: its server is a hot standby, use the primary")
    if found["read_only"]:
        raise UnusableDatabaseError(
            f"{database} accepts no writes: default_transaction_read_only is on for the role {found['role']}, the "
            "database or the server"
        )
    if found["without_triggers"]:
        raise UnusableDatabaseError(
            f"{database} fires no triggers: session_replication_role is not origin for the role {found['role']}"
        )
