"""The PostgreSQL that comes with the package, for a machine that has none.

Belongs here: making, starting, finding and stopping that one server. Does not belong here: what is stored in
it (sql/, resources/) and whether it is used at all (settings, cli).
"""

from sales_assets.postgres.embedded.postgres import DATABASES, EmbeddedPostgres, EmbeddedPostgresError, binary

__all__ = ["DATABASES", "EmbeddedPostgres", "EmbeddedPostgresError", "binary"]
