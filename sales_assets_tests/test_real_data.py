"""The real service's files, if stored next to the checkout: known totals, and the rows of the reference model."""

import datetime as dt
import shutil
from decimal import Decimal
from pathlib import Path

import pytest

from sales_assets_tests.fixtures import Shop
from sales_assets_tests.mart import test_f_activity, test_f_research
from sales_assets_tests.reference_model import Delivered, mart, read

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real files are not at {DATA}")


def deliveries(folder: Path) -> list[Delivered]:
    found = []
    for path in folder.glob("main/user_order*_log.csv"):
        days = sorted({cells[:10] for line in path.read_text().splitlines()[1:] for cells in line.split(",")[2:3]})
        found.append(
            Delivered("report", dt.date.fromisoformat(days[0]), dt.date.fromisoformat(days[-1]), path.read_text())
        )
    for path in sorted(folder.glob("inc/*/user_order*_log_inc.csv")):
        day = dt.date.fromisoformat(path.parent.name)
        found.append(Delivered("increment", day, day, path.read_text()))
    return found


@pytest.mark.parametrize(
    ("name", "first", "last", "rows", "refunded", "amount", "quantity"),
    [
        ("report-2024-09", "2024-09-08", "2024-10-02", 4722, 16, 2416000, 14137),
        ("increments-2023-04", "2023-04-07", "2023-04-19", 2478, 75, None, None),
    ],
)
def test_real_files_produce_the_known_mart(
    shop: Shop, name: str, first: str, last: str, rows: int, refunded: int, amount: int | None, quantity: int | None
) -> None:
    shutil.copytree(DATA / name, shop.reports.folder, dirs_exist_ok=True)
    shop.load(first, last)
    totals = shop.query(
        "SELECT count(*), count(*) FILTER (WHERE status = 'refunded'), sum(amount), sum(quantity) FROM mart.f_sales"
    )
    assert totals[0][:2] == (rows, refunded)
    if amount is not None:
        assert totals[0][2:] == (Decimal(amount), Decimal(quantity or 0))

    given = deliveries(DATA / name)
    start, end = dt.date.fromisoformat(first), dt.date.fromisoformat(last)
    days = [start + dt.timedelta(days=n) for n in range((end - start).days + 1)]
    found = shop.query(
        "SELECT f.date_id, l.uniq_id, item_id, customer_id, city_id, quantity, amount, f.status"
        " FROM mart.f_sales AS f JOIN mart.f_sales_lines AS l USING (id)"
    )
    assert sorted(found) == mart(given, days)
    counts = shop.query(
        "SELECT kept, repeats, bad FROM staging.fetch_reading JOIN raw.fetch USING (fetch_id)"
        " WHERE file = 'user_orders_log'"
    )
    readings = [read(delivered) for delivered in given]
    assert sorted(counts) == sorted((len(reading.kept), reading.repeats, len(reading.bad)) for reading in readings)
    assert shop.quarantined() == []
    for mart_of in (test_f_activity, test_f_research):
        assert shop.query(mart_of.ROWS) == mart_of.expected(DATA / name)
    if name == "report-2024-09":
        activity = shop.query("SELECT count(*), sum(events), sum(quantity) FROM mart.f_activity")
        research = shop.query("SELECT count(*), sum(sales_qty), sum(sales_amt) FROM mart.f_research")
        assert (activity, research) == ([(284, 287, 3327)], [(720, 3410, 1309440)])
