"""The service's fixtures, for the tests that follow an order all the way."""

from sales_assets_tests.services.partner_orders.conftest import broker, start

__all__ = ["broker", "start"]
