"""``mart.f_sales`` (docs/data-contracts/day-rules.md, "Mart" and "Traceability"): signs, sources, ids, and the link
from a row to its line in the file.
"""

from decimal import Decimal
from typing import Any

import dagster as dg
import psycopg
import pytest

from sales_assets.pipeline import sale_ids, stage
from sales_assets.postgres.warehouse import Transaction
from sales_assets_tests.builders import Order
from sales_assets_tests.fixtures import F_SALES, ORDERS, RAW, RAW_ORDERS, Shop

DAY = "2024-10-01"
OTHER = "2024-10-02"
OLD_INSERT = (
    "INSERT INTO mart.f_sales (date_id, item_id, customer_id, city_id, quantity, amount) VALUES (%s, 3, 51, 1, 1, %s)"
)
PARTNER_INSERT = (
    "INSERT INTO mart.f_sales (date_id, item_id, customer_id, city_id, quantity, amount, source)"
    " VALUES (%s, 3, 51, 1, 1, %s, 'partner_orders')"
)


@pytest.fixture
def shop(engine_shop: Shop) -> Shop:
    """Return a shop that loads without Dagster runs; tests of Dagster's records use `dagster_shop`."""
    return engine_shop


def test_refunds_are_negative_and_duplicates_count_once(shop: Shop) -> None:
    sale, refund = Order("a" * 32), Order("b" * 32, amount="75.50", quantity="1", status="refunded")
    shop.reports.increment(DAY, [sale, refund, sale, sale])
    shop.load(DAY)
    rows = shop.query(
        "SELECT date_id, item_id, customer_id, city_id, quantity::text, amount::text, status, source"
        " FROM mart.f_sales ORDER BY status DESC"
    )
    assert rows == [
        (20241001, 3, 51, 1, "2.00", "200.00", "shipped", "report_api"),
        (20241001, 3, 51, 1, "-1.00", "-75.50", "refunded", "report_api"),
    ]
    assert shop.query("SELECT sum(amount), sum(quantity) FROM mart.f_sales") == [(Decimal("124.50"), 1)]


def test_a_day_with_a_file_loses_only_its_legacy_rows(shop: Shop) -> None:
    """Legacy rows remain on days without a file, partner rows on all days; old INSERT statements still work."""
    for date_id in (20241001, 20241002):
        shop.query(OLD_INSERT, date_id, 500)
        shop.query(PARTNER_INSERT, date_id, 900)
    shop.reports.increment(DAY, [Order("a")])
    shop.load(DAY, OTHER)
    assert shop.sales(DAY) == [("a", 200), ("partner_orders", 900)]
    assert shop.sales(OTHER) == [("legacy", 500), ("partner_orders", 900)]

    shop.query(OLD_INSERT, 20241001, 501)
    assert shop.query("SELECT status, source FROM mart.f_sales WHERE amount = 501") == [("shipped", "legacy")]
    shop.reports.increment(DAY, [])
    shop.load(DAY, OTHER)
    assert shop.sales(DAY) == [("partner_orders", 900)]
    assert shop.sales(OTHER) == [("legacy", 500), ("partner_orders", 900)]


def test_statuses_and_sources_are_constrained_but_signs_are_not(shop: Shop) -> None:
    """Legacy rows may break the sign rule: a check reports the violation, and no constraint blocks their writer."""
    shop.query(OLD_INSERT, 20241001, -5)
    for column in ("status", "source"):
        with pytest.raises(psycopg.errors.CheckViolation):
            shop.query(f"UPDATE mart.f_sales SET {column} = 'other'")
        with pytest.raises(psycopg.errors.NotNullViolation):
            shop.query(f"UPDATE mart.f_sales SET {column} = NULL")


def test_a_line_keeps_its_id(shop: Shop) -> None:
    """A row keeps its id as long as its key exists, even if other columns or the selected file change."""
    shop.reports.report([Order("r", day="2024-09-30"), Order("a"), Order("b")])
    shop.load(DAY)
    ids = dict(shop.query("SELECT uniq_id, id FROM mart.f_sales_lines"))
    shop.reports.increment(DAY, [Order("c"), Order("b", amount="7"), Order("a"), Order("a", status="refunded")])
    shop.load(DAY)
    after = shop.query("SELECT uniq_id, status, id FROM mart.f_sales_lines ORDER BY 1, 2 DESC")
    assert after[0] == ("a", "shipped", ids["a"])
    assert after[2] == ("b", "shipped", ids["b"])
    assert len({number for *_, number in after}) == 4
    assert {after[1][2], after[3][2]}.isdisjoint(ids.values())


def test_a_legacy_writer_may_draw_ids_during_a_load(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The legacy writer draws ids while the ids of a batch are drawn, and after that."""
    shop.reports.increment(DAY, [Order(str(n)) for n in range(5)])
    monkeypatch.setattr(sale_ids, "_DRAWN_AT_ONCE", 2)
    rows = Transaction.rows

    def interrupted(transaction: Transaction, file: str, name: str, /, **parameters: object) -> list[dict[str, Any]]:
        found = rows(transaction, file, name, **parameters)
        if name == "draw_ids":
            shop.query(OLD_INSERT, 20241002, 500)
        return found

    monkeypatch.setattr(Transaction, "rows", interrupted)
    shop.load(DAY)
    shop.query(OLD_INSERT, 20241002, 500)
    assert shop.query("SELECT id, source FROM mart.f_sales ORDER BY id") == [
        *[(1, "report_api"), (2, "report_api"), (3, "legacy"), (4, "report_api"), (5, "report_api"), (6, "legacy")],
        *[(7, "report_api"), (8, "legacy"), (9, "legacy")],
    ]


@pytest.fixture
def batches(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report of three days, each loaded in a separate transaction."""
    monkeypatch.setattr(stage, "_ROWS_PER_TRANSACTION", 1)
    shop.reports.report([Order(f"{day}{n}", day=day) for day in ("2024-09-29", "2024-09-30", DAY) for n in "ab"])


@pytest.mark.usefixtures("batches")
def test_ids_of_a_large_file_are_reserved_together(shop: Shop) -> None:
    """A concurrent writer neither waits nor gets a reserved id."""
    shop.query(OLD_INSERT, 20250101, 500)
    shop.load("2024-09-29", DAY)
    shop.query(OLD_INSERT, 20250101, 500)
    assert shop.query("SELECT id, date_id FROM mart.f_sales ORDER BY id") == [
        *[(1, 20250101), (2, 20240929), (3, 20240929), (4, 20240930), (5, 20240930), (6, 20241001), (7, 20241001)],
        (8, 20250101),
    ]
    shop.reports.report([Order(f"{DAY}{n}") for n in "cbd"])
    shop.fetch_report()
    shop.load("2024-09-29", DAY)
    assert shop.query(
        "SELECT l.uniq_id, f.id FROM mart.f_sales AS f JOIN mart.f_sales_lines AS l USING (id)"
        " WHERE f.date_id = 20241001 ORDER BY 1"
    ) == [(f"{DAY}b", 7), (f"{DAY}c", 9), (f"{DAY}d", 11)]


@pytest.mark.parametrize("count", ["-1000", "0", "NULL"])
def test_the_sequence_is_never_moved_back(shop: Shop, count: str) -> None:
    shop.query(OLD_INSERT, 20250101, 500)
    with pytest.raises(psycopg.errors.RaiseException, match="must be positive"):
        shop.query(f"SELECT staging.reserve_sale_ids({count})")
    shop.query(OLD_INSERT, 20250101, 500)
    assert shop.query("SELECT id FROM mart.f_sales ORDER BY id") == [(1,), (2,)]


@pytest.mark.usefixtures("batches")
@pytest.mark.parametrize("obstacle", ["an open transaction", "another step", "another owner"])
def test_ids_that_cannot_be_reserved_are_drawn_from_the_sequence(shop: Shop, warehouse_url: str, obstacle: str) -> None:
    with psycopg.connect(warehouse_url) as other:
        if obstacle == "an open transaction":
            other.execute(OLD_INSERT, [20250101, 500])
        elif obstacle == "another step":
            shop.query("ALTER SEQUENCE mart.f_sales_id_seq INCREMENT BY 10")
        else:
            shop.query("CREATE ROLE reserving; ALTER FUNCTION staging.reserve_sale_ids OWNER TO reserving")
            shop.query("GRANT USAGE ON SCHEMA mart, staging TO reserving")
        shop.load("2024-09-29", DAY)
        other.rollback()
    if obstacle == "another owner":
        shop.query("DROP OWNED BY reserving CASCADE; DROP ROLE reserving")
    rows = shop.query("SELECT count(DISTINCT id), count(*) FROM mart.f_sales WHERE source = 'report_api'")
    assert rows == [(6, 6)]
    shop.query(OLD_INSERT, 20250101, 500)


@pytest.mark.parametrize(
    "types",
    [
        "id TYPE bigint, ALTER customer_id TYPE bigint, ALTER status TYPE varchar(20)",
        "item_id TYPE smallint",
        "city_id TYPE numeric, ALTER id TYPE numeric",
    ],
)
def test_a_mart_may_have_other_column_types_than_the_original(shop: Shop, types: str) -> None:
    shop.query("DROP VIEW mart.f_sales_lines")
    shop.query(f"ALTER TABLE mart.f_sales ALTER {types}")
    shop.reports.increment(DAY, [Order("a"), Order("b", amount="75.5", status="refunded")])
    shop.load(DAY)
    assert shop.query(
        "SELECT item_id, customer_id, city_id, quantity, amount, status FROM mart.f_sales ORDER BY id"
    ) == [
        (3, 51, 1, 2, 200, "shipped"),
        (3, 51, 1, -2, Decimal("-75.5"), "refunded"),
    ]


def test_loading_twice_equals_loading_once(shop: Shop) -> None:
    """Even the ids don't change; equal contents are stored once, and each delivery is recorded."""
    shop.reports.report([Order("r", day="2024-09-30"), Order("a")])
    shop.reports.increment(OTHER, [Order("b", day=OTHER), Order("c", day=OTHER, status="refunded")])
    shop.load("2024-09-29", OTHER)
    before = shop.query("SELECT * FROM mart.f_sales ORDER BY id")
    lines = shop.query("SELECT id, uniq_id, line_no FROM mart.f_sales_lines ORDER BY id")
    shop.fetch_report()
    shop.load("2024-09-29", OTHER)
    assert shop.query("SELECT * FROM mart.f_sales ORDER BY id") == before
    assert shop.query("SELECT id, uniq_id, line_no FROM mart.f_sales_lines ORDER BY id") == lines
    counts = "SELECT kind, count(DISTINCT fetch_id), count(*) FROM raw.fetch JOIN raw.file_delivery USING (fetch_id)"
    assert shop.query(f"{counts} GROUP BY kind ORDER BY kind") == [("increment", 1, 2), ("report", 1, 2)]


def test_the_mart_is_repaired_from_staging(shop: Shop) -> None:
    """Lost or corrupted rows are restored without calling the API; a day that was never staged keeps its rows."""
    shop.reports.increment(DAY, [Order("a"), Order("b", status="refunded")])
    shop.load(DAY)
    before = shop.query("SELECT * FROM mart.f_sales ORDER BY id")
    requests_before = shop.api.count("/get_increment")
    shop.query("DELETE FROM mart.f_sales WHERE status = 'refunded'")
    shop.query("UPDATE mart.f_sales SET customer_id = 0")
    shop.query(OLD_INSERT, 20241002, 500)
    shop.load(DAY, OTHER, selection=[F_SALES])
    assert shop.query("SELECT * FROM mart.f_sales WHERE source = 'report_api' ORDER BY id") == before
    assert shop.sales(OTHER) == [("legacy", 500)]
    assert shop.api.count("/get_increment") == requests_before
    # A load of the day also repairs the mart, even if its increment is no longer available.
    shop.query("DELETE FROM mart.f_sales WHERE status = 'shipped'")
    shop.reports.without_increment(DAY)
    shop.load(DAY)
    assert shop.query("SELECT * FROM mart.f_sales ORDER BY id") == before


def test_the_mart_follows_staging_that_was_loaded_alone(shop: Shop) -> None:
    """The mart is updated even if only the customer changed, with equal row counts, amounts and quantities."""
    shop.reports.increment(DAY, [Order("a"), Order("b", customer_id="52")])
    shop.load(DAY)
    for changed in (
        [Order("a"), Order("c", customer_id="52")],
        [Order("a", customer_id="53"), Order("c", item_id="4")],
    ):
        shop.reports.increment(DAY, changed)
        shop.load(DAY, selection=[*RAW, ORDERS])
        shop.reports.without_increment(DAY)
        shop.load(DAY)
        assert shop.query("SELECT count(*) FROM mart.f_sales") == [(2,)]
        different = shop.query(
            "SELECT s.uniq_id FROM staging.user_orders_log AS s LEFT JOIN mart.f_sales AS f ON f.id = s.sale_id"
            " WHERE (f.date_id, f.item_id, f.customer_id, f.city_id, f.amount)"
            " IS DISTINCT FROM (s.date_id, s.item_id, s.customer_id, s.city_id, s.payment_amount)"
        )
        assert different == []


def test_every_row_can_be_traced_to_its_line(shop: Shop) -> None:
    shop.reports.report([Order("r", day="2024-09-30"), Order("x")])
    shop.reports.increment(DAY, [Order("a"), Order("a"), Order("b")])
    shop.query(PARTNER_INSERT, 20241001, 900)
    shop.load("2024-09-30", DAY)
    rows = shop.query(
        "SELECT l.date_id, l.source, l.uniq_id, l.fetch_kind, l.line_no, f.path = l.file"
        " FROM mart.f_sales_lines AS l LEFT JOIN raw.fetch AS f USING (fetch_id) ORDER BY 1, 3"
    )
    assert rows == [
        (20240930, "report_api", "r", "report", 2, True),
        (20241001, "report_api", "a", "increment", 2, True),
        (20241001, "report_api", "b", "increment", 4, True),
        (20241001, "partner_orders", None, None, None, None),
    ]


def test_the_metadata_of_each_day_is_separate(dagster_shop: Shop) -> None:
    dagster_shop.reports.increment(DAY, [Order("a", amount="5"), Order("a", amount="5"), Order("b", status="refunded")])
    dagster_shop.reports.increment(OTHER, [Order("c", day=OTHER, amount="7")])
    dagster_shop.load(DAY, OTHER)

    def reported(key: dg.AssetKey, name: str) -> dict[str | None, object]:
        records = dagster_shop.instance.fetch_materializations(key, limit=10).records
        found = {record.partition_key: record.asset_materialization for record in records}
        return {day: made.metadata[name].value for day, made in found.items() if made is not None}

    assert reported(F_SALES, "rows") == {DAY: 2, OTHER: 1}
    assert reported(F_SALES, "refunded rows") == {DAY: 1, OTHER: 0}
    assert reported(ORDERS, "duplicates") == {DAY: 1, OTHER: 0}
    assert reported(RAW_ORDERS, "lines") == {DAY: 4, OTHER: 2}
