"""``mart.f_sales``: which lines make a day, driven through the stand-in API and the day chain (day-rules.md)."""

from collections.abc import Callable
from decimal import Decimal

import dagster as dg

from sales_assets.services.report_api.app import ReportApi
from sales_assets_tests.reports import Order, ReportFolderBuilder, fetch_report, load_days

Query = Callable[..., list[tuple[object, ...]]]

DAY = "2024-10-01"
ROWS = "SELECT date_id, quantity, amount, status, source FROM mart.f_sales ORDER BY id"


def test_refunds_are_negative_and_repeats_count_once(
    reports: ReportFolderBuilder, report_api: ReportApi, instance: dg.DagsterInstance, query: Query
) -> None:
    sale, refund = Order("a" * 32), Order("b" * 32, amount="75.50", quantity="1", status="refunded")
    reports.increment(DAY, [sale, refund, sale, sale])
    assert fetch_report(instance).success
    assert load_days(instance, DAY).success
    assert query(ROWS) == [
        (20241001, Decimal("2.00"), Decimal("200.00"), "shipped", "report_api"),
        (20241001, Decimal("-1.00"), Decimal("-75.50"), "refunded", "report_api"),
    ]
