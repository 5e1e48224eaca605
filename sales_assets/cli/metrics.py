"""`sales-assets metrics`: serve the pipeline's metrics to Prometheus."""

from typing import Annotated

import typer

from sales_assets.cli.console import out


def metrics(
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 9465,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Serve the pipeline's metrics (/metrics, /health, /ready) to Prometheus until Ctrl-C.

    Days behind, seconds since the last load, quarantine, rows per day, lock waits and the run queue, read from the
    tables: one process serves them for loads on any machine. The services have their metrics on port 8000.
    """
    from prometheus_client import CollectorRegistry

    from sales_assets.postgres.database import warehouse_url
    from sales_assets.postgres.warehouse import dagster_storage_url
    from sales_assets.services.http.application import application
    from sales_assets.services.http.logging import configure_logging
    from sales_assets.services.http.server import serve
    from sales_assets.services.pipeline_metrics import PipelineMetrics

    configure_logging()
    registry = CollectorRegistry()
    pipeline = PipelineMetrics(warehouse_url(), dagster_storage_url(), registry=registry)
    serve(
        application(pipeline, registry=registry),
        host=host,
        port=port,
        lifespan=True,
        on_ready=lambda url: out.print(f"metrics: {url}/metrics"),
    )
