"""The files of the report API as assets: four of a report, four of each day's increment.

The increments are fetched by the op `load_daily_sales`, which loads days from raw files to the mart.
"""

from collections.abc import Iterator

import dagster as dg

from sales_assets.defs.sources.report_api import REPORT_API
from sales_assets.partitions import DAYS
from sales_assets.pipeline.extract import fetch_report, record
from sales_assets.pipeline.progress import Progress
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.resources.raw_files import RawFiles
from sales_assets.resources.report_api import ReportApi
from sales_assets.schemas.report_files import REPORT_FILES, ReportFile


def report_key(file: ReportFile) -> dg.AssetKey:
    """Return the asset key of a file of the report."""
    return dg.AssetKey(["raw", file.name])


def increment_key(file: ReportFile) -> dg.AssetKey:
    """Return the asset key of a file of the increments."""
    return dg.AssetKey(["raw", f"{file.name}_inc"])


def increment_specs() -> list[dg.AssetSpec]:
    """Declare the increment files, one partition per day. A function: Dagster loads module-level specs as assets."""
    return [
        dg.AssetSpec(
            increment_key(file),
            deps=[REPORT_API],
            description=f"{file.description}: the file of one day's increment, as the report API delivered it.\n\n"
            "New contents are stored with a manifest and a number; known contents are not stored again, and count as "
            "the latest. No file is deleted, or edited except to erase a person. "
            "NOT FOUND, or a file that is not listed, is recorded with its reason and changes no row downstream.",
            partitions_def=DAYS,
        )
        for file in REPORT_FILES.values()
    ]


@dg.multi_asset(
    name="report_files",
    specs=[
        dg.AssetSpec(
            report_key(file),
            deps=[REPORT_API],
            description=f"{file.description}: the file of the latest report, as the report API delivered it.\n\n"
            "A report covers a past period (start_day to end_date). One report serves a whole load of history: "
            "generating it takes about a minute at the real service. Materialize the days of its period to load it "
            "into the mart.",
        )
        for file in REPORT_FILES.values()
    ],
)
def report_files(
    context: dg.AssetExecutionContext,
    warehouse: dg.ResourceParam[Warehouse],
    raw_files: dg.ResourceParam[RawFiles],
    report_api: dg.ResourceParam[ReportApi],
    progress: dg.ResourceParam[Progress],
) -> Iterator[dg.MaterializeResult[None]]:
    """Request a report, store its four files, record the fetch."""

    def notify(text: str) -> None:
        context.log.info(text)
        progress.notify(text)

    run = context.run.run_id[:8]
    with warehouse.reading_raw_files(f"{run} raw files"):
        delivery = fetch_report(report_api, raw_files, warehouse, notify)
        with warehouse.transaction(f"{run} raw report") as transaction:
            (numbers,) = record(transaction, [delivery], context.run.run_id)
    for file in REPORT_FILES.values():
        yield dg.MaterializeResult(
            asset_key=report_key(file), metadata=delivery.facts(file.name, numbers.get(file.name))
        )
