"""Raw: every delivery on record, every file kept as it came, nothing deleted or edited
(docs/data-contracts/day-rules.md, "Raw file").
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from sales_assets.simulators.report_api.faults import Faults
from sales_assets_tests.builders import Order
from sales_assets_tests.fixtures import RAW_ORDERS, Shop

DAY = "2024-10-01"


def kept_files(tmp_path: Path) -> dict[str, bytes]:
    root = tmp_path / "home" / "raw"
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_every_delivery_has_a_number_and_new_contents_are_kept(shop: Shop, tmp_path: Path) -> None:
    """Earlier files and rows are as they were after each later delivery, of the same contents or of others."""
    shop.reports.report([Order("r", day="2024-09-30")], price_log="Milk,100\n")
    shop.reports.increment(DAY, [Order("a")])
    shop.load(DAY)
    first_files, first_rows = kept_files(tmp_path), shop.query("SELECT * FROM raw.fetch ORDER BY fetch_id")
    shop.load(DAY)
    assert kept_files(tmp_path) == first_files
    shop.reports.increment(DAY, [])
    shop.load(DAY)
    files, rows = kept_files(tmp_path), shop.query("SELECT * FROM raw.fetch ORDER BY fetch_id")
    assert {name: files[name] for name in first_files} == first_files
    assert rows[: len(first_rows)] == first_rows
    found = shop.query(
        "SELECT file, kind, first_day::text, last_day::text, fetch_id FROM raw.fetch"
        " ORDER BY kind DESC, file DESC, fetch_id"
    )
    report, prices, whole, empty = (fetch for *_, fetch in found)
    assert [row[:-1] for row in found] == [
        ("user_orders_log", "report", "2024-09-30", "2024-09-30"),
        ("price_log", "report", "2024-09-30", "2024-09-30"),
        ("user_orders_log", "increment", DAY, DAY),
        ("user_orders_log", "increment", DAY, DAY),
    ]
    deliveries = shop.query("SELECT number, fetch_id FROM raw.file_delivery ORDER BY number")
    assert {fetch for _, fetch in deliveries[:2]} == {report, prices}
    assert [fetch for _, fetch in deliveries[2:]] == [whole, whole, empty]
    assert [number == fetch for number, fetch in deliveries] == [True, True, True, False, True]
    paths = shop.query("SELECT path FROM raw.fetch ORDER BY fetch_id OFFSET 2")
    assert [files[path].count(b"\n") for (path,) in paths] == [2, 1]


def test_a_fetch_can_be_traced_to_the_answer_it_came_with(shop: Shop, tmp_path: Path) -> None:
    """Hash, size and lines are those of the file; the manifest beside it says the same without the database."""
    shop.reports.increment(DAY, [Order("a"), Order("b")])
    shop.load(DAY)
    (row,) = shop.query(
        "SELECT path, sha256, bytes, line_count, url, report_id, increment_id FROM raw.fetch JOIN raw.delivery"
        " USING (delivery_id) WHERE raw.fetch.kind = 'increment'"
    )
    path, sha256, size, lines, url, report_id, increment_id = row
    file = tmp_path / "home" / "raw" / path
    delivered = (shop.reports.folder / "inc" / DAY / "user_orders_log_inc.csv").read_bytes()
    assert file.read_bytes() == delivered
    assert (sha256, size, lines) == (hashlib.sha256(delivered).hexdigest(), len(delivered), 3)
    assert "?" not in url
    manifest = json.loads(file.with_name(f"{file.name}.json").read_text())
    expected: dict[str, Any] = {
        "file": "user_orders_log",
        "url": url,
        "sha256": sha256,
        "bytes": size,
        "lines": lines,
        "day": DAY,
        "report_id": report_id,
        "increment_id": increment_id,
    }
    assert {key: manifest[key] for key in expected} == expected
    assert path.startswith(f"user_orders_log_inc/{DAY}/")


def test_days_without_an_increment_are_asked_and_done(dagster_shop: Shop, tmp_path: Path) -> None:
    """Too early with the service's reason, too late without one: recorded, materialized, no file, no row."""
    dagster_shop.reports.report([Order("r", day="2024-09-29")])
    dagster_shop.load("2024-09-29", "2024-09-30", selection=[RAW_ORDERS])
    answers = dagster_shop.query(
        "SELECT first_day::text, outcome, reason FROM raw.delivery WHERE kind = 'increment' ORDER BY 1"
    )
    assert answers == [
        ("2024-09-29", "not_found", "no increments on or before 2024-09-29, the last day of the report"),
        ("2024-09-30", "not_found", "NOT FOUND without a reason"),
    ]
    assert dagster_shop.materialized(RAW_ORDERS) == {"2024-09-29", "2024-09-30"}
    assert not [name for name in kept_files(tmp_path) if "_inc/" in name]


def test_a_report_without_its_order_file_is_kept(shop: Shop) -> None:
    """It is told; the files that came are taken, and increments can be asked for by its id."""
    shop.reports.report([Order("r", day="2024-09-29")], price_log="Milk,100\n")
    shop.fault(Faults(lost_file="user_orders_log"))
    shop.fetch_report()
    shop.fault(None)
    shop.reports.increment(DAY, [Order("a")])
    shop.load("2024-09-29", DAY)
    assert shop.sales() == [("a", 200)]
    assert shop.query("SELECT date_id, price FROM staging.price_log") == [(20240929, 100)]
    ((outcome, reason),) = shop.query("SELECT outcome, reason FROM raw.delivery WHERE kind = 'report'")
    assert outcome == "delivered"
    assert reason.startswith("no order file delivered: ")


def test_without_a_report_no_day_can_be_asked_for(dagster_shop: Shop) -> None:
    from sales_assets_tests.builders import load_days
    from sales_assets_tests.fixtures import failure_of

    run = load_days(dagster_shop.instance, DAY)
    assert not run.success
    assert "no report was fetched yet" in failure_of(run)
    assert dagster_shop.materialized(RAW_ORDERS) == set()


def test_expired_links_and_torn_downloads_are_mended(shop: Shop) -> None:
    shop.reports.increment(DAY, [Order("a")] * 200, price_log="Milk,100\n")
    shop.fetch_report()
    shop.fault(Faults(expired_links=1, cut=0.3, bad_gateway=0.1, seed=4))
    shop.load(DAY)
    assert shop.sales() == [("a", 200)]
    assert shop.query("SELECT lines, kept, repeats FROM staging.fetch_reading ORDER BY fetch_id")[0] == (200, 1, 199)


def test_expired_links_of_a_report_are_asked_for_again(shop: Shop) -> None:
    shop.reports.report([Order("a", day=DAY)], price_log="Milk,100\n")
    shop.fault(Faults(expired_links=1))
    shop.fetch_report()
    fetched = shop.query("SELECT file FROM raw.fetch JOIN raw.delivery USING (delivery_id) WHERE outcome = 'delivered'")
    assert {file for (file,) in fetched} == {"user_orders_log", "price_log"}
    assert shop.api.count("/get_report") == 2
