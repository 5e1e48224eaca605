"""Publish staged days to ``mart.f_sales``: replace them and compare both tables before the commit.

The dimension rows are written by the same transaction or an earlier one (`names`).
"""

from collections.abc import Collection, Sequence

from sales_assets.postgres.warehouse import Transaction

# The statement of the asset check of this name, run here while a difference can still be rolled back.
RECONCILIATION = "equal_to_staging"


class NotReconciledError(Exception):
    """Staging and mart differ on a day after it was replaced; the transaction must not be committed."""


def occupied_days(transaction: Transaction, date_ids: Sequence[int]) -> set[int]:
    """Find the days that have rows a replacement has to delete."""
    if not date_ids:
        return set()
    days = sorted(date_ids)
    rows = transaction.rows(
        "facts/f_sales", "occupied_days", date_ids=days, first_date_id=days[0], last_date_id=days[-1]
    )
    return {row["date_id"] for row in rows}


def publish_days(transaction: Transaction, date_ids: Sequence[int], occupied: Collection[int]) -> None:
    """Replace days of the mart with staging's rows; days that were never staged are left alone.

    occupied: the days with rows to delete (`occupied_days`); looking for them in each transaction would cost a first
    load more with every day. Raises NotReconciledError.
    """
    if not date_ids:
        return
    days = sorted(date_ids)
    span = {"first_date_id": days[0], "last_date_id": days[-1]}
    transaction.run("facts/f_sales", "read_by_days")
    if any(day in occupied for day in days):
        transaction.run("facts/f_sales", "clear_days", date_ids=days, **span)
    transaction.run("facts/f_sales", "fill_days", date_ids=days, **span)
    different = transaction.rows(f"checks/{RECONCILIATION}", "offending", **span)
    wrong = [f"{row['date_id']}: {row['example']}" for row in different if row["date_id"] in set(days)]
    if wrong:
        raise NotReconciledError("; ".join(wrong))
