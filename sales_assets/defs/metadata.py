"""Rules for the metadata of all assets: owner, group, kinds, tags, freshness, table, columns and their lineage.

`sales_assets.definitions` applies the rules. Key, dependencies, partitions and description of an asset are in its
module, the columns in `column_schemas` and `column_lineage`.
"""

import datetime as dt
from typing import Any

import dagster as dg

from sales_assets.defs.column_lineage import COLUMN_LINEAGE
from sales_assets.defs.column_schemas import COLUMNS
from sales_assets.defs.sources.report_api import REPORT_API
from sales_assets.partitions import DAYS, ORDER_DAYS

OWNERS = ["team:sales"]
# Yesterday's increment arrives today; an asset not loaded for two days is stale. Dagster judges an asset by its
# last materialization, of any partition: a reload of an old day makes it fresh too.
DAILY = dg.FreshnessPolicy.time_window(fail_window=dt.timedelta(hours=48), warn_window=dt.timedelta(hours=30))
_PARTITION_COLUMNS = {"date_id", "period_id"}
_KINDS = {"raw": {"csv"}, "lake": {"iceberg", "table"}, "reports": {"html"}}
# Assets without columns.
_NO_TABLES = {REPORT_API, dg.AssetKey(["reports", "sales_overview"])}

# Columns that identify a person. Ids of customers and clients do so only together with the tables of these columns.
PERSONAL_COLUMNS = frozenset({"first_name", "last_name", "phone"})


def with_metadata(definitions: dg.Definitions) -> dg.Definitions:
    """Apply the rules to every asset of the definitions."""
    # Not `Definitions.map_asset_specs`: it is a preview, and an asset is listed once for each module that imports it.
    # Mapped one by one, these entries would become different objects, which Dagster rejects as duplicate keys.
    assets: Any = {id(asset): asset for asset in definitions.assets or ()}.values()
    return dg.Definitions(
        assets=dg.map_asset_specs(described, assets),
        asset_checks=definitions.asset_checks,
        jobs=definitions.jobs,
        sensors=definitions.sensors,
        schedules=definitions.schedules,
        resources=definitions.resources,
        executor=definitions.executor,
        loggers=definitions.loggers,
        metadata=definitions.metadata,
        component_tree=definitions.component_tree,
    )


def described(spec: dg.AssetSpec) -> dg.AssetSpec:
    """Apply the rules to one asset. Its table is named like its key, unless its metadata has `dagster/table_name`."""
    group, *name = spec.key.path
    table = str(spec.metadata.get("dagster/table_name", ".".join(name if group == "sources" else spec.key.path)))
    columns = [] if spec.key in _NO_TABLES else COLUMNS[table].columns
    kinds = {"api"} if spec.key == REPORT_API else _KINDS.get(group, {"postgres", "table"})
    is_personal = any(column.name in PERSONAL_COLUMNS for column in columns)
    freshness = DAILY if _moves_daily(spec) else None
    return spec.replace_attributes(group_name=group, freshness_policy=freshness).merge_attributes(
        owners=OWNERS,
        kinds=kinds,
        tags={"cadence": _cadence(spec), **({"pii": "true"} if is_personal else {})},
        metadata=_metadata(spec, table),
    )


def _metadata(spec: dg.AssetSpec, table: str) -> dict[str, Any]:
    if spec.key in _NO_TABLES:
        return {}
    metadata: dict[str, Any] = {"dagster/column_schema": COLUMNS[table]}
    if spec.key in COLUMN_LINEAGE:
        metadata["dagster/column_lineage"] = COLUMN_LINEAGE[spec.key]
    if spec.key.path[0] != "raw":
        metadata["dagster/table_name"] = table
        partition_columns = sorted(_PARTITION_COLUMNS.intersection(column.name for column in COLUMNS[table].columns))
        if spec.partitions_def and partition_columns:
            (metadata["dagster/partition_expr"],) = partition_columns
    return metadata


def _moves_daily(spec: dg.AssetSpec) -> bool:
    """Return whether daily increments change the asset. Report files, orders and mailings have no fixed schedule."""
    return (
        spec.partitions_def == DAYS
        or spec.key.path[0] in ("lake", "reports")
        or (spec.key.path[0] == "mart" and spec.partitions_def != ORDER_DAYS)
    )


def _cadence(spec: dg.AssetSpec) -> str:
    """Return the period of a partition, or `on_change` for an asset without partitions."""
    if isinstance(spec.partitions_def, dg.WeeklyPartitionsDefinition):
        return "weekly"
    return "daily" if spec.partitions_def else "on_change"
