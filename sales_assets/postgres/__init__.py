"""PostgreSQL: opening connections in one known state, for the pipeline, the services and Dagster's storage.

Belongs here: connection strings, connections and engines. Does not belong here: which server is used
(`sales_assets.postgres.database`), or the statements that run there (``sql/``).
"""
