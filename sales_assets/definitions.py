"""The Dagster code location: all definitions in ``defs/``."""

from pathlib import Path

import dagster as dg

from sales_assets.defs.metadata import with_metadata


@dg.definitions
def defs() -> dg.Definitions:
    """Load all definitions of ``defs/``, with the metadata that all assets share."""
    return with_metadata(dg.load_from_defs_folder(path_within_project=Path(__file__).parent))
