"""The doors that assets, checks and sensors are given. Nothing is opened until one of them is used."""

import dagster as dg

from sales_assets.resources.raw_files import RawFiles
from sales_assets.resources.report_api import ReportApi
from sales_assets.resources.warehouse import Warehouse


@dg.definitions
def resources() -> dg.Definitions:
    return dg.Definitions(
        resources={"warehouse": Warehouse(), "raw_files": RawFiles(), "report_api": ReportApi()}
    )
