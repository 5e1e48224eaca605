"""The embedded PostgreSQL server, for a machine without PostgreSQL: create, start, find and stop it."""

from sales_assets.postgres.embedded.postgres import DATABASES, MAJOR, EmbeddedPostgres, EmbeddedPostgresError, binary

__all__ = ["DATABASES", "MAJOR", "EmbeddedPostgres", "EmbeddedPostgresError", "binary"]
