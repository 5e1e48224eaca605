"""Resources and the executor that all definitions share."""

from collections.abc import Callable

import dagster as dg

from sales_assets.pipeline.progress import Progress
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.resources.raw_files import RawFiles
from sales_assets.resources.report_api import ReportApi


def _made_per_run(client: Callable[[], object]) -> dg.ResourceDefinition:
    """Wrap a plain client as a resource, created for each run."""
    return dg.ResourceDefinition(lambda _context: client())


@dg.definitions
def resources() -> dg.Definitions:
    """Declare the resources and the executor that all definitions share."""
    return dg.Definitions(
        resources={
            "warehouse": _made_per_run(Warehouse),
            "raw_files": _made_per_run(RawFiles),
            "report_api": _made_per_run(ReportApi),
            "progress": _made_per_run(Progress),
        },
        # "Materialize" in the UI runs without a job of ours; a process per step would be most of a small run's time.
        executor=dg.in_process_executor,
    )
