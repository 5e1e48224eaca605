"""Session state of every driver, regardless of role, database and environment."""

import asyncio
import os
import secrets
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from sales_assets.deploy.storage import Storage
from sales_assets.postgres.connection import (
    UnusableDatabaseError,
    connect,
    connect_async,
    connect_psycopg2,
)
from sales_assets.postgres.embedded import EmbeddedPostgres, EmbeddedPostgresError, binary
from sales_assets.postgres.engines import async_engine, engine
from sales_assets_tests.cli.processes import free_port
from sales_assets_tests.postgres.hostile import ENVIRONMENT, ROLE, set_defaults

STATE = {
    "client_encoding": "UTF8",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "search_path": "public",
    "standard_conforming_strings": "on",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "quote_all_identifiers": "off",
    "transform_null_equals": "off",
    "array_nulls": "on",
    "row_security": "off",
    "exit_on_error": "off",
    "default_transaction_isolation": "read committed",
    "transaction_isolation": "read committed",
    "idle_session_timeout": "0",
    "idle_in_transaction_session_timeout": "1h",
    "synchronous_commit": "on",
}
_READ = "SELECT " + ", ".join(f"current_setting('{name}')" for name in [*STATE, "statement_timeout", "lock_timeout"])

_READ_ARRAY = f"SELECT ARRAY[{_READ.removeprefix('SELECT ')}] AS read"


def with_psycopg(url: str) -> Any:
    with connect(url, "test") as connection:
        return connection.execute(_READ_ARRAY.encode()).fetchone()["read"]  # type: ignore[index]


def with_psycopg_async(url: str) -> Any:
    async def read() -> Any:
        connection = await connect_async(url, "test", statement_ms=7_000, lock_ms=6_000)
        async with connection:
            cursor = await connection.execute(_READ_ARRAY.encode())
            return (await cursor.fetchone())["read"]  # type: ignore[index]

    return asyncio.run(read())


def with_psycopg2(url: str) -> Any:
    connection = connect_psycopg2(url, "test")
    try:
        with connection.cursor() as cursor:
            cursor.execute(_READ)
            assert connection.encoding == "UTF8"
            return [*cursor.fetchone()]
    finally:
        connection.close()


def with_engine(url: str) -> Any:
    with engine(url, "test").begin() as connection:
        return [*connection.execute(sa.text(_READ)).one()]


def with_pool(url: str) -> Any:
    async def read() -> Any:
        pool = async_engine(url, "test", pre_ping=True, lock_ms=6_000)
        try:
            async with pool.connect() as connection:
                return [*(await connection.execute(sa.text(_READ))).one()]
        finally:
            await pool.dispose()

    return asyncio.run(read())


def with_dagster(url: str) -> Any:
    storage = Storage(url)
    try:
        with storage.event_log_storage._connect() as connection:  # type: ignore[attr-defined]
            return [*connection.execute(sa.text(_READ)).one()]
    finally:
        storage.event_log_storage.dispose()


OPENING = [with_psycopg, with_psycopg_async, with_psycopg2, with_engine, with_pool, with_dagster]


@pytest.mark.parametrize("read", OPENING)
def test_role_and_environment_do_not_affect_the_session_state(
    new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, read: Callable[[str], Any]
) -> None:
    url = new_database("template1")
    set_defaults(url, ROLE)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    *state, statement_timeout, lock_timeout = read(url)
    assert dict(zip(STATE, state, strict=True)) == STATE
    limits: dict[Any, tuple[str, str]] = {with_psycopg_async: ("7s", "6s"), with_pool: ("10s", "6s")}
    assert (statement_timeout, lock_timeout) == limits.get(read, ("0", "0"))


@pytest.mark.parametrize("read", [with_psycopg, with_psycopg2])
def test_the_environment_does_not_redirect_connections_to_the_embedded_server(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch, read: Callable[[str], Any]
) -> None:
    url = server.url("sales")
    for name, value in {
        "PGHOST": "nowhere.invalid",
        "PGHOSTADDR": "127.0.0.9",
        "PGPORT": "1",
        "PGUSER": "nobody",
        "PGDATABASE": "nothing",
        "PGTARGETSESSIONATTRS": "standby",
        "PGCHANNELBINDING": "require",
        "PGSSLMODE": "verify-full",
    }.items():
        monkeypatch.setenv(name, value)
    assert read(url)[0] == "UTF8"


@pytest.mark.parametrize("read", OPENING)
def test_options_of_the_connection_string_are_kept(
    new_database: Callable[..., str], read: Callable[[str], Any]
) -> None:
    """With a role or memory options for the loader, sessions still have the pinned state."""
    url = new_database("template1")
    role = f"owner_{secrets.token_hex(4)}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} SUPERUSER").format(sql.Identifier(role)))
    try:
        options = f"{url}&options=-c%20role%3D{role}%20-c%20datestyle%3DGerman"
        assert dict(zip(STATE, read(options), strict=False)) == STATE
        with connect(options, "test") as connection_:
            assert connection_.execute("SELECT current_user AS role").fetchone() == {"role": role}
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(role)))


def test_dagsters_tables_may_be_in_a_schema_named_by_the_connection_string(new_database: Callable[..., str]) -> None:
    url = new_database("template1")
    with psycopg.connect(url) as connection:
        connection.execute("CREATE SCHEMA dagster")
    Storage(f"{url}&options=-c%20search_path%3Ddagster").event_log_storage.dispose()
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT to_regclass('dagster.runs'), to_regclass('public.runs')").fetchone()
    assert found == ("dagster.runs", None)


# --- databases that are refused -------------------------------------------------------------------------------------


@pytest.fixture
def encoded(server: EmbeddedPostgres) -> Iterator[Callable[[str], str]]:
    created: list[str] = []

    def make(encoding: str) -> str:
        created.append(f"test_{encoding.lower()}_{secrets.token_hex(4)}")
        with psycopg.connect(server.url("sales"), autocommit=True) as connection:
            connection.execute(
                f"CREATE DATABASE {created[-1]} ENCODING '{encoding}' TEMPLATE template0 LOCALE_PROVIDER libc "
                "LC_COLLATE 'C' LC_CTYPE 'C'".encode()
            )
        return server.url(created[-1])

    yield make
    with psycopg.connect(server.url("sales"), autocommit=True) as connection:
        for name in created:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.mark.parametrize("encoding", ["WIN1251", "LATIN1", "SQL_ASCII", "KOI8R"])
def test_a_database_that_cannot_store_every_text_is_refused(encoded: Callable[[str], str], encoding: str) -> None:
    with pytest.raises(UnusableDatabaseError, match=f"has the encoding {encoding}, which cannot store") as caught:
        connect(encoded(encoding), "test")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("read", OPENING)
def test_a_database_that_accepts_no_writes_is_refused(
    new_database: Callable[..., str], read: Callable[[str], Any]
) -> None:
    url = new_database("template1")
    set_defaults(url, {"default_transaction_read_only": "on"})
    with pytest.raises(Exception, match="accepts no writes: default_transaction_read_only is on for the role sales"):
        read(url)
    with connect(url, "test", writing=False) as connection:
        assert connection.execute("SELECT 1 AS one").fetchone() == {"one": 1}


def test_a_session_that_fires_no_triggers_is_refused(new_database: Callable[..., str]) -> None:
    url = new_database("template1")
    set_defaults(url, {"session_replication_role": "replica"})
    with pytest.raises(UnusableDatabaseError, match="fires no triggers"):
        connect(url, "test")


@pytest.mark.external
def test_a_hot_standby_is_refused_for_writing_and_accepted_for_reading(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "standby")
    server.ensure_running()
    server.stop()
    (server.data / "standby.signal").touch()
    try:
        with suppress(EmbeddedPostgresError):  # the server can't create its databases
            server.ensure_running()
        with pytest.raises(UnusableDatabaseError, match="accepts no writes: its server is a hot standby"):
            connect(server.url("sales"), "test")
        with connect(server.url("sales"), "test", writing=False) as connection:
            assert connection.execute("SELECT pg_is_in_recovery() AS standby").fetchone() == {"standby": True}
    finally:
        server.stop()


@pytest.mark.external
def test_sessions_of_a_vanished_machine_end_within_a_minute(tmp_path: Path) -> None:
    """With the system's default, the locks of these sessions would block a repetition of their runs for two hours."""
    server = EmbeddedPostgres(tmp_path / "tcp")
    server.ensure_running()
    server.stop()
    (server.data / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 trust\n")
    port = free_port()
    options = f"-c listen_addresses=127.0.0.1 -c port={port}"
    pg_ctl = [*server.run_as().prefix, str(binary("pg_ctl")), f"--pgdata={server.data}", "--wait"]
    start = [*pg_ctl, f"--log={server.log_path}", f"--options={options}", "start"]
    subprocess.run(start, check=True, stdout=subprocess.DEVNULL, cwd="/")
    try:
        with connect(f"postgresql://sales@127.0.0.1:{port}/postgres", "test") as connection:
            parts = ("idle", "interval", "count")
            rows = [connection.execute(f"SHOW tcp_keepalives_{part}".encode()).fetchone() for part in parts]
            client = socket.socket(fileno=os.dup(connection.fileno()))
        with client:
            limits = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            kept = [client.getsockopt(socket.IPPROTO_TCP, limit) for limit in limits]
    finally:
        subprocess.run([*pg_ctl, "--mode=fast", "stop"], check=True, stdout=subprocess.DEVNULL, cwd="/")
    assert [int(value) for row in rows if row for value in row.values()] == [30, 10, 3]
    assert kept == [30, 10, 3]
