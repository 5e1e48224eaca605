"""Resources and the executor that all definitions share: plain clients of `sales_assets.resources`, created per run.

Fields configure how a run uses a service. The service's address and secret are settings only: run config is stored and
shown, and a changed address could receive the secret.
"""

from collections.abc import Callable

import dagster as dg
from pydantic import Field

from sales_assets.pipeline.progress import Progress
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.resources.raw_files import RawFiles
from sales_assets.resources.report_api import ReportApi
from sales_assets.settings import settings


class ReportApiResource(dg.ConfigurableResource[ReportApi]):
    """Client of the report API; each field overrides a setting for one run."""

    report_api_timeout: float | None = Field(
        default=None,
        gt=0,
        description="Seconds without a received byte after which a call or a download times out. Empty: "
        "REPORT_API_TIMEOUT.",
    )
    report_api_patience: float | None = Field(
        default=None, gt=0, description="Seconds for which a call is retried. Empty: REPORT_API_PATIENCE."
    )
    report_api_report_deadline: float | None = Field(
        default=None, gt=0, description="Seconds to wait for a report. Empty: REPORT_API_REPORT_DEADLINE."
    )
    raw_files_max_bytes: int | None = Field(
        default=None, gt=0, description="Maximum size of a file, in bytes. Empty: RAW_FILES_MAX_BYTES."
    )

    def create_resource(self, context: dg.InitResourceContext) -> ReportApi:  # noqa: ARG002  the base class's signature
        given = {name: value for name, value in self if value is not None}
        return ReportApi(settings().model_copy(update=given))


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
            "report_api": ReportApiResource(),
            "progress": _made_per_run(Progress),
        },
        # "Materialize" in the UI runs without a job of ours; a process per step would be most of a small run's time.
        executor=dg.in_process_executor,
    )
