"""Peers do the same work as `sales-assets load`: they must produce the same mart."""

import datetime as dt
import re
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sales_assets.simulators.report_api.generate import Shop as GeneratedShop
from sales_assets.simulators.report_api.generate import generate
from sales_assets_tests.bench.peers.environment import NoEnvironmentError, environment, environment_or_skip
from sales_assets_tests.bench.peers.running import Peer, contents, dlt_and_dbt, pandas
from sales_assets_tests.builders import Order
from sales_assets_tests.fixtures import Shop

HERE = Path(__file__).parent
FIRST, LAST = dt.date(2024, 1, 1), dt.date(2024, 1, 4)
SALE = Order("of-the-test", day=LAST.isoformat(), status="shipped")
RENAMED = SALE.but(uniq_id="renamed", customer_id="7", last_name="Petrova")
CONFLICT = SALE.but(uniq_id="conflict")
ADDED = [
    SALE,
    SALE,
    SALE.but(status=" Refunded "),
    CONFLICT,
    CONFLICT.but(item_name="Other milk"),
    RENAMED.but(last_name="Ivanova", time="T23:00:00", uniq_id="later"),
    RENAMED,
    SALE.but(uniq_id="nameless", item_id="99", item_name="", status=""),
]


@pytest.fixture
def files(reports_folder: Path) -> list[Path]:
    """A report of two days without statuses and increments of the next two days, the last with ADDED at its end."""
    shop = GeneratedShop(seed=5, lines_per_day=100, repeats=0.4, refunds=0.2)
    generate(reports_folder, shop, first_day=FIRST, days=4, increments=2, oddities=False)
    last = reports_folder / "inc" / LAST.isoformat() / "user_orders_log_inc.csv"
    with last.open("a", encoding="utf-8", newline="") as opened:
        opened.writelines(f"{order.line(n, statuses=True)}\r\n" for n, order in enumerate(ADDED, start=101))
    return [
        reports_folder / "main" / "user_orders_log.csv",
        *sorted(reports_folder.glob("inc/*/user_orders_log_inc.csv")),
    ]


@pytest.fixture
def reports_folder(shop: Shop) -> Path:
    return shop.reports.folder


def check(peer: Peer, files: list[Path], shop: Shop, warehouse_url: str, url: str, folder: Path) -> None:
    shop.load(FIRST.isoformat(), LAST.isoformat())
    peer(files, url, folder)
    assert contents(url) == contents(warehouse_url)
    # The added rows, which distinguish similar rules, are in the mart.
    with psycopg.connect(url) as connection:
        sold = connection.execute(
            "SELECT quantity, amount FROM mart.f_sales WHERE customer_id = 51 ORDER BY 1"
        ).fetchall()
        names = connection.execute("SELECT last_name FROM mart.d_customer WHERE customer_id = 7").fetchall()
    assert sold == [(-2, -200), (2, 200), (2, 200)]
    assert names == [("Ivanova",)]


def test_pandas_produces_the_same_mart(
    shop: Shop, files: list[Path], warehouse_url: str, new_database: Callable[[str], str], tmp_path: Path
) -> None:
    check(pandas, files, shop, warehouse_url, new_database("template1"), tmp_path)


def test_dlt_and_dbt_produce_the_same_mart(
    shop: Shop, files: list[Path], warehouse_url: str, new_database: Callable[[str], str], tmp_path: Path
) -> None:
    environment_or_skip()
    check(dlt_and_dbt, files, shop, warehouse_url, new_database("template1"), tmp_path)


def test_all_requirements_are_locked_with_hashes() -> None:
    text = (HERE / "requirements.lock").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=\w)", text)
    assert [entry for entry in entries if "==" not in entry or "--hash=sha256:" not in entry] == []
    locked = {canonicalize_name(entry.partition("==")[0]) for entry in entries}
    requirements = [Requirement(line) for line in (HERE / "requirements.in").read_text(encoding="utf-8").splitlines()]
    assert {canonicalize_name(requirement.name) for requirement in requirements} <= locked
    assert not re.search(r"://|^\s*--(?!hash)", text, re.MULTILINE)


def test_missing_environment_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(NoEnvironmentError, match=re.escape(str(tmp_path))):
        environment(make=False)
