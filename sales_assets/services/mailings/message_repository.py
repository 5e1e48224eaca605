"""The worker's repository of messages: runs the statements of ``sql/mailings/message.sql``, with reconnects."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg

from sales_assets.postgres.connection import connect_async
from sales_assets.postgres.queries import statements

_CONNECT_SECONDS = 5
_STATEMENT_MS = 15_000
# A list of millions of recipients is one statement.
_LONG_STATEMENT_MS = 600_000

Row = dict[str, Any]


class MessageRepository:
    """A single connection for one caller at a time, opened on first use and reopened after it broke.

    Every use raises `psycopg.Error` or `TimeoutError` when the database can't be used.
    """

    def __init__(self, url: str, purpose: str, *, long: bool = False) -> None:
        self._url = url
        self._purpose = purpose
        self._statement_ms = _LONG_STATEMENT_MS if long else _STATEMENT_MS
        self._lock = asyncio.Lock()
        self._connection: psycopg.AsyncConnection[Row] | None = None

    async def rows(self, name: str, **parameters: object) -> list[Row]:
        """Run a statement and commit; return its rows, if it has any."""
        async with self._lock, asyncio.timeout(self._statement_ms / 1000 + _CONNECT_SECONDS):
            was_open = self._connection is not None and not self._connection.closed
            try:
                return await self._run(name, parameters)
            except psycopg.OperationalError:
                # A restart of the server leaves a dead connection, noticed only on use.
                if not was_open or self._connection is None or not self._connection.broken:
                    raise
            return await self._run(name, parameters)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["MessageRepository"]:
        """Run statements in one transaction, with `rows_within`."""
        async with self._lock:
            connection = await self._open()
            try:
                async with connection.transaction():
                    yield self
            except BaseException:
                await self._drop()
                raise

    async def rows_within(self, name: str, **parameters: object) -> list[Row]:
        return await self._run(name, parameters)

    async def close(self) -> None:
        async with self._lock:
            await self._drop()

    async def _run(self, name: str, parameters: dict[str, object]) -> list[Row]:
        connection = await self._open()
        try:
            cursor = await connection.execute(statements("mailings/message")[name], parameters)
            return await cursor.fetchall() if cursor.description else []
        except asyncio.CancelledError:
            # Part of a response may still arrive.
            await self._drop()
            raise

    async def _open(self) -> psycopg.AsyncConnection[Row]:
        if self._connection is None or self._connection.closed:
            self._connection = await connect_async(
                self._url,
                f"sales_assets mailings {self._purpose}",
                connect_seconds=_CONNECT_SECONDS,
                statement_ms=self._statement_ms,
            )
        return self._connection

    async def _drop(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None
