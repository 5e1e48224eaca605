"""The service's fixtures, for long fault tests."""

from sales_assets_tests.services.partner_orders.conftest import start

__all__ = ["start"]
