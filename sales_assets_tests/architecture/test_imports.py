"""Import rules: schemas <- postgres <- resources <- pipeline <- defs, and schemas, postgres <- services.

The command line is the only part that may import everything. Nothing imports the simulators and the demo, except that
the demo imports the simulators.
"""

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sales_assets_tests.architecture.modules import PACKAGE, TESTS, modules, undocumented

EVERYTHING = {
    "backoff", "connection_strings", "dagster_internals", "definitions", "defs", "demo", "deploy", "failures", "fsync",
    "partitions", "pipeline", "postgres", "reports", "resources", "schemas", "scrubbing", "services",
    "settings", "simulators",
}  # fmt: skip

# The other parts that each part may import. Assets and services exchange data by tables, and never import each other.
MAY_IMPORT: dict[str, set[str]] = {
    "__init__": set(),
    "backoff": set(),
    "connection_strings": set(),
    "fsync": set(),
    "dagster_internals": set(),
    "scrubbing": set(),
    "settings": {"connection_strings", "scrubbing"},
    "failures": {"postgres", "scrubbing", "settings"},
    "schemas": set(),
    "partitions": {"settings"},
    "postgres": {"connection_strings", "fsync", "schemas", "settings"},
    "resources": {"fsync", "postgres", "schemas", "scrubbing", "settings"},
    "pipeline": {"postgres", "resources", "schemas"},
    "reports": {"fsync", "postgres", "schemas"},
    "defs": {
        *("backoff", "dagster_internals", "partitions", "pipeline", "postgres", "reports", "resources", "schemas"),
        "scrubbing",
        "settings",
    },
    "definitions": {"defs"},
    "services": {"backoff", "postgres", "schemas", "settings"},
    "simulators": {"services"},
    "deploy": {"connection_strings", "dagster_internals", "fsync", "pipeline", "postgres", "resources", "settings"},
    "demo": {
        "dagster_internals",
        "definitions",
        "deploy",
        "partitions",
        "pipeline",
        "postgres",
        "schemas",
        "services",
        "settings",
        "simulators",
    },
    "cli": EVERYTHING,
}

# Data contracts are pure: these libraries open, request or start something.
IO_MODULES = {
    "aiohttp", "aio_pika", "asyncio", "dagster", "fastapi", "fsspec", "http", "os", "pathlib", "psycopg", "requests",
    "shutil", "socket", "sqlalchemy", "starlette", "subprocess", "tempfile", "threading", "time", "urllib", "uvicorn",
}  # fmt: skip

# No other module accesses the environment. Most of these modules pass it on to processes that they start.
ENVIRONMENT = {
    "settings.py", "deploy/instance.py", "deploy/storage.py", "postgres/embedded/postgres.py", "demo/platform.py",
    "postgres/dump.py",  # passes the password to pg_dump
    "defs/automation/openlineage.py",  # the integration reads no settings file
    "demo/celery_processes.py",
    "services/http/workers.py",  # tells prometheus_client the folder of the metrics that processes share
    "reports/charts.py",  # tells Matplotlib the folder of its cache
    "scrubbing.py",  # removes secrets from messages, also those in the environment
}  # fmt: skip

# All other statements are files in sql/. These concern the server, its locks and databases, or, in the doctor, are used
# nowhere else.
STATEMENTS = {
    "postgres/embedded/postgres.py", "postgres/warehouse.py", "postgres/migrations.py", "cli/doctor.py",
    "postgres/dump.py",  # counts the rows of tables by their names
    "deploy/backup.py",  # contains the names of roles to create
    "defs/reader_contract.py",  # the rules of the contract are queries that readers run
}  # fmt: skip
INTERNALS = re.compile(r"^\s*(from|import) dagster(_\w+)?\._", re.MULTILINE)
STATEMENT = re.compile(
    r"\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|CREATE|ALTER|DROP|COPY|TRUNCATE|WITH \w+ AS|LOCK TABLE)\s"
)


def test_imports_follow_the_rules() -> None:
    against = {module.name: module.parts_imported() - MAY_IMPORT[module.part] for module in modules()}
    assert {name: parts for name, parts in against.items() if parts} == {}


def test_no_two_parts_import_each_other() -> None:
    graphlib.TopologicalSorter(MAY_IMPORT).prepare()  # raises CycleError


def test_services_and_simulators_share_http_and_nothing_else() -> None:
    """Services don't import each other, and simulators don't import the services that call them."""
    against: dict[str, set[str]] = {}
    for module in modules():
        if module.part in ("services", "simulators"):
            imported = {name.split(".")[2] for name in module.imports() if name.startswith("sales_assets.services.")}
            against[module.name] = imported - {"http", module.name.split("/")[1]}
    assert {name: services for name, services in against.items() if services} == {}


def test_only_dagster_specific_parts_import_dagster() -> None:
    importing = {module.part for module in modules() if "dagster" in module.libraries_imported()}
    assert importing == {"cli", "dagster_internals", "definitions", "defs", "demo", "deploy", "partitions"}


def test_internals_of_dagster_are_imported_in_one_place() -> None:
    """The tests don't import internals of Dagster either."""
    importing = {path for path in (*PACKAGE.rglob("*.py"), *TESTS.rglob("*.py")) if INTERNALS.search(path.read_text())}
    assert importing == {PACKAGE / "dagster_internals.py"}


@pytest.mark.external
def test_the_loading_engine_runs_without_dagster() -> None:
    """Dagster is not even imported indirectly: a notebook that loads days doesn't need it."""
    loaded = "import sys, sales_assets.pipeline.load; print('dagster' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_schemas_are_pure() -> None:
    doors = {module.name: module.libraries_imported() & IO_MODULES for module in modules() if module.part == "schemas"}
    assert {name: libraries for name, libraries in doors.items() if libraries} == {}


def test_the_environment_is_read_in_one_place() -> None:
    touching = {
        module.name
        for module in modules()
        if any(node.attr in ("environ", "environb", "getenv") for node in module.nodes(ast.Attribute))
        or any(name in ("os.environ", "os.getenv") for name in module.imports())
    }
    assert touching <= ENVIRONMENT


def test_sql_statements_are_files_in_sql() -> None:
    speaking = {
        module.name
        for module in modules()
        if any(isinstance(node.value, str) and STATEMENT.match(node.value) for node in module.nodes(ast.Constant))
    }
    assert speaking <= STATEMENTS


def test_connections_to_postgresql_are_opened_in_one_place() -> None:
    drivers = ("psycopg", "psycopg2", "asyncpg", "psycopg_pool", "pg8000")
    opening = {
        module.name
        for module in modules()
        for node in module.nodes(ast.Call)
        if (
            isinstance(node.func, ast.Attribute)
            and node.func.attr == "connect"
            and ast.unparse(node.func.value).split(".")[0] in drivers
        )
        or ast.unparse(node.func).split(".")[-1] in ("create_engine", "create_async_engine", "engine_from_config")
    }
    # The function may also be imported by its name: `from psycopg import connect`.
    importing = {
        module.name
        for module in modules()
        for node in module.nodes(ast.ImportFrom)
        if (node.module or "").split(".")[0] in drivers
        and {alias.name for alias in node.names} & {"connect", "Connection", "AsyncConnection", "ConnectionPool"}
    }
    assert opening | importing == {"postgres/connection.py", "postgres/engines.py"}


def test_connection_strings_are_parsed_in_one_place() -> None:
    parsers = {"conninfo_to_dict", "make_conninfo", "make_url", "parse_dsn", "make_dsn"}
    parsing = {
        module.name
        for module in modules()
        for node in module.nodes(ast.ImportFrom)
        if {alias.name for alias in node.names} & parsers
    }
    assert parsing == {"connection_strings.py", "postgres/connection.py"}


def test_only_the_command_line_prints() -> None:
    printing = {
        module.name
        for module in modules()
        if any(isinstance(node.func, ast.Name) and node.func.id == "print" for node in module.nodes(ast.Call))
    }
    assert {name.split("/")[0] for name in printing} == {"cli"}


@pytest.mark.parametrize("folder", [PACKAGE, TESTS], ids=["sales_assets", "sales_assets_tests"])
def test_every_file_has_a_module_docstring(folder: Path) -> None:
    assert undocumented(folder) == []
