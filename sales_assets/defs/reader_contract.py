"""Contract of the mart for its readers: an ODCS document and dbt's sources, made from the metadata of the assets.

ODCS is the Open Data Contract Standard (https://bitol-io.github.io/open-data-contract-standard/). Quality rules are
those that a reader can check with the mart alone; asset checks compare it with staging as well.
"""

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

import dagster as dg

from sales_assets.defs.column_schemas import COLUMNS, primary_key
from sales_assets.defs.metadata import OWNERS, PERSONAL_COLUMNS

Document = dict[str, Any]

_LOGICAL_TYPES = {
    "bigint": "integer",
    "date": "date",
    "integer": "integer",
    "numeric": "number",
    "smallint": "integer",
    "text": "string",
    "timestamp": "timestamp",
}
_REFERENCES = {
    ("mart.f_sales", "date_id"): "mart.d_calendar",
    ("mart.f_sales", "item_id"): "mart.d_item",
    ("mart.f_sales", "customer_id"): "mart.d_customer",
    ("mart.f_sales", "city_id"): "mart.d_city",
    ("mart.f_customer_retention", "item_id"): "mart.d_item",
}
_VALUES = {
    ("mart.f_sales", "status"): ["shipped", "refunded"],
    ("mart.f_sales", "source"): ["report_api", "partner_orders", "legacy"],
    ("mart.f_customer_retention", "period_name"): ["weekly"],
    ("mart.f_mailing_deliveries", "status"): ["Pending", "SENT", "FAILED", "TIMEOUT"],
}
# Rules over several columns: {table: {description: query that counts the violating rows}}.
_RULES = {
    "mart.f_sales": {
        "Refunded rows are never above zero and shipped rows never below, except rows of the legacy mart.": (
            "SELECT count(*) FROM mart.f_sales WHERE source <> 'legacy' AND (status = 'refunded' AND (amount > 0 OR "
            "quantity > 0) OR status = 'shipped' AND (amount < 0 OR quantity < 0))"
        ),
    },
}
_USAGE = (
    "SUM(amount) and SUM(quantity) of mart.f_sales are net of refunds. Days are calendar days (date_id, YYYYMMDD); a "
    "day is replaced whole, in one transaction, and a row keeps its id."
)
_LIMITATIONS = (
    "Rows of a day can change until the shop has delivered it for the last time. Columns are added at the end of a "
    "table: name columns in INSERT and avoid SELECT *."
)


def odcs(specs: Iterable[dg.AssetSpec]) -> Document:
    """Return the contract as an ODCS document."""
    tables = _tables(specs)
    return {
        "apiVersion": "v3.1.0",
        "kind": "DataContract",
        "id": "urn:sales-assets:mart",
        "name": "Sales mart",
        "version": version("sales_assets"),
        "status": "active",
        "description": {
            "purpose": "Sales and refunds of a shop, reconciled with its reports, for analysis.",
            "usage": _USAGE,
            "limitations": _LIMITATIONS,
        },
        "servers": [
            {
                "server": "warehouse",
                "type": "postgres",
                "description": "DATACONTRACT_POSTGRES_HOST, _PORT and _DATABASE override the address.",
                "host": "localhost",
                "port": 5432,
                "database": "sales",
                "schema": "mart",
            }
        ],
        "schema": [_odcs_table(table, spec) for table, spec in tables.items()],
        "slaProperties": [{"property": "frequency", "value": 1, "unit": "d", "element": "f_sales"}],
        "team": {"name": OWNERS[0].removeprefix("team:")},
    }


def dbt_sources(specs: Iterable[dg.AssetSpec]) -> Document:
    """Return dbt's properties file with the mart as a source, tests included."""
    return {
        "version": 2,
        "sources": [
            {
                "name": "mart",
                "schema": "mart",
                "description": _USAGE,
                "tables": [_dbt_table(table, spec) for table, spec in _tables(specs).items()],
            }
        ],
    }


def _tables(specs: Iterable[dg.AssetSpec]) -> Mapping[str, dg.AssetSpec]:
    """Map the tables of the contract to their assets."""
    found = {".".join(spec.key.path): spec for spec in specs}
    return {table: found[table] for table in COLUMNS if table.startswith("mart.")}


def _odcs_table(table: str, spec: dg.AssetSpec) -> Document:
    name = table.removeprefix("mart.")
    described: Document = {
        "name": name,
        "physicalName": name,
        "physicalType": "table",
        "description": spec.description,
        "properties": [_odcs_column(table, column) for column in COLUMNS[table].columns],
    }
    rules = [
        {"type": "sql", "description": meaning, "query": query, "mustBe": 0}
        for meaning, query in _RULES.get(table, {}).items()
    ]
    return described | ({"quality": rules} if rules else {})


def _odcs_column(table: str, column: dg.TableColumn) -> Document:
    key = primary_key(COLUMNS[table])
    described: Document = {
        "name": column.name,
        "logicalType": _LOGICAL_TYPES[column.type.split("(")[0].split(" ")[0]],
        "physicalType": column.type,
        "description": column.description,
        "required": not column.constraints.nullable,
    }
    if column.name in key:
        described |= {"primaryKey": True, "primaryKeyPosition": key.index(column.name) + 1}
    if column.constraints.unique:
        described["unique"] = True
    if column.name in PERSONAL_COLUMNS:
        described["classification"] = "personal"
    if (table, column.name) in _REFERENCES:
        referenced = _REFERENCES[table, column.name]
        described["relationships"] = [{"to": f"{referenced.removeprefix('mart.')}.{column.name}"}]
    if (table, column.name) in _VALUES:
        described["quality"] = [
            {
                "type": "library",
                "metric": "invalidValues",
                "arguments": {"validValues": _VALUES[table, column.name]},
                "mustBe": 0,
            }
        ]
    return described


def _dbt_table(table: str, spec: dg.AssetSpec) -> Document:
    return {
        "name": table.removeprefix("mart."),
        "description": spec.description,
        "columns": [_dbt_column(table, column) for column in COLUMNS[table].columns],
    }


def _dbt_column(table: str, column: dg.TableColumn) -> Document:
    tests: list[object] = []
    if not column.constraints.nullable:
        tests.append("not_null")
    if column.constraints.unique:
        tests.append("unique")
    if (table, column.name) in _VALUES:
        tests.append({"accepted_values": {"arguments": {"values": _VALUES[table, column.name]}}})
    if (table, column.name) in _REFERENCES:
        to = _REFERENCES[table, column.name].removeprefix("mart.")
        tests.append({"relationships": {"arguments": {"to": f"source('mart', '{to}')", "field": column.name}}})
    described: Document = {"name": column.name, "description": column.description, "data_type": column.type}
    if column.name in PERSONAL_COLUMNS:
        described["config"] = {"tags": ["pii"]}
    return described | ({"data_tests": tests} if tests else {})
