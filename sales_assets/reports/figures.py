"""Read the figures of the sales overview: exact, and from one snapshot of the mart."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sales_assets.postgres.warehouse import Transaction, Warehouse
from sales_assets.schemas.calendar import date_id, day_of

TOP = 10
# Maximum number of distinguishable bars on a chart: 160 days, then three years of weeks, then 13 years of months.
_MOST_STEPS = 160
_DAYS_OF_STEP = {"day": 1, "week": 7, "month": 30, "year": 365}
_LONGEST_PERIOD = dt.timedelta(days=100 * 366)


class ReportError(Exception):
    """The report cannot be made; the message is the reason."""


@dataclass(frozen=True)
class Series:
    """Figures of consecutive steps: a row for each, with its first day as `step`.

    unit: day, week (from Monday), month or year. Steps at the ends hold only the days of the period.
    """

    unit: str
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Ranked:
    """An item or a city with its net amount; if `id` is None, the sum of the `members` that are not among the top."""

    id: int | None
    name: str
    net_amount: Decimal
    rows: int
    members: int


@dataclass(frozen=True)
class Overview:
    """All figures of a period, first and last day included.

    Attributes:
        totals: Net amount, refunded amount (not above zero) and rows of the period, summed by one query.
        amounts: Net and refunded amount of each step.
        refund_share: Shipped and refunded amount of each week, or of each step where a step is longer.
        items: The items with the highest net amount, and the rest.
        cities: The cities with the highest net amount, and the rest.
        rows: Rows of the mart and rejected rows of each step.
    """

    first: dt.date
    last: dt.date
    totals: Mapping[str, Any]
    amounts: Series
    refund_share: Series
    items: Sequence[Ranked]
    cities: Sequence[Ranked]
    rows: Series

    @property
    def days(self) -> int:
        return (self.last - self.first).days + 1

    @property
    def rejected_rows(self) -> int:
        return sum(row["rejected_rows"] for row in self.rows.rows)

    @property
    def share(self) -> float | None:
        """Refunded amount as a share of the shipped amount; None if nothing was shipped."""
        shipped = self.totals["net_amount"] - self.totals["refunded_amount"]
        return share_of(shipped, self.totals["refunded_amount"])

    def differences(self) -> list[str]:
        """Compare the sums of all charts with the mart's totals, and list the differences."""
        return list(self._differences())

    def _differences(self) -> Iterator[str]:
        shipped = self.totals["net_amount"] - self.totals["refunded_amount"]
        expected = {**self.totals, "shipped_amount": shipped}
        charts: dict[str, tuple[Sequence[Mapping[str, Any]], tuple[str, ...]]] = {
            "amounts": (self.amounts.rows, ("net_amount", "refunded_amount")),
            "refund share": (self.refund_share.rows, ("shipped_amount", "refunded_amount")),
            "items": ([vars(row) for row in self.items], ("net_amount", "rows")),
            "cities": ([vars(row) for row in self.cities], ("net_amount", "rows")),
            "rows": (self.rows.rows, ("rows",)),
        }
        for chart, (rows, columns) in charts.items():
            for column in columns:
                plotted = sum(row[column] for row in rows)
                if plotted != expected[column]:
                    yield f"{chart}: {column} {plotted}, in the mart {expected[column]}"


def share_of(shipped: Decimal, refunded: Decimal) -> float | None:
    """Return the refunded amount (not above zero) as a share of the shipped amount; None if nothing was shipped."""
    return float(-refunded / shipped) if shipped > 0 else None


def overview(warehouse: Warehouse, first: dt.date | None = None, last: dt.date | None = None, *, days: int) -> Overview:
    """Read the figures of the days first..last (inclusive), all from one snapshot of the mart.

    Without `last`, the period ends with the latest day that has sales (yesterday in an empty mart); without `first`, it
    begins with the first day with sales among its last `days` days. Raises `ReportError` for a period that is reversed
    or longer than 100 years.
    """
    with warehouse.transaction("sales_assets overview", read_only=True) as transaction:
        transaction.run("mart/f_sales", "use_one_snapshot")
        last = last or _day_of(transaction.row("reports/period", "last_day")) or _yesterday()
        first = first or _first_day(transaction, last - dt.timedelta(days=days - 1), last)
        if first > last:
            raise ReportError(f"the period is reversed: {first} is after {last}")
        if last - first > _LONGEST_PERIOD:
            raise ReportError(f"the period {first} to {last} is longer than 100 years")
        return _read(transaction, first, last)


def _first_day(transaction: Transaction, first: dt.date, last: dt.date) -> dt.date:
    """Return the first day of a period that has sales, so that a new shop's charts don't begin empty; else `first`."""
    span = {"first_date_id": date_id(first), "last_date_id": date_id(last)}
    return _day_of(transaction.row("reports/period", "first_day", **span)) or first


def _day_of(row: Mapping[str, Any] | None) -> dt.date | None:
    return day_of(row["date_id"]) if row and row["date_id"] else None


def _yesterday() -> dt.date:
    return dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1)


def _read(transaction: Transaction, first: dt.date, last: dt.date) -> Overview:
    span: dict[str, object] = {"first_date_id": date_id(first), "last_date_id": date_id(last)}
    step = _step_of((last - first).days + 1)
    weeks_or_longer = "week" if step == "day" else step

    def series(file: str, unit: str) -> Series:
        rows = transaction.rows(f"reports/{file}", "steps", first_day=first, last_day=last, step=unit, **span)
        return Series(unit, [{**row, "step": max(row["step"], first)} for row in rows])

    def ranked(file: str, noun: str) -> list[Ranked]:
        rows = transaction.rows(f"reports/{file}", "top", limit=TOP, **span)
        return [Ranked(**{**row, "name": _name(row, noun)}) for row in rows]

    totals = transaction.row("reports/totals", "period", **span)
    assert totals is not None, "a sum without groups is one row"
    return Overview(
        first,
        last,
        totals,
        series("amounts", step),
        series("refund_share", weeks_or_longer),
        ranked("items", "item"),
        ranked("cities", "city"),
        series("rows", step),
    )


def _step_of(days: int) -> str:
    return next((unit for unit, length in _DAYS_OF_STEP.items() if days <= length * _MOST_STEPS), "year")


def _name(row: Mapping[str, Any], noun: str) -> str:
    """Return the name of a row as one line of printable text, because names come from the shop."""
    if row["id"] is None:
        return f"{row['members']} other{'' if row['members'] == 1 else 's'}"
    name = " ".join("".join(c if c.isprintable() else " " for c in row["name"] or "").split())
    return name or f"{noun} {row['id']}"
