"""Contention between loads, partner orders and replays in several processes: a few of each over the same days.

`make torture` runs these processes for minutes.
"""

import pytest

from sales_assets.settings import settings
from sales_assets_tests.faults.contention import Contention
from sales_assets_tests.fixtures import Shop


@pytest.mark.timeout(600)  # seven processes on a busy machine
def test_concurrent_loads_orders_and_replays_produce_the_mart_of_the_model(shop: Shop) -> None:
    url = settings().warehouse_url.get_secret_value()  # type: ignore[union-attr]
    contention = Contention(url, shop.reports, jobs={"load": 3, "orders": 2, "replay": 1})
    contention.run(200, rounds=3)
    contention.check_result()
