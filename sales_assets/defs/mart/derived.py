"""Marts derived from one staging table, a day at a time.

docs/guides/add-a-mart.md shows how to add one. Marts that read several tables or have another period need a separate
op.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg

from sales_assets.defs.checking import SqlCheck
from sales_assets.defs.staging.report_files import staging_key
from sales_assets.partitions import DAYS
from sales_assets.pipeline.derive import DerivedTable
from sales_assets.schemas.report_files import ReportFile


@dataclass(frozen=True)
class DerivedMart:
    """A mart that the op `load_daily_sales` fills in the transaction that stages a day.

    key: ``mart/<table>``; the statements are in ``sql/mart/<table>.sql``.
    file: the report file whose staging table the mart is derived from.
    checks: the first compares the mart with staging, and must pass before a day is committed.
    """

    key: dg.AssetKey
    file: ReportFile
    description: str
    checks: Sequence[SqlCheck]

    @property
    def table(self) -> DerivedTable:
        return DerivedTable(self.key.path[-1], self.file, self.checks[0].name)

    def spec(self) -> dg.AssetSpec:
        """Declare the asset, one partition per day. A method: Dagster loads module-level specs as assets."""
        return dg.AssetSpec(
            self.key,
            deps=[staging_key(self.file)],
            description=f"{self.description}\n\nA day is replaced whole, in the transaction that stages it, and is "
            "compared with staging before the commit.",
            partitions_def=DAYS,
        )
