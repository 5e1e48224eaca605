"""Draw the charts of the demo's sales through Dagster."""

import dagster as dg

from sales_assets.definitions import defs
from sales_assets.deploy.instance import prepare_dagster_home
from sales_assets.deploy.runs import failures_of, run_job
from sales_assets.pipeline.progress import Progress

_JOB = "refresh_sales_overview"


def draw_charts(progress: Progress) -> list[str] | None:
    """Materialize reports/sales_overview; returns the run's failures, or None without the extra `[reports]`."""
    definitions = defs()
    if _JOB not in {job.name for job in definitions.jobs or ()}:
        return None
    progress.notify("drawing charts")
    prepare_dagster_home()
    with dg.DagsterInstance.get() as instance:
        run = run_job(definitions, instance, _JOB, {}, progress)
    red = [check.check_name for check in run.get_asset_check_evaluations() if not check.passed]
    return [*failures_of(run), *(f"check {name} failed" for name in red)]
