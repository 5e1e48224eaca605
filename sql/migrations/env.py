"""Alembic's entry: runs the pending revisions in one transaction, under one lock.

The statements stand beside this file as ``versions/NNNN_name.up.sql`` and ``.down.sql``; the Python file of a
revision only names them. `sales_assets.postgres.migrations` hands over the open connection.
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
