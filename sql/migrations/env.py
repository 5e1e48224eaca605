"""Alembic's entry: runs the pending revisions in one transaction, under one lock.

The statements are in ``versions/NNNN_name.up.sql`` and ``.down.sql``; the Python file of a revision only refers to
them. `sales_assets.postgres.migrations` passes the open connection.
"""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    version_table="schema_version",
    version_table_schema="ops",
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
