"""Replacing days of ``mart.f_sales`` from staging, reconciled before the commit.

Belongs here: the order of the statements of ``sql/facts``. Does not belong here: where staging has its lines from, or
the dimension rows, which the same transaction or an earlier one has to make.
"""

from collections.abc import Sequence

from sales_assets.resources.warehouse import Transaction


class NotReconciledError(Exception):
    """Staging and mart disagree on a day after it was replaced; the transaction must not be committed."""


def replace_days(transaction: Transaction, date_ids: Sequence[int]) -> None:
    """Make the mart's days equal to staging's. Days that were never staged are left alone."""
    if not date_ids:
        return
    days = sorted(date_ids)
    span = {"first_date_id": days[0], "last_date_id": days[-1]}
    transaction.run("facts/f_sales", "clear_days", date_ids=days, **span)
    transaction.run("facts/f_sales", "fill_days", date_ids=days, **span)
    # The same question as the asset check's, asked while a wrong answer can still be rolled back.
    different = transaction.rows("checks/equal_to_staging", "offending", **span)
    wrong = [f"{row['date_id']}: {row['example']}" for row in different if row["date_id"] in set(days)]
    if wrong:
        raise NotReconciledError("; ".join(wrong))
