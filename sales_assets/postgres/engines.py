"""SQLAlchemy engines over the connections of `sales_assets.postgres.connection`; no other module creates engines.

A separate module because importing SQLAlchemy takes longer than most commands need.
"""

from collections.abc import Mapping
from typing import Any, cast

import psycopg
import sqlalchemy as sa
from psycopg.rows import tuple_row
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from sales_assets.postgres.connection import connect, connect_async

_POOL_SIZE = 16
_POOL_SECONDS = 5
# A hanging server must not hold a request longer than its caller waits.
_STATEMENT_MS = 10_000
# Waiting for a connection and running a statement take no longer than this.
STATEMENT_SECONDS = _POOL_SECONDS + _STATEMENT_MS / 1000


def engine(url: str, purpose: str) -> sa.Engine:
    """Return a synchronous engine without a pool."""

    def open_connection() -> Any:
        connection: Any = connect(url, purpose)
        connection.row_factory = tuple_row  # SQLAlchemy reads rows by position
        return connection

    return sa.create_engine("postgresql+psycopg://", creator=open_connection, poolclass=sa.pool.NullPool)


def engine_of(connection: psycopg.Connection[Any]) -> sa.Engine:
    """Return an engine that runs everything on one open connection, which the caller closes.

    Rows of the connection come as tuples from then on.
    """
    connection.row_factory = tuple_row
    return sa.create_engine("postgresql+psycopg://", creator=lambda: connection, poolclass=sa.pool.StaticPool)


def async_engine(url: str, purpose: str, *, pre_ping: bool, lock_ms: int = 0) -> AsyncEngine:
    """Return a pool in autocommit mode for a service. With `pre_ping` a connection is tested before each use."""

    async def open_connection() -> psycopg.AsyncConnection[Any]:
        connection: Any = await connect_async(url, purpose, statement_ms=_STATEMENT_MS, lock_ms=lock_ms)
        connection.row_factory = tuple_row
        return cast("psycopg.AsyncConnection[Any]", connection)

    return create_async_engine(
        "postgresql+psycopg://",
        async_creator=open_connection,
        isolation_level="AUTOCOMMIT",
        pool_size=_POOL_SIZE,
        max_overflow=0,
        pool_pre_ping=pre_ping,
        hide_parameters=True,  # errors are logged, and parameters are personal data
        pool_timeout=_POOL_SECONDS,
    )


async def fetch(connection: AsyncConnection, statement: str, parameters: Mapping[str, object]) -> list[dict[str, Any]]:
    """Run a statement in psycopg's own placeholders; return its rows, if it has any."""
    result = await connection.exec_driver_sql(statement, dict(parameters))
    return [dict(row) for row in result.mappings()] if result.returns_rows else []
