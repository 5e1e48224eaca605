"""Connection strings: the same parameters for every driver, and no password in any message."""

from collections.abc import Callable

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from sales_assets.connection_strings import ConnectionStringError, normalize, parse, with_database
from sales_assets.deploy.storage import Storage
from sales_assets.postgres.connection import connect, connect_psycopg2
from sales_assets.postgres.embedded import EmbeddedPostgres


@pytest.mark.parametrize(
    ("text", "password", "host", "port", "database"),
    [
        ("postgresql://u:pa#ss@h/d", "pa#ss", "h", None, "d"),
        ("postgresql://u:p?ss@h/d", "p?ss", "h", None, "d"),
        ("postgresql://u:p%40ss@h/d", "p@ss", "h", None, "d"),
        ("postgresql://u:p%23@h/d", "p#", "h", None, "d"),
        ("postgresql://u:p%2Fs@h/d", "p/s", "h", None, "d"),
        ("postgresql://u:p:s@h/shop#1", "p:s", "h", None, "shop#1"),
        ("postgresql://u:p@h/a%40b", "p", "h", None, "a@b"),
        ("postgresql://u:p+1&x=2@h/d", "p+1&x=2", "h", None, "d"),
        ("postgresql://u:p@h1:5432,h2:5433/d", "p", "h1,h2", "5432,5433", "d"),
        ("postgresql://u:p@[::1]:6000/d", "p", "::1", "6000", "d"),
        ("postgresql:///d?host=/run/pg&user=u&password=p%26s", "p&s", "/run/pg", None, "d"),
        ("postgresql://u:p@%2Frun%2Fpg/d", "p", "/run/pg", None, "d"),
        ("host=h user=u password='p@s s/1' dbname='shop#1'", "p@s s/1", "h", None, "shop#1"),
        ("  postgresql+psycopg2://u:p@h/d ", "p", "h", None, "d"),
    ],
)
def test_parameters_of_a_connection_string(
    text: str, password: str, host: str, port: str | None, database: str
) -> None:
    found = parse(text)
    assert (found["password"], found["host"], found.get("port"), found["dbname"]) == (password, host, port, database)
    assert found["user"] == "u"
    beside = conninfo_to_dict(with_database(text, "it's #2"))
    assert conninfo_to_dict(normalize(text)) == found
    assert beside == {**found, "dbname": "it's #2"}


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u:hu@sh@h/d",
        "postgresql://u:hu/sh@h/d",
        "postgresql://u:12/hush@h/d",
        "postgresql://u:12/hu?sh@h/d",
        "postgresql://u:12/hush%40h/d@x",
        "postgresql://u:hu%sh@h/d",
        "postgresql://u:hu@sh:sh@h/d",
        "postgresql://u:hu@[sh@h/d",
        "postgresql://u:hu/sh",
        "postgresql://u:p@h:hush/d",
        "postgresql://u:p@h:70000/d",
        "host=h password=hu sh dbname=d",
        "host=h password='hush",
        "mysql://u:hush@h/d",
        "hush",
        "host=h hush=1",
        "postgresql://u:p@h/d?hush=1",
        "postgresql://u:p@h/hush%00",
    ],
)
def test_an_unusable_connection_string_is_rejected_without_repeating_its_contents(text: str) -> None:
    with pytest.raises(ConnectionStringError) as caught:
        parse(text)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    for part in ("hush", "hu ", "sh@", "@sh", "hu@", "70000"):
        assert part not in message


@pytest.fixture
def odd_database(server: EmbeddedPostgres, new_database: Callable[..., str]) -> Callable[[str], str]:
    """Return a function that returns a connection string of a database with reserved characters, in a given form."""
    name = "shop#1?a b/%"
    made = conninfo_to_dict(new_database("template1"))["dbname"]
    assert isinstance(made, str)
    odd = f"{made}{name}"
    with psycopg.connect(server.url("sales"), autocommit=True) as connection:
        rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
        connection.execute(rename.format(sql.Identifier(made), sql.Identifier(odd)))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(made)))  # dropped by the fixture
    parameters = conninfo_to_dict(server.url("sales"))
    host, user = parameters["host"], parameters["user"]
    encoded = odd.replace("%", "%25").replace("/", "%2F").replace("?", "%3F").replace(" ", "%20")
    return {
        "url": f"postgresql:///{encoded}?host={host}&user={user}&password=pa#ss",
        "two hosts": f"postgresql://u:p#1?@/{encoded}?host=/nowhere,{host}&port=5432,5432&user={user}"
        "&target_session_attrs=read-write",
        "keywords": f"host={host} user={user} dbname='{odd}' password='p@ #s'",
    }.__getitem__


@pytest.mark.parametrize("form", ["url", "two hosts", "keywords"])
def test_every_component_connects_to_the_same_database(
    server: EmbeddedPostgres, odd_database: Callable[[str], str], form: str
) -> None:
    text = odd_database(form)
    try:
        with connect(text, "test") as connection:
            name = connection.info.dbname
        assert name.endswith("shop#1?a b/%")
        dagsters = connect_psycopg2(text, "test")
        assert dagsters.info.dbname == name
        dagsters.close()
        storage = Storage(text)
        try:
            with storage.event_log_storage._connect() as opened:  # type: ignore[attr-defined]
                assert opened.execute(sa.text("SELECT current_database()")).scalar_one() == name
            assert "p@" not in repr(storage.event_log_storage._engine)  # type: ignore[attr-defined]
            assert "pa#ss" not in repr(storage.event_log_storage._engine)  # type: ignore[attr-defined]
        finally:
            storage.event_log_storage.dispose()
    finally:
        with psycopg.connect(server.url("sales"), autocommit=True) as connection_:
            connection_.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
