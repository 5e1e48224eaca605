"""The assets and checks of `load_daily_sales` without any work: Dagster's own cost for a range of days.

`loading` runs it as ``python -m sales_assets_tests.bench.bare FIRST LAST``.
"""

import sys
from collections.abc import Iterator

import dagster as dg

from sales_assets.dagster_internals import range_tags
from sales_assets.defs.load_daily_sales import load_daily_sales
from sales_assets.deploy.instance import prepare_dagster_home
from sales_assets.deploy.runs import QUIET
from sales_assets.partitions import DAYS, WHOLE_RANGE


@dg.multi_asset(
    name="bare_chain",
    specs=list(load_daily_sales.specs),
    check_specs=list(load_daily_sales.check_specs),
    partitions_def=DAYS,
    backfill_policy=WHOLE_RANGE,
)
def bare_chain() -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    for spec in load_daily_sales.specs:
        yield dg.MaterializeResult(asset_key=spec.key)
    for check in load_daily_sales.check_specs:
        yield dg.AssetCheckResult(asset_key=check.asset_key, check_name=check.name, passed=True)


if __name__ == "__main__":
    prepare_dagster_home()
    with dg.DagsterInstance.get() as instance:
        tags = range_tags(sys.argv[1], sys.argv[2])
        job = dg.Definitions(
            assets=[bare_chain], jobs=[dg.define_asset_job("bare", executor_def=dg.in_process_executor)]
        ).resolve_job_def("bare")
        job.execute_in_process(instance=instance, tags=tags, run_config=QUIET)
