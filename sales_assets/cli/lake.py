"""`sales-assets lake`: print how other engines read the lake."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import typer

app = typer.Typer(help="Read the Iceberg copy of the sales from other engines.", no_args_is_help=True)

_SPARK_VERSIONS = "org.apache.iceberg:iceberg-spark-runtime-3.5_2.12:1.10.1,org.postgresql:postgresql:42.7.7"


class Engine(StrEnum):
    """Engine that reads the lake."""

    DUCKDB = "duckdb"
    SPARK = "spark"
    TRINO = "trino"
    CLICKHOUSE = "clickhouse"


class LakeMissingError(Exception):
    """The lake is not configured or has no table; the message contains the remedy."""


@app.command("url")
def lake_url_command(
    engine: Annotated[Engine | None, typer.Option("--engine", help="Print only the snippet for this engine.")] = None,
) -> None:
    """Print how DuckDB, Spark, Trino and ClickHouse read the lake.

    Spark and Trino read the catalog in the warehouse. DuckDB and ClickHouse get the location of the table's current
    metadata, which changes with each commit: print it again for new data. No password is printed; the engines take it
    from WAREHOUSE_PASSWORD.
    """
    from sales_assets.connection_strings import parse
    from sales_assets.postgres.warehouse import Warehouse
    from sales_assets.settings import settings

    location = settings().lake_url
    if not location:
        raise LakeMissingError(
            "LAKE_URL is not set, so there is no lake: set it in the environment or .env, then `sales-assets migrate`"
        )
    warehouse = Warehouse()
    found = {row["table_name"]: row["metadata_location"] for row in warehouse.rows("lake/session", "locations")}
    if "f_sales" not in found:
        raise LakeMissingError(
            "the lake has no table yet: materialize the asset lake/f_sales in the UI of `sales-assets dev`"
        )
    shown = snippets(location, found["f_sales"], parse(warehouse.url()))
    print("\n\n".join(text for name, text in shown.items() if engine in (None, name)))  # noqa: T201  rich would wrap it


def snippets(location: str, metadata: str, parameters: Mapping[str, str]) -> dict[Engine, str]:
    """Return the statements, command or configuration for each engine.

    metadata: location of the current metadata of f_sales.
    parameters: libpq's, of the warehouse.
    """
    return {
        Engine.DUCKDB: _duckdb(metadata),
        Engine.SPARK: _spark(location, parameters),
        Engine.TRINO: _trino(location, parameters),
        Engine.CLICKHOUSE: _clickhouse(f"{location}/f_sales", metadata),
    }


def _duckdb(metadata: str) -> str:
    remote = [] if metadata.startswith("file://") else ["INSTALL httpfs; LOAD httpfs;", *_secret(metadata)]
    table = f"iceberg_scan('{_quoted(_local(metadata))}')"
    query = f"FROM {table} AS f SELECT day, sum(amount) GROUP BY day ORDER BY day;"
    return "\n".join(["-- DuckDB", "INSTALL iceberg; LOAD iceberg;", *remote, query])


def _secret(metadata: str) -> list[str]:
    kinds = {"s3": "s3", "s3a": "s3", "abfs": "azure", "abfss": "azure"}
    kind = kinds.get(metadata.partition("://")[0])
    return (
        [f"-- credentials of the environment\nCREATE SECRET (TYPE {kind}, PROVIDER credential_chain);"] if kind else []
    )


def _clickhouse(folder: str, metadata: str) -> str:
    scheme, _, rest = folder.partition("://")
    current = f"SETTINGS iceberg_metadata_file_path = '{_quoted(metadata.removeprefix(f'{folder}/'))}'"
    if scheme in ("abfs", "abfss"):
        container, _, path = rest.partition("/")
        place = f"'<connection string>', '{_quoted(container.partition('@')[0])}', '{_quoted(path)}'"
        table = f"icebergAzure({place}, {current})"
    else:
        table = f"{'icebergLocal' if scheme == 'file' else 'icebergS3'}('{_quoted(_local(folder))}', {current})"
    note = " (the folder must be below its user_files_path)" if scheme == "file" else ""
    return f"-- ClickHouse{note}\nFROM {table} AS f SELECT day, sum(amount) GROUP BY day ORDER BY day;"


def _spark(location: str, parameters: Mapping[str, str]) -> str:
    options = {
        "": "org.apache.iceberg.spark.SparkCatalog",
        ".type": "jdbc",
        ".uri": _jdbc(parameters),
        ".jdbc.user": parameters.get("user", ""),
        ".jdbc.password": "$WAREHOUSE_PASSWORD",
        ".jdbc.schema-version": "V1",
        ".warehouse": location,
    }
    lines = [f'  --conf "spark.sql.catalog.sales_assets{name}={value}"' for name, value in options.items()]
    query = '  -e "SELECT day, sum(amount) FROM sales_assets.lake.f_sales GROUP BY day ORDER BY day"'
    command = f"spark-sql --packages {_SPARK_VERSIONS}"
    return "# Spark\n" + " \\\n".join([command, *lines, query])


def _trino(location: str, parameters: Mapping[str, str]) -> str:
    systems = {"s3": "fs.native-s3", "s3a": "fs.native-s3", "gs": "fs.native-gcs", "file": "fs.hadoop"}
    properties = {
        "connector.name": "iceberg",
        "iceberg.catalog.type": "jdbc",
        "iceberg.jdbc-catalog.catalog-name": "sales_assets",
        "iceberg.jdbc-catalog.driver-class": "org.postgresql.Driver",
        "iceberg.jdbc-catalog.connection-url": _jdbc(parameters),
        "iceberg.jdbc-catalog.connection-user": parameters.get("user", ""),
        "iceberg.jdbc-catalog.connection-password": "${ENV:WAREHOUSE_PASSWORD}",
        "iceberg.jdbc-catalog.schema-version": "V1",
        "iceberg.jdbc-catalog.default-warehouse-dir": location,
        f"{systems.get(location.partition('://')[0], 'fs.native-azure')}.enabled": "true",
    }
    lines = [f"{name}={value}" for name, value in properties.items()]
    query = "# SELECT day, sum(amount) FROM sales_assets.lake.f_sales GROUP BY day ORDER BY day;"
    return "\n".join(["# Trino: etc/catalog/sales_assets.properties", *lines, query])


def _jdbc(parameters: Mapping[str, str]) -> str:
    """Return the JDBC URL of the catalog. JDBC does not support Unix sockets, so it can't reach the embedded server."""
    host = parameters.get("host", "localhost")
    if host.startswith("/"):
        host = "<host: the embedded server listens on a Unix socket only, set WAREHOUSE_URL>"
    return (
        f"jdbc:postgresql://{host}:{parameters.get('port', '5432')}/{parameters.get('dbname', '')}?currentSchema=lake"
    )


def _local(location: str) -> str:
    """Return the path of a local file; other locations are unchanged."""
    return location.removeprefix("file://")


def _quoted(text: str) -> str:
    return text.replace("'", "''")
