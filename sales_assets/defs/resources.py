"""What all definitions share: the doors to the outside, opened when first used, and how steps are executed."""

import dagster as dg

from sales_assets.defs.progress import Progress
from sales_assets.resources.raw_files import RawFiles
from sales_assets.resources.report_api import ReportApi
from sales_assets.resources.warehouse import Warehouse


@dg.definitions
def resources() -> dg.Definitions:
    return dg.Definitions(
        resources={
            "warehouse": Warehouse(),
            "raw_files": RawFiles(),
            "report_api": ReportApi(),
            "progress": Progress(),
        },
        # "Materialize" in the UI runs without a job of ours; a process per step would be most of a small run's time.
        executor=dg.in_process_executor,
    )
