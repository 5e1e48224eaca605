"""``mart.f_research``: pieces and amounts by day, category and region, compared with the report files."""

import datetime as dt
from decimal import Decimal
from pathlib import Path

from sales_assets.simulators.report_api.generate import Shop as Generated
from sales_assets.simulators.report_api.generate import generate
from sales_assets_tests.fixtures import Shop
from sales_assets_tests.reference_model import lines_by_day

ROWS = "SELECT date_id, category_id, geo_id, sales_qty, sales_amt FROM mart.f_research ORDER BY 1, 2, 3"


def expected(folder: Path) -> list[tuple[int, int, int, Decimal, Decimal]]:
    """Return the mart rows expected for a folder of report files."""
    return sorted(
        (day, int(line["category_id"]), int(line["geo_id"]), Decimal(line["sales_qty"]), Decimal(line["sales_amt"]))
        for day, lines in lines_by_day(folder, "custom*_research", "date_id").items()
        for line in lines
    )


def test_mart_rows_equal_the_report_files(shop: Shop) -> None:
    """Days whose increment lacks the file are included."""
    first = dt.date(2024, 9, 1)
    generate(shop.reports.folder, Generated(seed=6, lines_per_day=5), first_day=first, days=40, increments=10)
    shop.load("2024-09-01", "2024-10-10")
    rows = shop.query(ROWS)
    assert len(rows) > 1000
    assert rows == expected(shop.reports.folder)


def test_a_day_is_replaced_as_a_whole(shop: Shop) -> None:
    """Loading twice changes nothing; a category missing from a new file is deleted."""
    header, day = "date_id,category_id,geo_id,sales_qty,sales_amt\n", "2024-10-01"
    shop.reports.increment(day, None, custom_research=f"{header}{day},1001,1,5,1920\n{day},1002,3,0,0\n")
    for _ in range(2):
        shop.load(day)
        assert shop.query(ROWS) == [(20241001, 1001, 1, 5, 1920), (20241001, 1002, 3, 0, 0)]
    shop.reports.increment(day, None, custom_research=f"{header}{day},1002,3,2,0.50\n")
    shop.load(day)
    assert shop.query(ROWS) == [(20241001, 1002, 3, 2, Decimal("0.50"))]
