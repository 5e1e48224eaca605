"""Data steward's pages in a real browser, without access to other hosts.

These tests also take the screenshots of docs/guides/steward-pages.md; `make screenshots` stores them.
"""

import os
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import dagster as dg
import pytest
from playwright.sync_api import Browser, Dialog, Page, ViewportSize, expect

from sales_assets.defs.automation.resolved_days import resolved_days
from sales_assets.defs.load_daily_sales import stored_specs
from sales_assets.postgres.warehouse import Warehouse
from sales_assets_tests.builders import Order
from sales_assets_tests.fixtures import Shop
from sales_assets_tests.services.steward.fixtures import PASSWORD, file_of_users, pages_running

pytestmark = pytest.mark.browser

DAY = "2024-10-02"
DESKTOP: ViewportSize = {"width": 1400, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
# This text would execute if it were not escaped.
HOSTILE = "<img src=x onerror=alert(1)></textarea><script>alert(2)</script>{{ 7 * 7 }}"
CONFIRMATIONS = (
    "Leave the selected rows out",
    "Undo the resolutions of the selected rows?",
    "Correct the selected rows?",
)
IMAGES = Path(__file__).parents[2] / "docs" / "images"
STORED = [spec.key for spec in stored_specs()]


@pytest.fixture
def shop(engine_shop: Shop) -> Shop:
    """A day with two valid and three rejected rows, one of which contains HTML and scripts."""
    shop = engine_shop
    shop.reports.increment(
        DAY,
        [
            Order("a", day=DAY),
            Order("b", day=DAY, amount="1e2"),
            Order("c", day=DAY, amount="75.50"),
            Order("d", day=DAY, quantity="-1", city_name=HOSTILE),
            Order("e", day=DAY, status=HOSTILE[:36]),
        ],
    )
    shop.load(DAY)
    return shop


@pytest.fixture
def url(warehouse_url: str, tmp_path: Path) -> Iterator[str]:
    with pages_running(warehouse_url, file_of_users(tmp_path, "anna")) as url:
        yield url


@pytest.fixture
def page(browser: Browser, shop: Shop, url: str) -> Iterator[Page]:
    """A logged-in tab. Fails the test on a request to another host, or if a script in a row opens a dialog."""
    requested_hosts: list[str] = []
    dialogs: list[str] = []

    def accept_dialog(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.accept()

    with browser.new_context(base_url=url, viewport=DESKTOP) as context:
        context.set_default_timeout(30_000)
        tab = context.new_page()
        tab.on(
            "request", lambda sent: requested_hosts.append(urlsplit(sent.url).netloc if "http" in sent.url[:5] else "")
        )
        tab.on("dialog", accept_dialog)
        tab.goto("/admin")
        tab.get_by_role("textbox", name="Username").fill("anna")
        tab.locator("input[name=password]").fill(PASSWORD)
        tab.get_by_role("button", name="Sign in").click()
        expect(tab.get_by_role("heading", name="Quarantine")).to_be_visible()
        yield tab
    assert set(requested_hosts) - {""} == {urlsplit(url).netloc}
    assert [text for text in dialogs if not text.startswith(CONFIRMATIONS)] == []


def fits_window(page: Page) -> bool:
    """Return whether the page is no wider than the window, on a phone and on a desktop."""
    wide = []
    for size in (PHONE, DESKTOP):
        page.set_viewport_size(size)
        wide.append(page.evaluate("document.documentElement.scrollWidth > window.innerWidth"))
    return not any(wide)


PICTURES = ("quarantine", "row", "resolutions", "day")


def picture(page: Page, name: str) -> None:
    """Take a screenshot for the guide."""
    assert name in PICTURES
    image = page.screenshot(full_page=True)
    assert image.startswith(b"\x89PNG")
    if os.environ.get("UPDATE_SCREENSHOTS"):
        (IMAGES / f"steward-{name}.png").write_bytes(image)


def test_a_row_is_corrected_and_its_day_loaded_again(page: Page, shop: Shop) -> None:
    """The steward filters the list, submits an invalid, then a valid correction, and sees totals before and after."""
    picture(page, "quarantine")
    expect(page.get_by_text("status '<img src=x onerror=alert(1)></textar' is unknown")).to_be_visible()
    page.get_by_label("Reason").fill("payment_amount … is not")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("input[name=id]")).to_have_count(1)
    assert fits_window(page)
    page.get_by_role("link", name="Row 1").click()
    expect(page.get_by_role("heading", name="Rejected row 1")).to_be_visible()
    # The neighbouring rows are shown: valid ones as staged, rejected ones as delivered.
    expect(page.get_by_text("uniq_id=a")).to_be_visible()
    expect(page.get_by_text("quantity '-1' is negative")).to_be_visible()
    assert fits_window(page)
    picture(page, "row")

    text = page.get_by_label("Corrected line")
    delivered = text.input_value()
    assert delivered == Order("b", day=DAY, amount="1e2").line(2, statuses=True)
    text.fill(delivered.replace("1e2", "ten"))
    page.get_by_role("button", name="Save correction").click()
    expect(page.get_by_text("Nothing was changed: payment_amount 'ten' is not a plain decimal number")).to_be_visible()
    expect(text).to_have_value(delivered.replace("1e2", "ten"))
    text.fill(delivered.replace("1e2", "100"))
    page.get_by_role("button", name="Save correction").click()
    expect(page.get_by_text("1 row resolved; 1 day is loaded again")).to_be_visible()
    expect(page.get_by_text("waiting", exact=True)).to_be_visible()
    expect(page.get_by_text("2 rows, 4.00 pieces, 275.50")).to_be_visible()

    # The sensor requests the day; the page refreshes itself and shows when the day is loaded.
    with dg.build_sensor_context(instance=dg.DagsterInstance.ephemeral()) as context:
        result = resolved_days(context, warehouse=Warehouse())
    assert isinstance(result, dg.SensorResult)
    assert [request.partition_key for request in result.run_requests or []] == [DAY]
    shop.load(DAY, selection=STORED)
    expect(page.get_by_text("loaded", exact=True)).to_be_visible()
    expect(page.get_by_text("3 rows, 6.00 pieces, 375.50")).to_be_visible()
    assert fits_window(page)
    picture(page, "resolutions")
    assert shop.sales() == [("a", 200), ("b", 100), ("c", Decimal("75.50"))]


def test_several_rows_are_discarded_together_on_a_phone(page: Page, shop: Shop) -> None:
    """The audit trail, opened from the menu, shows the resolutions."""
    page.set_viewport_size(PHONE)
    page.get_by_label("All rows of this page").check()
    page.get_by_role("button", name="Discard selected").click()  # the dialog is confirmed by the fixture
    expect(page.get_by_text("3 rows resolved; 1 day is loaded again")).to_be_visible()
    assert shop.quarantined() == []
    page.goto("/admin/quarantine")  # the page of resolutions reloads itself, and a click during a reload is lost
    page.get_by_role("button", name="Toggle navigation").first.click()
    page.get_by_role("link", name="Audit trail").click()
    expect(page.get_by_text("discard (page)")).to_have_count(3)
    assert fits_window(page)
    page.goto("/admin/quarantine?state=all")
    expect(page.locator(".badge").get_by_text("discarded", exact=True)).to_have_count(3)


def test_all_rows_that_match_are_discarded_and_reopened(page: Page, shop: Shop) -> None:
    """Selecting all matches includes other pages and disables the checkboxes. Enter in a text field does nothing."""
    wrong = [Order(f"w{number}", day=DAY, status="refnuded") for number in range(70)]
    shop.reports.increment(DAY, [Order("a", day=DAY), *wrong])
    shop.load(DAY)
    page.goto("/admin/quarantine?reason=refnuded")
    expect(page.locator("input[name=id]")).to_have_count(50)
    page.get_by_label("Replace in the selected lines").press("Enter")
    expect(page).to_have_url(re.compile(r"/admin/quarantine\?reason=refnuded$"))
    page.get_by_label("All 70 rows that match the filter").check()
    expect(page.locator("input[name=id]").first).to_be_disabled()
    assert fits_window(page)
    page.get_by_role("button", name="Discard selected").click()  # the dialog is confirmed by the fixture
    expect(page.get_by_text("70 rows resolved; 1 day is loaded again")).to_be_visible()
    assert len(shop.quarantined("discarded")) == 70

    page.goto("/admin/quarantine?reason=refnuded")
    page.get_by_label("State").select_option("discarded")
    page.get_by_role("button", name="Filter").click()
    page.get_by_label("All 70 rows that match the filter").check()
    page.get_by_role("button", name="Reopen selected").click()
    expect(page.get_by_text("70 rows reopened; 1 day is loaded again")).to_be_visible()
    assert len(shop.quarantined("discarded")) == 0

    page.goto("/admin/quarantine?reason=refnuded")
    page.get_by_label("All rows of this page").check()
    page.get_by_label("Replace in the selected lines").fill("refnuded")
    page.get_by_label("with", exact=True).fill("refunded")
    page.get_by_role("button", name="Correct selected").click()
    expect(page.get_by_text("50 rows resolved; 1 day is loaded again")).to_be_visible()
    shop.load(DAY, selection=STORED)
    assert len(shop.sales()) == 51


def test_a_row_is_discarded_and_reopened_on_its_page(page: Page, shop: Shop) -> None:
    page.get_by_role("link", name="Row 1").click()
    expect(page.get_by_role("button", name="Reopen the row")).to_have_count(0)
    page.get_by_role("button", name="Discard the row").click()
    page.get_by_role("link", name="Row 1").click()
    page.get_by_role("button", name="Reopen the row").click()
    expect(page.get_by_text("1 row reopened; 1 day is loaded again")).to_be_visible()
    page.get_by_role("link", name="Row 1").first.click()
    expect(page.get_by_text("anna: reopen (page)")).to_be_visible()
    shop.load(DAY, selection=STORED)
    assert len(shop.quarantined()) == 3


def test_a_day_is_explained_down_to_the_line(page: Page, shop: Shop) -> None:
    shop.reports.increment(DAY, [Order("z", day=DAY)], statuses=False)
    shop.load(DAY)
    page.goto("/admin/days")
    page.get_by_label("Day").fill(DAY)
    page.get_by_role("button", name="Explain").click()
    expect(page.get_by_role("heading", name=f"Where the numbers of {DAY} come from")).to_be_visible()
    expect(page.get_by_text("selected", exact=True)).to_be_visible()
    expect(page.get_by_text("has no statuses, unlike fetch 1")).to_be_visible()
    expect(page.get_by_role("cell", name="275.50")).to_be_visible()
    expect(page.get_by_text("line 4").last).to_be_visible()
    assert fits_window(page)
    picture(page, "day")
    page.get_by_role("link", name="Row 2").click()
    expect(page.get_by_label("Corrected line")).to_have_value(
        Order("d", day=DAY, quantity="-1", city_name=HOSTILE).line(4, statuses=True)
    )
