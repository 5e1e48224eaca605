"""Long schemathesis run of the mailings API."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sales_assets_tests.services.mailings.fixtures import Api, api_running
from sales_assets_tests.services.partner_orders.openapi import examine

pytestmark = [pytest.mark.torture, pytest.mark.timeout(1800)]


@pytest.fixture
def api(warehouse_url: str) -> Iterator[Api]:
    """The service with clients and mailings, so that requests find existing objects."""
    with api_running(warehouse_url) as api:
        clients = [api.client(tag="VIP") for _ in range(3)]
        api.start(api.mailing(client_tag_filter="VIP"), clients=clients)
        api.mailing()
        yield api


def test_mailings_responses_match_the_openapi_in_a_long_run(api: Api, tmp_path: Path) -> None:
    start_time = time.monotonic()
    examine(api.url, tmp_path, examples=200)
    print(f"\nschemathesis: {time.monotonic() - start_time:.0f} s")  # noqa: T201  figures, seen with -s
