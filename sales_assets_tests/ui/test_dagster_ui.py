"""Dagster UI in a real browser: the asset graph, loading days, reading the results."""

from decimal import Decimal

import pytest
from playwright.sync_api import Page, expect

from sales_assets_tests.ui.conftest import TIMEOUT_MS
from sales_assets_tests.ui.platform import BROKEN_DAY, Platform
from sales_assets_tests.ui.screenshots import SCENES

pytestmark = pytest.mark.browser

F_SALES = "/assets/mart/f_sales"
LOAD_DAYS = "/locations/sales_assets/jobs/load_days"

expect.set_options(timeout=TIMEOUT_MS)


def materialize(page: Page, days: str) -> None:
    """Click Materialize, enter the days in the syntax of the dialog, launch, and open the page of the run."""
    page.get_by_role("button", name="Materialize").first.click()
    dialog = page.get_by_role("dialog")
    selection = dialog.get_by_role("textbox").first
    selection.fill(days)
    selection.press("Enter")
    dialog.get_by_role("button", name="Launch").click()
    view = page.get_by_role("link", name="View", exact=True)
    expect(view).to_be_attached()
    # Not clicked: the link is in a message that slides in and out, and on a busy machine never stopped moving.
    page.goto(view.get_attribute("href") or "")


def date_id(platform: Platform, age: int) -> int:
    return int(platform.day(age).replace("-", ""))


def test_asset_graph_shows_the_groups_and_the_mart(page: Page) -> None:
    page.set_viewport_size({"width": 2400, "height": 5000})  # the graph only contains the assets inside the window
    page.goto("/asset-groups")
    for group in ("raw", "staging", "mailings"):
        expect(page.get_by_role("button", name=group).first).to_be_visible()
    page.locator("[data-tooltip=mart]").click()  # the box in the graph, which is drawn after the list next to it
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


def test_day_of_the_mart_is_materialized_again_from_staging(page: Page, platform: Platform) -> None:
    before = platform.sales(20)
    platform.query("DELETE FROM mart.f_sales WHERE date_id = %s", date_id(platform, 20))
    page.goto(F_SALES)
    materialize(page, platform.day(20))
    expect(page.get_by_text("Success", exact=True).first).to_be_visible()
    assert platform.sales(20) == before == [(date_id(platform, 20), 1, Decimal("220.00"))]


def test_backfill_is_one_run_with_its_checks(page: Page, platform: Platform) -> None:
    page.goto(LOAD_DAYS)
    materialize(page, f"[{platform.day(7)}...{platform.day(4)}]")
    # Numbers of targeted, in progress, succeeded and failed partitions.
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


def test_page_of_the_mart_has_descriptions_and_plots(page: Page) -> None:
    page.goto(F_SALES)
    expect(page.get_by_text("Refunded rows are negative, so every SUM is net.")).to_be_visible()
    expect(page.get_by_text("Pieces; negative for refunded lines")).to_be_visible()
    page.get_by_role("button", name="Plots").first.click()
    expect(page.get_by_text("net amount", exact=True).first).to_be_visible()
    expect(page.locator("canvas").first).to_be_visible()


def test_pages_of_the_screenshots_exist(page: Page, platform: Platform) -> None:
    platform.load(BROKEN_DAY)
    for show in SCENES.values():
        show(page, platform)


def test_the_charts_are_shown(page: Page, platform: Platform) -> None:
    """Dagster renders the images in the metadata, and the file stored next to them is the HTML page."""
    page.goto("/assets/reports/sales_overview")
    page.get_by_role("button", name="Materialize").first.click()
    page.get_by_role("button", name="Confirm").click()  # Dagster warns that no partner orders were loaded
    view = page.get_by_role("link", name="View", exact=True)
    expect(view).to_be_attached()
    page.goto(view.get_attribute("href") or "")
    expect(page.get_by_text("Success", exact=True).first).to_be_visible()
    page.goto("/assets/reports/sales_overview")
    page.get_by_text("[Show Markdown]").first.click()
    charts = page.get_by_role("dialog").locator("img")  # without the icon of the dialog
    expect(charts).to_have_count(5)
    for chart in charts.all():
        expect(chart).to_have_js_property("naturalWidth", 1120)
        assert len(chart.get_attribute("alt") or "") > 40
    assert (platform.home / "sales_overview.html").stat().st_size > 50_000
