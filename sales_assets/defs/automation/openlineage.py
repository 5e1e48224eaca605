"""Sensor that sends OpenLineage events by the community integration; defined only if OPENLINEAGE_URL is set."""

import logging
import os
from collections.abc import Iterator
from typing import Any

import dagster as dg

from sales_assets.dagster_internals import upstream_assets
from sales_assets.defs.column_lineage import COLUMN_LINEAGE
from sales_assets.defs.column_schemas import COLUMNS
from sales_assets.settings import SettingsError, definition_settings

# A tick sends its events one after the other and may take a minute; the integration waits two seconds for each.
_EVENTS_PER_TICK = 25
_EVENT_SECONDS = 2
_SECONDS_BETWEEN_TICKS = 10


@dg.definitions
def openlineage() -> dg.Definitions:
    """Declare the sensor if OPENLINEAGE_URL is set."""
    settings = definition_settings()
    if not settings.openlineage_url:
        return dg.Definitions()
    # The integration reads the environment, when it is imported; the settings may come from a file.
    os.environ.setdefault("OPENLINEAGE_URL", settings.openlineage_url)
    os.environ.setdefault("OPENLINEAGE_NAMESPACE", "sales_assets")
    if key := settings.openlineage_api_key.get_secret_value():
        os.environ.setdefault("OPENLINEAGE_API_KEY", key)
    try:
        from dagster_openlineage import openlineage_sensor
        from dagster_openlineage import sensor as integration
    except ModuleNotFoundError as error:
        raise SettingsError(
            "OPENLINEAGE_URL needs the extra [openlineage] (pip install '.[openlineage]'): "
            f"{error.name} is not installed"
        ) from None
    # At each start the integration warns about a second mechanism, which the platform does not use.
    logging.getLogger("dagster_openlineage.sensor").setLevel(logging.ERROR)
    integration._ADAPTER = adapter = _adapter()
    send = openlineage_sensor(record_filter_limit=_EVENTS_PER_TICK, include_asset_events=True)

    @dg.sensor(
        name="openlineage",
        description="Send the events of runs, assets and checks to the OpenLineage receiver of OPENLINEAGE_URL.\n\n"
        "Starts with the oldest event that Dagster still has. While the receiver can't be reached, events are dropped, "
        "and nothing else is affected.",
        minimum_interval_seconds=_SECONDS_BETWEEN_TICKS,
    )
    def sensor(context: dg.SensorEvaluationContext) -> Iterator[dg.SkipReason]:
        adapter.repository = context.repository_def
        yield from send(context)

    return dg.Definitions(sensors=[sensor])


def _adapter() -> Any:
    """Return an adapter of the integration that also sends the declared columns, their lineage and the upstream assets.

    The adapter reads upstream assets from its attribute `repository`, which each tick sets.

    The integration itself reads columns, lineage and upstream assets from materializations, where they would be stored
    again for each day. It has no parameter for an adapter, so its version is pinned, and a test checks the sent events.
    """
    from dagster_openlineage import OpenLineageAdapter
    from dagster_openlineage.emitter import OpenLineageEmitter
    from openlineage.client import OpenLineageClient
    from openlineage.client.transport.http import ApiKeyTokenProvider, HttpConfig, HttpTransport

    class WithDeclaredColumns(OpenLineageAdapter):  # type: ignore[misc,unused-ignore]
        repository: dg.RepositoryDefinition | None = None

        def asset_materialization(
            self, asset_key: dg.AssetKey, *event: Any, metadata: dict[str, Any] | None = None, **options: Any
        ) -> None:
            super().asset_materialization(
                asset_key,
                *event,
                metadata=_declared(asset_key) | (metadata or {}),
                upstream_asset_keys=upstream_assets(self.repository, asset_key) if self.repository else (),
                **options,
            )

    settings = definition_settings()
    key = settings.openlineage_api_key.get_secret_value()
    auth = {"auth": ApiKeyTokenProvider({"apiKey": key})} if key else {}
    # The adapter's own client repeats each event five times, 9 s for one that is refused: no tick would end in time.
    config = HttpConfig(url=settings.openlineage_url, timeout=_EVENT_SECONDS, retry={"total": 0}, **auth)
    client = OpenLineageClient(transport=HttpTransport(config))
    return WithDeclaredColumns(emitter=OpenLineageEmitter(client=client))


def _declared(asset_key: dg.AssetKey) -> dict[str, Any]:
    declared: dict[str, Any] = {}
    table = ".".join(asset_key.path)
    if table in COLUMNS:
        declared["dagster/column_schema"] = dg.MetadataValue.table_schema(COLUMNS[table])
    if lineage := COLUMN_LINEAGE.get(asset_key):
        declared["dagster/column_lineage"] = dg.MetadataValue.column_lineage(lineage)
    return declared
