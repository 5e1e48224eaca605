"""Ticks of the sensor `new_increments` without new increments: their cost must not depend on the number of loaded days.

`watching` runs it as ``python -m sales_assets_tests.bench.ticks COUNT``; it prints the total wall-clock and CPU
seconds, without the start of the process.
"""

import sys
import time

import dagster as dg

from sales_assets.defs.automation.new_increments import new_increments
from sales_assets.deploy.instance import prepare_dagster_home
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.resources.report_api import ReportApi


def tick(instance: dg.DagsterInstance) -> None:
    resources = {"warehouse": Warehouse(), "report_api": ReportApi()}
    with dg.build_sensor_context(instance=instance, resources=resources) as context:
        result = new_increments(context)
    assert isinstance(result, dg.SensorResult)
    assert not result.run_requests, "there was something new"


if __name__ == "__main__":
    prepare_dagster_home()
    with dg.DagsterInstance.get() as dagster_instance:
        tick(dagster_instance)
        start_time, processor = time.monotonic(), time.process_time()
        for _ in range(int(sys.argv[1])):
            tick(dagster_instance)
        print(time.monotonic() - start_time, time.process_time() - processor)
