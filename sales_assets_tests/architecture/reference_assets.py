"""The pages ``tables.md`` and ``assets.md`` of ``docs/reference/``, generated from the Dagster definitions.

Tables without an asset are described by the comments of the warehouse's catalog.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, LiteralString

import dagster as dg
import psycopg
from psycopg.rows import dict_row

from sales_assets.definitions import defs
from sales_assets.defs.column_schemas import COLUMNS
from sales_assets.defs.metadata import PERSONAL_COLUMNS
from sales_assets.schemas.report_files import REPORT_FILES

_TABLES_HEADER = """\
# Tables

Every table and view of the warehouse with its columns. Those with an asset are described by the definitions that the
Dagster UI shows, the others by comments that the database has too (`\\d+ staging.quarantine` in `psql`). `pii` marks
columns that name or reach a person. [Assets and automation](assets.md) says how the tables follow from each other,
[day-rules.md](../data-contracts/day-rules.md) which lines they contain, and
[access control](../guides/access-control.md) who may read them.
"""

_ASSETS_HEADER = """\
# Assets and automation

An asset is named as its table: the asset `mart/f_sales` fills the table `mart.f_sales`. Days are partitions; a range of
them is loaded in one run.
"""

# In the order of interest to readers. `sources` are tables that services write, described under their schema.
_SCHEMAS = {
    "mart": "What analysts read: facts and dimensions.",
    "staging": "Typed rows of the report files and of partner orders, each line once; rejected rows and their"
    " resolutions; and what is known of files, days and names.",
    "raw": "Files as the report API delivers them, stored as files, columns as in the file. `raw/..._inc` is an"
    " increment, of one day; the columns are the same. `delivery`, `fetch` and `file_delivery` are tables about them.",
    "orders": "Tables of the partner orders service.",
    "mailings": "Tables of the mailings service, and those that assets write for it.",
    "lake": "The copy of the sales in Iceberg, and the tables of its catalog. The assets exist where `LAKE_URL` is set,"
    " see [Read the sales from other engines](../guides/lake.md).",
    "ops": "Revision of the schema, what a downgrade needs, and the audit trail of the admin pages.",
}
# Rejected rows are whole lines of files; `first` and `second` contain the names of customers.
_PERSONAL = PERSONAL_COLUMNS | {"line_text", "corrected_text", "client_phone", "first", "second"}
_GROUPS = ("sources", "raw", "staging", "mart", "mailings", "reports")


# Tables and views, each with its comment, its key and its columns: [{name, type, meaning}].
_CATALOG: LiteralString = """
    SELECT n.nspname || '.' || c.relname AS name, c.relkind = 'v' AS is_view,
           obj_description(c.oid, 'pg_class') AS meaning,
           (SELECT pg_get_constraintdef(k.oid) FROM pg_constraint AS k
            WHERE k.conrelid = c.oid AND k.contype = 'p') AS key,
           jsonb_agg(jsonb_build_object('name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
                                        'meaning', col_description(c.oid, a.attnum)) ORDER BY a.attnum) AS columns
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relkind IN ('r', 'p', 'v') AND n.nspname = ANY (%s)
    GROUP BY n.nspname, c.oid, c.relname, c.relkind
"""


def tables_without_asset(warehouse_url: str) -> list[dict[str, Any]]:
    """Read the tables and views of a migrated warehouse that no asset describes."""
    with psycopg.connect(warehouse_url, row_factory=dict_row) as connection:
        found = connection.execute(_CATALOG, [list(_SCHEMAS)]).fetchall()
    return [row for row in found if row["name"] not in COLUMNS]


def undescribed(tables: Iterable[dict[str, Any]]) -> list[str]:
    """Return the tables and columns without a comment."""
    return [
        *(table["name"] for table in tables if not table["meaning"]),
        *(f"{table['name']}.{one['name']}" for table in tables for one in table["columns"] if not one["meaning"]),
    ]


def tables_page(others: Sequence[dict[str, Any]]) -> str:
    """Return every table with meaning, key, partitions, upstream assets, checks and columns.

    others: tables that no asset describes.
    """
    parts = [_TABLES_HEADER]
    other = {table["name"]: table for table in others}
    for schema, meaning in _SCHEMAS.items():
        parts.append(f"\n## {schema}\n\n{meaning}\n")
        names = {name.removesuffix("_inc") for name in COLUMNS} | other.keys()
        for name in sorted(name for name in names if name.startswith(f"{schema}.")):
            parts += _other_table(other[name]) if name in other else _table(name)
    return "".join(parts)


def _other_table(table: dict[str, Any]) -> Iterator[str]:
    """Yield the section of a table or view without an asset."""
    yield f"\n### {table['name']}\n\n{'View. ' if table['is_view'] else ''}{table['meaning']}\n\n"
    if table["key"]:
        yield f"- **key**: {table['key'].removeprefix('PRIMARY KEY ')}\n\n"
    yield "\n".join(_columns((one["name"], one["type"], one["meaning"]) for one in table["columns"]))


def assets_page() -> str:
    """Return the lineage as a diagram, and tables of assets, checks, jobs and automation."""
    definitions = defs()
    graph = definitions.resolve_asset_graph()
    assets = ((_link(spec), _partitions(spec), _names(dep.asset_key for dep in spec.deps)) for spec in _specs())
    checks = ((f"`{key.name}`", f"`{_name(key.asset_key)}`", graph.get(key).description) for key in _check_keys())
    jobs = [job for job in definitions.resolve_all_job_defs() if not job.name.startswith("__")]
    sensors = (
        (
            f"`{sensor.name}`",
            _started_by(sensor, graph),
            f"every {sensor.minimum_interval_seconds} s",
            _default(sensor.default_status.value),
            _first_line(sensor),
        )
        for sensor in sorted(definitions.sensors or (), key=lambda sensor: sensor.name)
    )
    schedules = (
        (
            f"`{schedule.name}`",
            f"`{schedule.job_name}`",
            f"`{schedule.cron_schedule}` {schedule.execution_timezone}",
            _default(schedule.default_status.value),
            _first_line(schedule),
        )
        for schedule in definitions.schedules or ()
        if isinstance(schedule, dg.ScheduleDefinition)
    )
    return "\n".join(
        [
            _ASSETS_HEADER,
            "## Lineage\n",
            _lineage(),
            "## Assets\n",
            *_rows(("asset", "partitions", "from"), assets),
            "## Checks\n",
            "No check blocks: rows are compared before the commit, and a check reports what was changed afterwards.\n",
            *_rows(("check", "asset", "passes if"), checks),
            "## Jobs\n",
            *_rows(("job", "what it does"), ((f"`{job.name}`", job.description) for job in jobs)),
            "## Sensors and schedules\n",
            "All are switched on and off in the UI, under *Automation*.\n",
            *_rows(("name", "starts", "when", "default", "what it does"), (*sensors, *sorted(schedules))),
        ]
    )


def _started_by(sensor: dg.SensorDefinition, graph: Any) -> str:
    """Return the jobs of a sensor, or the assets it refreshes by their conditions."""
    if isinstance(sensor, dg.AutomationConditionSensorDefinition):
        return _codes(map(_name, sensor.asset_selection.resolve(graph)))
    return _codes(job.name for job in sensor.jobs)


def _specs() -> list[dg.AssetSpec]:
    specs = defs().resolve_all_asset_specs()
    return sorted(specs, key=lambda spec: (_GROUPS.index(spec.key.path[0]), spec.key.path))


def _table(table: str) -> Iterator[str]:
    """Yield the section of a table: its assets and columns. Tables of the lake have no asset here."""
    schema = COLUMNS[table]
    yield f"\n### {table}\n"
    specs = [spec for spec in _specs() if _table_of(spec) == table]
    keys = {spec.key for spec in specs}
    if specs:
        facts = {
            "assets": _names(keys),
            "key": ", ".join(_key(table, schema)),
            "partitions": ", ".join(sorted({_partitions(spec) for spec in specs if spec.partitions_def})),
            "from": _names({dep.asset_key for spec in specs for dep in spec.deps}),
            "owner": ", ".join(sorted({owner for spec in specs for owner in spec.owners})),
            "pii": "names or reaches a person" if any(spec.tags.get("pii") == "true" for spec in specs) else "",
            "checks": _codes(key.name for key in _check_keys() if key.asset_key in keys),
        }
        yield f"\n{specs[0].description}\n\n"
        yield from (f"- **{name}**: {value}\n" for name, value in facts.items() if value)
    yield "\n" + "\n".join(_columns((one.name, one.type, one.description) for one in schema.columns))


def _columns(columns: Iterable[tuple[str, str, str | None]]) -> Iterator[str]:
    rows = ((f"`{name}`", kind, "pii" if name in _PERSONAL else "", meaning) for name, kind, meaning in columns)
    return _rows(("column", "type", "", "meaning"), rows)


def _key(table: str, schema: dg.TableSchema) -> Iterator[str]:
    group, _, name = table.partition(".")
    if group == "staging" and name in REPORT_FILES:
        file = REPORT_FILES[name]
        columns = file.key if file.is_dated else ("date_id", *file.key)
        yield f"({', '.join(columns)}), checked while a file is parsed"
    elif schema.constraints:
        yield from (key.removeprefix("PRIMARY KEY ") for key in schema.constraints.other)


def _lineage() -> str:
    """Return a diagram of the assets. A file of the report and the same file of the increments share one box."""
    specs = _specs()
    lines = ["```mermaid", "flowchart LR"]
    for group in _GROUPS:
        names = sorted({_box(spec.key) for spec in specs if spec.key.path[0] == group})
        lines += [
            f'    subgraph {group}_ ["{group}"]',
            *(f'        {_id(name)}["{name}"]' for name in names),
            "    end",
        ]
    edges = {(_box(dep.asset_key), _box(spec.key)) for spec in specs for dep in spec.deps}
    return "\n".join([*lines, *(f"    {_id(start)} --> {_id(end)}" for start, end in sorted(edges)), "```", ""])


def _box(key: dg.AssetKey) -> str:
    return _name(key).removeprefix("sources/").removesuffix("_inc")


def _id(name: str) -> str:
    return name.replace("/", "_")


def _table_of(spec: dg.AssetSpec) -> str:
    """Return the table of an asset. For a raw file, `raw.user_orders_log` stands for reports and increments."""
    name = str(spec.metadata.get("dagster/table_name", ".".join(spec.key.path)))
    return name.removesuffix("_inc") if spec.key.path[0] == "raw" else name


def _check_keys() -> list[dg.AssetCheckKey]:
    keys = defs().resolve_asset_graph().asset_check_keys
    return sorted(keys, key=lambda key: (_GROUPS.index(key.asset_key.path[0]), key.asset_key.path, key.name))


def _link(spec: dg.AssetSpec) -> str:
    table = _table_of(spec)
    name = f"`{_name(spec.key)}`"
    return f"[{name}](tables.md#{table.replace('.', '')})" if table in COLUMNS else name


def _partitions(spec: dg.AssetSpec) -> str:
    if isinstance(spec.partitions_def, dg.WeeklyPartitionsDefinition):
        return "by week"
    return "by day" if spec.partitions_def else ""


def _default(status: str) -> str:
    return "on" if status == "RUNNING" else "off"


def _first_line(definition: dg.SensorDefinition | dg.ScheduleDefinition) -> str:
    """Return the first paragraph of the description of a sensor or schedule."""
    return (definition.description or "").partition("\n\n")[0]


def _name(key: dg.AssetKey) -> str:
    return key.to_user_string()


def _names(keys: Iterable[dg.AssetKey]) -> str:
    return _codes(map(_name, keys))


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def _rows(header: tuple[str, ...], rows: Iterable[tuple[str | None, ...]]) -> Iterator[str]:
    """Yield a Markdown table, followed by an empty line."""
    yield "| " + " | ".join(header) + " |"
    yield "|" + " --- |" * len(header)
    for row in rows:
        yield "| " + " | ".join(cell(value or "") for value in row) + " |"
    yield ""


def cell(text: str) -> str:
    """Escape a text for a table cell."""
    return " ".join(text.split()).replace("|", r"\|")
