"""Short schemathesis run of the partner orders API; the long one is in the torture tests."""

from pathlib import Path

from sales_assets_tests.services.partner_orders.fixtures import Service
from sales_assets_tests.services.partner_orders.openapi import examine


def test_partner_orders_responses_match_the_openapi(service: Service, tmp_path: Path) -> None:
    examine(service.url, tmp_path, examples=5)
