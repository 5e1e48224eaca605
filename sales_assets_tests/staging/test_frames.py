"""The dagster-pandas types of the two small staging tables, and the checks that read these tables as data frames."""

from decimal import Decimal

import dagster as dg
import pyarrow as pa
import pytest

from sales_assets.defs.staging.frames import frame_types, typed_frame
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.schemas.report_files import CUSTOM_RESEARCH, PRICE_LOG
from sales_assets_tests.builders import Order, job
from sales_assets_tests.fixtures import Shop

DAY = "2024-10-01"
MONEY = pa.decimal128(10, 2)


def price_list(names: list[str | None], prices: pa.Array | None = None, day: int = 20241001) -> pa.Table:
    count = len(names)
    return pa.table(
        {
            "line_no": pa.array(range(1, count + 1), pa.int64()),
            "item_name": pa.array(names, pa.string()),
            "price": pa.array([Decimal("1.10")] * count, MONEY) if prices is None else prices,
            "date_id": pa.array([day] * count, pa.int32()),
        }
    )


def test_a_valid_frame_keeps_amounts_exact() -> None:
    table = price_list(["Milk", "Bread"])
    frame = typed_frame(PRICE_LOG, table)
    assert frame["price"].tolist() == [Decimal("1.10"), Decimal("1.10")]
    assert pa.Table.from_pandas(frame, schema=table.schema).equals(table)


def test_lists_of_several_days_are_one_frame() -> None:
    together = pa.concat_tables([price_list(["Milk", "Bread"]), price_list(["Milk"], day=20241002)])
    assert typed_frame(PRICE_LOG, together)["date_id"].tolist() == [20241001, 20241001, 20241002]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (price_list(["Milk", "Milk"]), "OncePerDayConstraint"),
        (price_list(["Milk", None]), "item_name"),
        (price_list(["Milk"], pa.array([1.1])), "price"),
        (price_list(["Milk"]).drop_columns(["price"]), "price"),
    ],
)
def test_an_invalid_frame_is_refused(table: pa.Table, message: str) -> None:
    with pytest.raises(dg.Failure, match=message):
        typed_frame(PRICE_LOG, table)


def test_a_day_may_have_no_rows() -> None:
    assert typed_frame(CUSTOM_RESEARCH, CUSTOM_RESEARCH.schema.empty_table()).empty


def test_the_tables_are_checked_on_demand(shop: Shop) -> None:
    shop.reports.increment(DAY, [Order("a")], price_log="Milk,100\nBread,50\n")
    shop.load(DAY)

    def passed() -> dict[str, bool]:
        run = dg.materialize(
            [frame_types],
            selection=dg.AssetSelection.checks(frame_types),
            instance=shop.instance,
            resources={"warehouse": Warehouse()},
        )
        return {check.asset_key.path[-1]: check.passed for check in run.get_asset_check_evaluations()}

    assert passed() == {"custom_research": True, "price_log": True}
    shop.query("UPDATE staging.price_log SET item_name = 'Milk'")
    assert passed() == {"custom_research": True, "price_log": False}


@pytest.mark.parametrize("name", ["load_days", "load_report_and_days"])
def test_a_load_does_not_run_the_frame_checks(name: str) -> None:
    assert "load_daily_sales" in job(name).graph.node_dict
    assert "frame_types" not in job(name).graph.node_dict
