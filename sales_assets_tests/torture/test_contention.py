"""Eight concurrent loads of the same days, with partner orders and replays, for TORTURE_SECONDS."""

import os

import pytest

from sales_assets.settings import settings
from sales_assets_tests.faults.contention import Contention
from sales_assets_tests.fixtures import Shop

_SECONDS = float(os.environ.get("TORTURE_SECONDS", "1500"))
_SEED = int(os.environ.get("TORTURE_SEED", "1"))


@pytest.mark.torture
@pytest.mark.timeout(_SECONDS + 600)
def test_concurrent_loads_orders_and_replays_equal_the_reference_model(shop: Shop) -> None:
    url = settings().warehouse_url.get_secret_value()  # type: ignore[union-attr]
    contention = Contention(url, shop.reports, _SEED)
    contention.run(_SECONDS)
    print(f"{contention.done}, {contention.waited:.0f} s waited for locks")  # noqa: T201  the figures
    contention.check_result()
