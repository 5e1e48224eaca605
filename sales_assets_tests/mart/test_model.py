"""Any files, stored and loaded in any order, produce the mart of `sales_assets_tests.reference_model`."""

import datetime as dt
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, given, note
from hypothesis import strategies as st

from sales_assets.pipeline import parse_file, spill, stage
from sales_assets.pipeline.extract import fetch_report, record
from sales_assets.pipeline.load import Pipeline, load_days
from sales_assets.pipeline.load_report import F_SALES, raw_table, staging_table
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.resources.raw_files import RawFiles
from sales_assets.resources.report_api import ReportApi
from sales_assets.schemas.report_files import REPORT_FILES, USER_ORDERS_LOG
from sales_assets.settings import first_day, settings
from sales_assets_tests.builders import Order, order_file
from sales_assets_tests.fixtures import Shop
from sales_assets_tests.reference_model import Delivered, RowKey, mart, read, row_keys, stored_contents

DAYS = [dt.date(2024, 9, 10) + dt.timedelta(days=n) for n in range(3)]
TABLES = {
    "raw": [raw_table(file) for file in REPORT_FILES.values()],
    "staging": [staging_table(USER_ORDERS_LOG)],
    "mart": [F_SALES],
}
STAGES = [["raw", "staging", "mart"], ["raw", "staging", "mart"], ["raw"], ["staging"], ["staging", "mart"]]


@dataclass(frozen=True)
class Report:
    """Step that replaces the report in the folder and fetches it."""

    orders: list[Order | str]
    statuses: bool


@dataclass(frozen=True)
class Increment:
    """Step that replaces the increment of a day in the folder or, if `orders` is None, removes it."""

    day: dt.date
    orders: list[Order | str] | None
    statuses: bool


@dataclass(frozen=True)
class Load:
    """Step that loads some stages of a range of days; `first` and `last` are indexes of DAYS."""

    first: int
    last: int
    stages: Sequence[str]


@dataclass(frozen=True)
class Resolve:
    """Step that resolves one of the rejected rows and loads all days again."""

    choice: int
    is_discarded: bool


def lines(days: Sequence[dt.date]) -> st.SearchStrategy[list[Order | str]]:
    order = st.builds(
        Order,
        uniq_id=st.sampled_from("abc"),
        day=st.sampled_from([day.isoformat() for day in days]),
        quantity=st.sampled_from(["1", "1", "1.0", "0", "-1"]),
        amount=st.sampled_from(["10", "10", "20.5"]),
        status=st.sampled_from([None, "shipped", "Refunded", "refunded", "lost"]),
        customer_id=st.sampled_from(["51", "52", ""]),
        time=st.sampled_from(["T00:00:00", "T00:00:00", "T23:30:00Z"]),
    )
    return st.lists(order | st.sampled_from(["", "no line at all"]), max_size=7)


def increments(day: dt.date) -> st.SearchStrategy[Increment]:
    # The file's own day is drawn most often, because lines of other days are rejected.
    return st.builds(Increment, st.just(day), st.none() | lines([day, day, day, *DAYS]), st.booleans())


RESOLUTIONS = st.builds(Resolve, st.integers(0, 20), st.booleans())
STEPS = st.lists(
    st.builds(Report, lines(DAYS).map(lambda found: [Order("always", day=str(DAYS[1])), *found]), st.booleans())
    | st.sampled_from(DAYS).flatmap(increments)
    | st.builds(Load, st.integers(0, 1), st.integers(1, 2), st.sampled_from(STAGES))
    | RESOLUTIONS,
    min_size=3,
    max_size=10,
)


Step = Report | Increment | Load | Resolve


class ModelComparison:
    """The shop, and the same deliveries and resolutions for the reference model."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.warehouse, self.raw_files, self.api = Warehouse(), RawFiles(), ReportApi()
        scratch = settings().sales_home / "tmp"
        log = logging.getLogger(__name__)
        self.pipeline = Pipeline(self.warehouse, self.raw_files, self.api, scratch, first_day(), log)
        self.increments: dict[dt.date, str] = {}
        self.deliveries: list[Delivered] = []
        self.resolutions: dict[RowKey, str | None] = {}

    def reset(self) -> None:
        self.increments.clear()
        self.resolutions.clear()
        self.deliveries.clear()
        shutil.rmtree(self.shop.reports.folder)
        self.shop.reports.folder.mkdir()
        self.shop.query("TRUNCATE raw.delivery, mart.f_sales, mart.d_city, mart.d_customer, mart.d_item CASCADE")
        self.shop.query("TRUNCATE staging.user_orders_log")

    def apply(self, step: Step) -> None:
        note(str(step))
        match step:
            case Report(orders, statuses):
                self.shop.reports.report(orders, statuses=statuses)
                with self.warehouse.transaction("report") as transaction:
                    record(transaction, [fetch_report(self.api, self.raw_files, self.warehouse, note)], "run")
                days = sorted(order.day for order in orders if isinstance(order, Order))
                period = dt.date.fromisoformat(days[0]), dt.date.fromisoformat(days[-1])
                self.deliveries.append(Delivered("report", *period, order_file(orders, statuses=statuses)))
            case Increment(day, None, _):
                self.shop.reports.without_increment(str(day))
                self.increments.pop(day, None)
            case Increment(day, orders, statuses):
                self.shop.reports.increment(str(day), orders, statuses=statuses)
                self.increments[day] = order_file(orders or [], statuses=statuses)
            case Load(first, last, stages):
                self.load(DAYS[first : last + 1], stages)
            case Resolve(choice, is_discarded):
                self.resolve(choice, is_discarded=is_discarded)

    def resolve(self, choice: int, *, is_discarded: bool) -> None:
        rows = self.shop.query(
            "SELECT quarantine_id, line_no, (SELECT count(*) FROM raw.fetch AS f WHERE f.fetch_id < q.fetch_id)"
            " FROM staging.quarantine AS q ORDER BY fetch_id, line_no"
        )
        if not rows:
            return
        number, line_no, place = rows[choice % len(rows)]
        delivered = list(stored_contents(self.deliveries))[place]
        rejected = read(delivered, self.resolutions).rejected
        assert line_no in rejected
        statuses = "status" in delivered.text.split("\n", 1)[0]
        text = Order(f"resolved{choice}", day=str(delivered.first_day)).line(9, statuses=statuses)
        with self.warehouse.transaction("resolve") as transaction:
            if is_discarded:
                transaction.run("staging/quarantine", "discard", ids=[number])
            else:
                transaction.run("staging/quarantine", "correct", ids=[number], texts=[text])
            transaction.rows("staging/quarantine", "inherit", fetch_ids=[], ids=[number], reopened=[])
        self.resolutions[row_keys(delivered, rejected)[line_no]] = None if is_discarded else text
        self.load(DAYS, ["staging", "mart"])

    def load(self, days: Sequence[dt.date], stages: Sequence[str]) -> None:
        """Load days without Dagster (a run takes four times as long); compare a loaded mart with the model."""
        load_days(self.pipeline, days, [table for stage in stages for table in TABLES[stage]], "run")
        if "raw" in stages:
            self.deliveries += [
                Delivered("increment", day, day, self.increments[day]) for day in days if day in self.increments
            ]
        if "mart" in stages:
            assert self.found(days) == mart(self.deliveries, days, self.resolutions)

    def found(self, days: Sequence[dt.date]) -> list[tuple[Any, ...]]:
        rows = self.shop.query(
            "SELECT f.date_id, l.uniq_id, item_id, customer_id, city_id, quantity, amount, f.status"
            " FROM mart.f_sales AS f JOIN mart.f_sales_lines AS l USING (id)"
            " WHERE to_date(f.date_id::text, 'YYYYMMDD') = ANY (%s)",
            list(days),
        )
        return sorted(rows)

    def compare_readings(self) -> None:
        """Compare the counts of kept, duplicate and rejected lines per file, and the quarantine, with the model."""
        counts = self.shop.query(
            "SELECT lines, kept, repeats, bad, verdict FROM staging.fetch_reading ORDER BY fetch_id"
        )
        expected = [read(delivered, self.resolutions) for delivered in stored_contents(self.deliveries)]
        assert counts == [
            (
                len(file.kept) + file.repeats + len(file.bad) + file.discarded,
                len(file.kept),
                file.repeats,
                len(file.bad) + file.discarded,
                "usable" if file.usable else "failed",
            )
            for file in expected
        ]
        quarantined = self.shop.query("SELECT line_no FROM staging.quarantine ORDER BY fetch_id, line_no")
        assert quarantined == [(line_no,) for file in expected for line_no in sorted(file.rejected)]


@pytest.fixture
def comparison(shop: Shop) -> ModelComparison:
    return ModelComparison(shop)


@hypothesis.settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS, resolutions=st.lists(RESOLUTIONS, max_size=3), large=st.booleans())
def test_the_mart_equals_the_reference_model(
    comparison: ModelComparison, steps: list[Step], resolutions: list[Resolve], *, large: bool
) -> None:
    """After each load, its days are compared; at the end, all days are loaded again from the stored files.

    Further resolutions follow the steps, because most steps are taken before any row is rejected.

    `large` treats these few lines as a large file: a day is deduplicated in parts, rows are spilled to files, and each
    day needs a separate transaction.
    """
    comparison.reset()
    with pytest.MonkeyPatch.context() as patched:
        if large:
            patched.setattr(parse_file, "_ROWS_PER_PARTITION", 1)
            patched.setattr(stage, "_ROWS_PER_TRANSACTION", 1)
            patched.setattr(spill, "HELD_BYTES", 1)
        run_steps(comparison, [*steps, Load(0, 2, ["staging", "mart"]), *resolutions])


def run_steps(comparison: ModelComparison, steps: list[Step]) -> None:
    comparison.apply(Report([Order("first", day=str(DAYS[0])), Order("last", day=str(DAYS[-1]))], statuses=False))
    for step in steps:
        comparison.apply(step)
    comparison.load(DAYS, ["staging", "mart"])
    comparison.compare_readings()
    before = comparison.shop.query("SELECT * FROM mart.f_sales ORDER BY id")
    comparison.load(DAYS, ["staging", "mart"])
    assert comparison.shop.query("SELECT * FROM mart.f_sales ORDER BY id") == before
