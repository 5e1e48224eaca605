"""Short schemathesis run of the mailings API; the long one is in the torture tests."""

from pathlib import Path

from sales_assets_tests.services.mailings.fixtures import Api
from sales_assets_tests.services.partner_orders.openapi import examine


def test_mailings_responses_match_the_openapi(api: Api, tmp_path: Path) -> None:
    api.client()
    api.mailing()
    examine(api.url, tmp_path, examples=5)
