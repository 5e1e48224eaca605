"""Derive tables of the mart from one staging table each, whole days at a time.

The statements are in the SQL file of the derived table: `clear_days`, `fill_days` and `summary`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sales_assets.pipeline.sums import NotReconciledError
from sales_assets.postgres.warehouse import Transaction, Warehouse
from sales_assets.schemas.report_files import ReportFile


@dataclass(frozen=True)
class DerivedTable:
    """A table of the mart that is filled from one staging table, in the transaction that stages a day.

    name: of the table in the schema ``mart``, and of its SQL file.
    file: the report file whose staging table it is derived from.
    reconciliation: the check of ``sql/checks`` that finds days in which the table differs from staging.
    """

    name: str
    file: ReportFile
    reconciliation: str

    @property
    def table(self) -> str:
        """The schema-qualified name, as in the load report."""
        return f"mart.{self.name}"

    @property
    def _statements(self) -> str:
        return f"mart/{self.name}"

    def replace_days(self, transaction: Transaction, date_ids: Sequence[int]) -> None:
        """Replace days by rows derived from staging. Raises `NotReconciledError`."""
        transaction.run(self._statements, "clear_days", date_ids=list(date_ids))
        transaction.run(self._statements, "fill_days", date_ids=list(date_ids))
        wrong = self.differing_days(transaction, date_ids)
        if wrong:
            raise NotReconciledError("; ".join(f"{self.name} {day}: {example}" for day, example in wrong.items()))

    def differing_days(self, warehouse: Warehouse | Transaction, date_ids: Collection[int]) -> dict[int, str]:
        """Find the days in which the table differs from staging: {day: an example}."""
        rows = warehouse.rows(
            f"checks/{self.reconciliation}",
            "offending",
            first_date_id=min(date_ids),
            last_date_id=max(date_ids),
        )
        return {row["date_id"]: row["example"] for row in rows if row["date_id"] in set(date_ids)}

    def summary(self, warehouse: Warehouse, date_ids: Collection[int]) -> list[dict[str, Any]]:
        """Summarize days for the load report: a row per day that has rows."""
        return warehouse.rows(self._statements, "summary", date_ids=list(date_ids))
