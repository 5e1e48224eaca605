"""Loads of several processes over the same days, with partner orders and replays: a few of each.

`make torture` has minutes.
"""

import pytest

from sales_assets.settings import settings
from sales_assets_tests.faults.contention import Contention
from sales_assets_tests.fixtures import Shop


@pytest.mark.timeout(600)  # seven processes on a busy machine
def test_loads_orders_and_replays_at_once_end_in_the_mart_of_the_reference_model(shop: Shop) -> None:
    url = settings().warehouse_url.get_secret_value()  # type: ignore[union-attr]
    contention = Contention(url, shop.reports, jobs={"load": 3, "orders": 2, "replay": 1})
    contention.run(200, rounds=3)
    contention.judge()
