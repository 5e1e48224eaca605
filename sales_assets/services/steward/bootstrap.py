"""Wiring of the steward's pages: from the warehouse's URL to the views of the admin pages."""

from collections.abc import Sequence

from jinja2 import BaseLoader, PackageLoader
from starlette_admin.views import BaseView

from sales_assets.services.steward.pages import AuditTrail, Days, Quarantine, Resolutions
from sales_assets.services.steward.repository import StewardRepository


def steward_views(warehouse_url: str) -> Sequence[BaseView]:
    """Return the views, in the order of the menu."""
    repository = StewardRepository(warehouse_url)
    return (Quarantine(repository), Resolutions(repository), Days(repository), AuditTrail(repository))


def steward_templates() -> BaseLoader:
    """Return the loader of the views' templates."""
    return PackageLoader("sales_assets.services.steward")
