"""Conditional definitions of the lake, which requires the setting LAKE_URL and the extra [lake]."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from sales_assets.postgres.warehouse import Warehouse
from sales_assets.settings import SettingsError, definition_settings

if TYPE_CHECKING:
    from sales_assets.resources.lake import Lake


def if_configured(**definitions: Any) -> dg.Definitions:
    """Return the definitions; empty ones without LAKE_URL."""
    return dg.Definitions(**definitions) if definition_settings().lake_url else dg.Definitions()


def lake_of(warehouse: Warehouse) -> "Lake":
    """Return the lake of a warehouse. Raises `SettingsError` if the optional packages are missing."""
    try:
        from sales_assets.resources.lake import Lake
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"LAKE_URL needs the extra [lake] (pip install '.[lake]'): {error.name} is not installed"
        ) from None
    return Lake(warehouse)
