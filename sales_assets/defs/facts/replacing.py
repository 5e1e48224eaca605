"""Replacing days of ``mart.f_sales`` from staging, reconciled before the commit.

Belongs here: the order of the statements of ``sql/facts``. Does not belong here: where staging has its lines from, or
the dimension rows, which the same transaction or an earlier one has to make.
"""

from collections.abc import Collection, Sequence

from sales_assets.defs.facts.checks import RECONCILIATION
from sales_assets.resources.warehouse import Transaction


class NotReconciledError(Exception):
    """Staging and mart disagree on a day after it was replaced; the transaction must not be committed."""


def occupied_days(transaction: Transaction, date_ids: Sequence[int]) -> set[int]:
    """Which of the days have rows that a replacement has to clear."""
    if not date_ids:
        return set()
    days = sorted(date_ids)
    rows = transaction.rows(
        "facts/f_sales", "occupied_days", date_ids=days, first_date_id=days[0], last_date_id=days[-1]
    )
    return {row["date_id"] for row in rows}


def replace_days(transaction: Transaction, date_ids: Sequence[int], occupied: Collection[int]) -> None:
    """Make the mart's days equal to staging's. Days that were never staged are left alone.

    occupied: the days with rows to clear; to look for them each time would cost a first load more with every day.
    """
    if not date_ids:
        return
    days = sorted(date_ids)
    span = {"first_date_id": days[0], "last_date_id": days[-1]}
    transaction.run("facts/f_sales", "read_by_days")
    if any(day in occupied for day in days):
        transaction.run("facts/f_sales", "clear_days", date_ids=days, **span)
    transaction.run("facts/f_sales", "fill_days", date_ids=days, **span)
    # The same question as the asset check's, asked while a wrong answer can still be rolled back.
    different = transaction.rows(f"checks/{RECONCILIATION}", "offending", **span)
    wrong = [f"{row['date_id']}: {row['example']}" for row in different if row["date_id"] in set(days)]
    if wrong:
        raise NotReconciledError("; ".join(wrong))
