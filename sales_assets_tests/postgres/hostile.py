"""Role defaults and environment variables that would give sessions a state that breaks the platform."""

import psycopg
from psycopg import sql

# Role defaults, each of which changes what is read or written.
ROLE = {
    "client_encoding": "WIN1251",
    "datestyle": "German",
    "intervalstyle": "sql_standard",
    "timezone": "Asia/Kamchatka",
    "search_path": "foreign_schema, pg_catalog",
    "standard_conforming_strings": "off",
    "bytea_output": "escape",
    "extra_float_digits": "-10",
    "quote_all_identifiers": "on",
    "transform_null_equals": "on",
    "array_nulls": "off",
    "row_security": "on",
    "default_transaction_isolation": "serializable",
    "lock_timeout": "1s",
    "statement_timeout": "3s",
    "idle_session_timeout": "2s",
    "synchronous_commit": "off",
}

ENVIRONMENT = {
    "PGCLIENTENCODING": "WIN1251",
    "PGDATESTYLE": "SQL, DMY",
    "PGTZ": "America/St_Johns",
    "PGOPTIONS": "-c intervalstyle=iso_8601 -c search_path=pg_temp -c exit_on_error=on",
}


def set_defaults(url: str, defaults: dict[str, str]) -> None:
    """Set defaults of the role in this database only, so that they are dropped with the database."""
    with psycopg.connect(url, autocommit=True) as connection:
        for name, value in defaults.items():
            value_list = [sql.Literal(part.strip()) for part in value.split(",")]
            connection.execute(
                sql.SQL("ALTER ROLE {} IN DATABASE {} SET {} = {}").format(
                    sql.Identifier(connection.info.user),
                    sql.Identifier(connection.info.dbname),
                    sql.Identifier(name),
                    sql.SQL(", ").join(value_list) if name == "search_path" else sql.Literal(value),
                )
            )
