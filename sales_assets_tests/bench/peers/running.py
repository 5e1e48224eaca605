"""The peers as commands on order files and an empty database, and the comparison of their mart with ours."""

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import psycopg

from sales_assets.connection_strings import parse
from sales_assets_tests.bench.measuring import run
from sales_assets_tests.bench.peers.environment import environment

# Runs the work and returns the peak memory in megabytes.
Peer = Callable[[Sequence[Path], str, Path], float]

_HERE = Path(__file__).parent
_CONTENTS = (
    # Includes a checksum of the keys: a day may have the same totals with other customers.
    """SELECT date_id, status, count(*), sum(quantity), sum(amount),
              sum(hashtextextended(format('%s %s %s', item_id, customer_id, city_id), 0)::numeric)
       FROM mart.f_sales GROUP BY date_id, status ORDER BY date_id, status""",
    "SELECT city_id, city_name FROM mart.d_city ORDER BY 1",
    "SELECT customer_id, first_name, last_name FROM mart.d_customer ORDER BY 1",
    "SELECT item_id, item_name FROM mart.d_item ORDER BY 1",
)


def dlt_and_dbt(files: Sequence[Path], url: str, folder: Path) -> float:
    """Run dlt, then dbt.

    Raises:
        NoEnvironmentError: dlt and dbt are not installed, and can't be.
    """
    # Start without state: dlt would continue from its memory of a dropped database.
    shutil.rmtree(folder / "dlt", ignore_errors=True)
    variables = _server(url) | {"DLT_DATA_DIR": str(folder / "dlt"), "RUNTIME__DLTHUB_TELEMETRY": "false"}
    load = [str(environment() / "python"), str(_HERE / "extract_load.py"), str(folder / "dlt"), *map(str, files)]
    return max(run(load, variables), _dbt("build", url, folder))


def parse_project(url: str, folder: Path) -> None:
    """Let dbt parse its project, and cache the result below `folder` for later runs on the same server.

    Raises:
        NoEnvironmentError: dbt is not installed, and can't be.
    """
    _dbt("parse", url, folder)


def _dbt(command: str, url: str, folder: Path) -> float:
    project = str(_HERE / "dbt")
    options = ["--project-dir", project, "--profiles-dir", project]
    options += ["--target-path", str(folder / "dbt"), "--log-path", str(folder / "dbt")]
    variables = _server(url) | {"DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
    return run([str(environment() / "dbt"), command, *options], variables)


def pandas(files: Sequence[Path], url: str, folder: Path) -> float:
    """Run the pandas job, in the environment of the project."""
    return run([sys.executable, "-m", f"{__package__}.with_pandas", *map(str, files)], _server(url))


def contents(url: str) -> list[list[tuple[object, ...]]]:
    """Return the contents that must be equal in two marts of the same files: sales by day and status, and all names."""
    with psycopg.connect(url) as connection:
        return [connection.execute(statement).fetchall() for statement in _CONTENTS]


def _server(url: str) -> dict[str, str]:
    """Return libpq's variables for a database, which all peers support."""
    server = parse(url)
    return {
        "PGHOST": server["host"],
        "PGPORT": server["port"],
        "PGUSER": server["user"],
        "PGDATABASE": server["dbname"],
        "PGHOSTADDR": "",
    }
