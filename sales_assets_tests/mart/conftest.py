"""Fixtures shared by the tests that follow an order or a message to the mart."""

from sales_assets_tests.mailings.conftest import client, fill_audience, insert_sale, mapped
from sales_assets_tests.services.partner_orders.conftest import broker, start

__all__ = ["broker", "client", "fill_audience", "insert_sale", "mapped", "start"]
