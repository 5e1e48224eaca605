"""A month of days loaded by the sensor; `torture/test_soak` has three years, with housekeeping."""

from sales_assets_tests.faults.soaking import Soak
from sales_assets_tests.fixtures import Shop


def test_a_month_of_days_produces_the_mart_of_the_reference_model(shop: Shop) -> None:
    soak = Soak(shop)
    soak.run(30, seconds=240)
    soak.check_result()
    assert len(soak.days) == 30
