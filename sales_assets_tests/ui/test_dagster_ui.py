"""What a person does in the Dagster UI, in a real browser: look at the graph, load days, read the results."""

from decimal import Decimal

import pytest
from playwright.sync_api import Page, expect

from sales_assets_tests.ui.conftest import PATIENCE_MS
from sales_assets_tests.ui.platform import Platform

pytestmark = pytest.mark.browser

F_SALES = "/assets/mart/f_sales"
LOAD_DAYS = "/locations/sales_assets/jobs/load_days"

expect.set_options(timeout=PATIENCE_MS)


def materialize(page: Page, days: str) -> None:
    """Press Materialize on the page, choose days as the dialog spells them, launch, and go to where it is run."""
    page.get_by_role("button", name="Materialize").first.click()
    dialog = page.get_by_role("dialog")
    selection = dialog.get_by_role("textbox").first
    selection.fill(days)
    selection.press("Enter")
    dialog.get_by_role("button", name="Launch").click()
    view = page.get_by_role("link", name="View", exact=True)
    expect(view).to_be_attached()
    # Not clicked: the message that holds the link slides in and out, and on a busy machine it never stood still.
    page.goto(view.get_attribute("href") or "")


def date_id(platform: Platform, age: int) -> int:
    return int(platform.day(age).replace("-", ""))


def test_the_graph_leads_from_the_raw_files_to_the_mart(page: Page) -> None:
    page.set_viewport_size({"width": 2400, "height": 2400})  # the graph has only the assets that it shows
    page.goto("/asset-groups")
    for group in ("raw", "staging", "mailings"):
        expect(page.get_by_role("button", name=group).first).to_be_visible()
    page.get_by_text("mart", exact=True).last.click()  # the box in the graph; the list stands before it
    page.get_by_text("f_sales", exact=True).first.click()
    expect(page.get_by_text("a row per line", exact=False).first).to_be_visible()


def test_a_day_is_loaded(page: Page, platform: Platform) -> None:
    assert platform.sales(1) == []
    page.goto(LOAD_DAYS)
    materialize(page, platform.day(1))
    expect(page.get_by_text("Success", exact=True).first).to_be_visible()
    page.goto(f"{F_SALES}?view=partitions&partition={platform.day(1)}")
    expect(page.get_by_text("Materialized", exact=True)).to_be_visible()
    expect(page.get_by_text("151.00", exact=True)).to_be_visible()
    assert platform.sales(1) == [(date_id(platform, 1), 2, Decimal("151.00"))]


def test_a_day_of_the_mart_is_made_again_from_staging(page: Page, platform: Platform) -> None:
    before = platform.sales(20)
    platform.query("DELETE FROM mart.f_sales WHERE date_id = %s", date_id(platform, 20))
    page.goto(F_SALES)
    materialize(page, platform.day(20))
    expect(page.get_by_text("Success", exact=True).first).to_be_visible()
    assert platform.sales(20) == before == [(date_id(platform, 20), 1, Decimal("220.00"))]


def test_a_backfill_is_one_run_and_shows_its_checks(page: Page, platform: Platform) -> None:
    page.goto(LOAD_DAYS)
    materialize(page, f"[{platform.day(7)}...{platform.day(4)}]")
    # Targeted, in progress, succeeded, failed.
    expect(page.get_by_role("row", name="100% completed 4 0 4 0")).to_be_visible()
    page.get_by_role("tab", name="Runs").click()
    expect(page.get_by_role("link", name="load_days")).to_have_count(1)
    assert platform.sales(7, 6, 5, 4) == [
        (date_id(platform, age), 2, Decimal(f"{150 + age}.00")) for age in (7, 6, 5, 4)
    ]
    page.goto(f"{F_SALES}?view=checks")
    page.get_by_text("equal_to_staging").first.click()
    expect(page.get_by_text("Passed", exact=True).first).to_be_visible()
    expect(page.get_by_text(f"{platform.day(7)} to {platform.day(4)}").first).to_be_visible()


def test_the_page_of_the_mart_says_what_it_is_and_plots_its_days(page: Page) -> None:
    page.goto(F_SALES)
    expect(page.get_by_text("Refunded rows are negative, so every SUM is net.")).to_be_visible()
    expect(page.get_by_text("Pieces; negative for refunded lines")).to_be_visible()
    page.get_by_role("button", name="Plots").first.click()
    expect(page.get_by_text("net amount", exact=True).first).to_be_visible()
    expect(page.locator("canvas").first).to_be_visible()
