"""How a load tells how far it is: nothing by default, a bar where a person waits at a terminal.

Does not belong here: drawing (`sales_assets.cli`).
"""

from typing import Any

import dagster as dg


class Progress(dg.ConfigurableResource[Any]):
    """Told by the ops as they go; the terminal's version overrides the methods."""

    def say(self, text: str) -> None:
        """What is being done now."""

    def days_ahead(self, number: int) -> None:
        """How many days the range has."""

    def days_done(self, number: int) -> None:
        """How many days of the range are through, broken ones too."""
