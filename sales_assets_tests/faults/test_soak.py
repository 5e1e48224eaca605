"""A month of days through the sensor; three years of them, with housekeeping, are `torture/test_soak`."""

from sales_assets_tests.faults.soaking import Soak
from sales_assets_tests.fixtures import Shop


def test_a_month_of_days_ends_in_the_mart_of_the_oracle(shop: Shop) -> None:
    soak = Soak(shop)
    soak.run(30, seconds=240)
    soak.judge()
    assert len(soak.days) == 30
