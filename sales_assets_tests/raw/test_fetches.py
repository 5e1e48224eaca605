"""Raw files: every delivery is recorded, every file is stored unchanged, and nothing is deleted or edited
(docs/data-contracts/day-rules.md, "Raw file").
"""

import hashlib
import json
from typing import Any

from sales_assets.simulators.report_api.faults import Faults
from sales_assets_tests.builders import Order
from sales_assets_tests.fixtures import RAW_ORDERS, Shop, stored_files

DAY = "2024-10-01"


def test_every_delivery_has_a_number_and_new_contents_are_stored(shop: Shop) -> None:
    """A later delivery, of equal or different contents, does not change earlier files and rows."""
    shop.reports.report([Order("r", day="2024-09-30")], price_log="Milk,100\n")
    shop.reports.increment(DAY, [Order("a")])
    shop.load(DAY)
    first_files, first_rows = stored_files(), shop.query("SELECT * FROM raw.fetch ORDER BY fetch_id")
    shop.load(DAY)
    assert stored_files() == first_files
    shop.reports.increment(DAY, [])
    shop.load(DAY)
    files, rows = stored_files(), shop.query("SELECT * FROM raw.fetch ORDER BY fetch_id")
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


def test_a_fetch_can_be_traced_to_its_response(shop: Shop) -> None:
    """Hash, size and line count match the file; the manifest next to it repeats them for use without the database."""
    shop.reports.increment(DAY, [Order("a"), Order("b")])
    shop.load(DAY)
    (row,) = shop.query(
        "SELECT path, sha256, bytes, line_count, url, report_id, increment_id FROM raw.fetch JOIN raw.delivery"
        " USING (delivery_id) WHERE raw.fetch.kind = 'increment'"
    )
    path, sha256, size, lines, url, report_id, increment_id = row
    files = stored_files()
    delivered = (shop.reports.folder / "inc" / DAY / "user_orders_log_inc.csv").read_bytes()
    assert files[path] == delivered
    assert (sha256, size, lines) == (hashlib.sha256(delivered).hexdigest(), len(delivered), 3)
    assert "?" not in url
    manifest = json.loads(files[f"{path}.json"])
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


def test_days_without_an_increment_are_requested_and_materialized(dagster_shop: Shop) -> None:
    """A day too early is recorded with the service's reason, a day too late without one; neither has a file or row."""
    dagster_shop.reports.report([Order("r", day="2024-09-29")])
    dagster_shop.load("2024-09-29", "2024-09-30", selection=[RAW_ORDERS])
    stored_answers = dagster_shop.query(
        "SELECT first_day::text, outcome, reason FROM raw.delivery WHERE kind = 'increment' ORDER BY 1"
    )
    assert stored_answers == [
        ("2024-09-29", "not_found", "no increments on or before 2024-09-29, the last day of the report"),
        ("2024-09-30", "not_found", "NOT FOUND without a reason"),
    ]
    assert dagster_shop.materialized(RAW_ORDERS) == {"2024-09-29", "2024-09-30"}
    assert not [name for name in stored_files() if "_inc/" in name]


def test_a_report_without_its_order_file_is_stored(shop: Shop) -> None:
    """The reason is recorded, the delivered files are stored, and increments can be requested by the report's id."""
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


def test_without_a_report_no_day_can_be_requested(dagster_shop: Shop) -> None:
    from sales_assets_tests.builders import load_days
    from sales_assets_tests.fixtures import failure_of

    run = load_days(dagster_shop.instance, DAY)
    assert not run.success
    assert "no report was fetched yet" in failure_of(run)
    assert dagster_shop.materialized(RAW_ORDERS) == set()


def test_expired_links_and_interrupted_downloads_are_repeated(shop: Shop) -> None:
    shop.reports.increment(DAY, [Order("a")] * 200, price_log="Milk,100\n")
    shop.fetch_report()
    shop.fault(Faults(expired_links=1, cut=0.3, bad_gateway=0.1, seed=4))
    shop.load(DAY)
    assert shop.sales() == [("a", 200)]
    assert shop.query("SELECT lines, kept, repeats FROM staging.fetch_reading ORDER BY fetch_id")[0] == (200, 1, 199)


def test_expired_links_of_a_report_are_requested_again(shop: Shop) -> None:
    shop.reports.report([Order("a", day=DAY)], price_log="Milk,100\n")
    shop.fault(Faults(expired_links=1))
    shop.fetch_report()
    fetched = shop.query("SELECT file FROM raw.fetch JOIN raw.delivery USING (delivery_id) WHERE outcome = 'delivered'")
    assert {file for (file,) in fetched} == {"user_orders_log", "price_log"}
    assert shop.api.count("/get_report") == 2
