"""The fixtures of others, for the tests that follow an order or a message all the way to the mart."""

from sales_assets_tests.mailings.conftest import client, fill_audience, mapped, sell
from sales_assets_tests.services.partner_orders.conftest import broker, start

__all__ = ["broker", "client", "fill_audience", "mapped", "sell", "start"]
