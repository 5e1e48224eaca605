"""Sum the rows that a load sends, to verify before the commit that PostgreSQL stored them all."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sales_assets.postgres.binary_copy import unscaled
from sales_assets.schemas.line_rules import REFUNDED, SHIPPED


class NotReconciledError(Exception):
    """PostgreSQL does not hold the rows that were sent; the transaction must not be committed."""


class Sums:
    """Sums of mart rows by day and status, to be compared with those of PostgreSQL.

    `keys` combines item, customer and city with the row's id: totals alone would miss values swapped between rows.
    days_of_wrong_sign: days with a refunded row above zero or a shipped one below.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.days_of_wrong_sign: set[int] = set()
        self.first_id, self.last_id = 0, -1
        # {(date_id, status): [rows, quantity and amount in hundredths, keys modulo 2 ** 64]}
        self._sums: dict[tuple[int, str], list[int]] = {}

    def count(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Add a batch of mart rows to the sums; returns the batch."""
        ids, days, item, customer, city = (
            rows.column(name).to_numpy().astype(np.int64)
            for name in ("id", "date_id", "item_id", "customer_id", "city_id")
        )
        if not len(ids):
            return rows
        first, last = int(ids.min()), int(ids.max())
        self.first_id = min(self.first_id, first) if self.rows else first
        self.last_id = max(self.last_id, last)
        self.rows += len(ids)
        # Sums wrap around at 64 bits: all comparisons are modulo 2 ** 64.
        keys = ids % 65521 * (1 + item + 7 * customer + 31 * city)
        quantity, amount = unscaled(rows.column("quantity")), unscaled(rows.column("amount"))
        values = np.stack([np.ones_like(ids), quantity, amount, keys])
        is_refunded = pc.equal(rows.column("status"), REFUNDED).to_numpy(zero_copy_only=False)
        has_wrong_sign = np.where(is_refunded, (quantity > 0) | (amount > 0), (quantity < 0) | (amount < 0))
        self.days_of_wrong_sign.update(days[has_wrong_sign].tolist())
        groups, members = np.unique(2 * days + is_refunded, return_inverse=True)
        sums = np.zeros((len(values), len(groups)), np.int64)
        for total, of_rows in zip(sums, values, strict=True):
            np.add.at(total, members, of_rows)
        for group, added in zip(groups.tolist(), sums.T.tolist(), strict=True):
            key = group // 2, REFUNDED if group % 2 else SHIPPED
            known = self._sums.get(key, [0, 0, 0, 0])
            self._sums[key] = [a + b for a, b in zip(known, added, strict=True)]
        return rows

    def summary(self, day: int) -> dict[str, Any]:
        """Summarize a day, with the same values as the statement `summary` of ``mart/f_sales``."""
        shipped, refunded = (self._sums.get((day, status), [0, 0, 0, 0]) for status in (SHIPPED, REFUNDED))
        return {
            "rows": shipped[0] + refunded[0],
            "refunded_rows": refunded[0],
            "net_amount": _money(shipped[2] + refunded[2]),
            "net_quantity": _money(shipped[1] + refunded[1]),
            "refunded_amount": _money(refunded[2]),
        }

    def require_stored(self, stored: int, found: Iterable[Mapping[str, Any]]) -> None:
        """Raise NotReconciledError unless PostgreSQL stored and finds the rows that were counted."""
        sent = {key: (*sums[:3], sums[3] % 2**64) for key, sums in self._sums.items()}
        held = {
            (row["date_id"], row["status"]): (
                row["rows"],
                int(row["quantity"] * 100),
                int(row["amount"] * 100),
                int(row["keys"]) % 2**64,
            )
            for row in found
        }
        wrong = [
            f"{key[0]}: {key[1]}: {_formatted(sent.get(key))} sent, {_formatted(held.get(key))} in the mart"
            for key in sorted(sent.keys() | held.keys())
            if sent.get(key) != held.get(key)
        ]
        if stored != self.rows:
            wrong.append(f"{self.rows} rows were sent, {stored} stored")
        if wrong:
            raise NotReconciledError("; ".join(wrong))


def _money(hundredths: int) -> Decimal:
    return Decimal(hundredths).scaleb(-2)


def _formatted(sums: tuple[int, ...] | None) -> str:
    rows, quantity, amount, keys = sums or (0, 0, 0, 0)
    return f"{rows} rows, quantity {quantity / 100:.2f}, amount {amount / 100:.2f}, keys {keys:x}"
