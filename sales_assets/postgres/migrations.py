"""Migrate a warehouse to a revision of the schema, up or down, with Alembic (``sql/migrations/versions``)."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import LiteralString

import psycopg
import sqlalchemy as sa
from alembic import command, op
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from sales_assets.postgres import names
from sales_assets.postgres.connection import connect
from sales_assets.postgres.engines import engine
from sales_assets.postgres.errors import server_message
from sales_assets.postgres.queries import sql_folder

# Arbitrary, but used by no other lock of the platform.
_MIGRATION_LOCK = 7_205_001


_VERSIONED: LiteralString = (
    "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass('ops.schema_version') AND attname = 'version_num' "
    "AND NOT attisdropped"
)


class MigrationError(Exception):
    """The warehouse could not be migrated; the attempt is rolled back."""


def statements_of(revision_file: str) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return (upgrade, downgrade) for Alembic, which run ``NNNN_name.up.sql`` and ``.down.sql`` beside the revision."""

    def runner(suffix: str) -> Callable[[], None]:
        def run() -> None:
            text = Path(revision_file).with_suffix(suffix).read_text(encoding="utf-8")
            # The driver's own cursor: without parameters it sends the whole file as one simple query, and
            # neither SQLAlchemy's colons nor psycopg's percent signs are interpreted.
            op.get_bind().connection.cursor().execute(text)

        return run

    return runner(".up.sql"), runner(".down.sql")


def _config(connection: sa.Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(sql_folder() / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def current_revision(url: str) -> str | None:
    """Return the warehouse's revision; None if it was never migrated.

    Raises `psycopg.OperationalError` if the warehouse can't be reached.
    """
    with connect(url, "sales_assets revision", writing=False) as connection:
        if connection.execute(_VERSIONED).fetchone() is None:
            return None
        row = connection.execute("SELECT version_num FROM ops.schema_version").fetchone()
        return row["version_num"] if row else None


@functools.cache
def latest_revision() -> str:
    """Return the newest revision in ``sql/migrations``; reading all of them takes 15 ms, so it is done once."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None, "sql/migrations holds no revision"
    return head


def revisions() -> list[tuple[str, str]]:
    """Return (revision, description), oldest first."""
    scripts = ScriptDirectory.from_config(_config()).walk_revisions()
    return [(script.revision, script.doc) for script in scripts][::-1]


def migrate(url: str, to: str = "head") -> tuple[str | None, str | None]:
    """Migrate the warehouse up or down to a revision in one transaction, and return (from, to).

    `to` is a revision such as "0003", "head" for the latest or "base" for none. Raises `MigrationError` with
    the database's own message and hint.
    """
    try:
        with engine(url, "sales_assets migrate").begin() as connection:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            connection.execute(sa.text("CREATE SCHEMA IF NOT EXISTS ops"))
            opts = {"version_table": "schema_version", "version_table_schema": "ops"}
            if connection.execute(sa.text(_VERSIONED)).one_or_none() is None:
                _refuse_taken(connection, [names.Name("relation", "ops", "schema_version")])
            before = MigrationContext.configure(connection, opts=opts).get_current_revision()
            config = _config(connection)
            order = ["base", *(revision for revision, _ in revisions())]
            target = order[-1] if to == "head" else to
            if before is not None and before not in order:
                raise MigrationError(
                    f"the warehouse is at revision {before}, which a newer version of sales_assets created"
                )
            if target not in order:
                raise MigrationError(f"there is no revision {to!r}; known are {', '.join(order)} and head")
            if order.index(target) >= order.index(before or "base"):
                _require_free_names(connection, order[1:], order.index(before or "base"), order.index(target))
                command.upgrade(config, target)
            else:
                command.downgrade(config, target)
            after = MigrationContext.configure(connection, opts=opts).get_current_revision()
    except (psycopg.Error, sa.exc.DBAPIError) as error:  # SQLAlchemy does not wrap those of the driver's cursor
        cause = getattr(error, "orig", error)
        raise MigrationError("\n".join(server_message(cause)) or str(cause)) from error
    except CommandError as error:
        raise MigrationError(str(error)) from error
    return before, after


def _require_free_names(connection: sa.Connection, order: list[str], applied: int, target: int) -> None:
    """Raise `MigrationError` if foreign objects have names that the pending revisions create."""
    directory = ScriptDirectory.from_config(_config())
    scripts = []
    for revision in order[:target]:
        script = directory.get_revision(revision)
        assert script is not None
        scripts.append(Path(script.path).with_suffix(".up.sql").read_text(encoding="utf-8"))
    _refuse_taken(connection, names.pending(scripts[:applied], scripts[applied:]))


def _refuse_taken(connection: sa.Connection, wanted: list[names.Name]) -> None:
    found = names.taken(connection.connection.cursor(), wanted)  # type: ignore[arg-type]  # SQLAlchemy's proxy of it
    if found:
        raise MigrationError(
            f"names that the platform needs are taken: {', '.join(taken for taken, _ in found)}\n"
            f"Rename these objects, for instance: {' '.join(statement for _, statement in found)}"
        )
