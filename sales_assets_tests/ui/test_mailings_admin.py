"""Admin pages of the mailings in a real browser, without access to other hosts."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Request, expect

from sales_assets_tests.services.mailings.fixtures import Api, api_running

pytestmark = pytest.mark.browser

PASSWORD = "a-password-of-the-tests"


@pytest.fixture
def api(warehouse_url: str) -> Iterator[Api]:
    with api_running(warehouse_url, mailings_admin_user="anna", mailings_admin_password=PASSWORD) as api:
        yield api


@pytest.fixture
def page(browser: Browser, api: Api) -> Iterator[Page]:
    """A tab on the admin pages; fails the test if the page sends a request to another host."""
    requested_hosts: list[str] = []

    def note(request: Request) -> None:
        if urlsplit(request.url).scheme not in ("data", "blob"):
            requested_hosts.append(urlsplit(request.url).netloc)

    with browser.new_context(base_url=api.url, viewport={"width": 1500, "height": 1000}) as context:
        context.set_default_timeout(30_000)
        tab = context.new_page()
        tab.on("request", note)
        tab.goto("/admin")
        yield tab
    assert set(requested_hosts) == {urlsplit(api.url).netloc}


def log_in(page: Page, password: str = PASSWORD) -> None:
    page.get_by_role("textbox", name="Username").fill("anna")
    page.locator("input[name=password]").fill(password)
    page.get_by_role("button", name="Sign in").click()


def save(page: Page) -> None:
    page.get_by_role("button", name="Save", exact=True).click()


def test_a_wrong_password_is_refused(page: Page) -> None:
    expect(page.get_by_text("Remember me")).to_be_hidden()
    log_in(page, "guess")
    expect(page.get_by_text("Wrong name or password")).to_be_visible()
    page.goto("/admin/clients/list")
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    assert page.context.cookies() == [] or all(cookie["name"] != "sales_admin" for cookie in page.context.cookies())


def test_a_client_is_added_changed_and_removed(page: Page, api: Api) -> None:
    log_in(page)
    page.get_by_role("link", name="Clients").first.click()
    page.get_by_role("link", name="New Client").click()
    for name, value in (("phone", "123"), ("operator_code", "123"), ("timezone", "Europe/Moscow")):
        page.locator(f"[name={name}]").fill(value)
    save(page)
    # The page shows the error of the API's validation rule.
    expect(page.get_by_text("The phone must have '7XXXXXXXXXX' format")).to_be_visible()
    page.locator("[name=phone]").fill("79161234567")
    save(page)
    expect(page.get_by_role("cell", name="79161234567")).to_be_visible()
    assert api.send("GET", "/clients/list/").json()["results"] == [
        {"id": 1, "phone": "79161234567", "operator_code": "123", "tag": None, "timezone": "Europe/Moscow"}
    ]
    page.get_by_role("link", name="Edit").click()
    page.locator("[name=tag]").fill("VIP")
    save(page)
    expect(page.get_by_role("cell", name="VIP")).to_be_visible()
    page.goto("/admin/clients/list?q=nobody")
    expect(page.get_by_role("cell", name="79161234567")).to_be_hidden()
    page.goto("/admin/clients/list?q=6123")
    page.get_by_role("link", name="Delete").click()
    page.get_by_role("button", name="Yes, delete").click()
    expect(page.get_by_text("was successfully deleted")).to_be_visible()
    assert api.send("GET", "/clients/list/").json()["results"] == []


def test_a_mailing_is_added_paused_and_resumed(page: Page, api: Api) -> None:
    log_in(page)
    page.goto("/admin/mailings/create")
    for name, value in (("start_time", "2127-01-01"), ("text", "Привет"), ("end_time", "2126-01-01")):
        page.locator(f"[name={name}]").fill(value)
    save(page)
    expect(page.get_by_text("end must occur after start")).to_be_visible()
    page.locator("[name=end_time]").fill("2128-01-01T12:00+03:00")
    page.locator("[name=send_from]").fill("09:00")
    save(page)
    expect(page.get_by_text("send_from and send_until are given together or not at all")).to_be_visible()
    page.locator("[name=send_until]").fill("21:00")
    save(page)
    expect(page.get_by_role("cell", name="2128-01-01T09:00:00Z")).to_be_visible()
    assert len(api.enqueued) == 1
    for action, paused in (("Pause", True), ("Resume", False)):
        page.get_by_role("link", name=action).click()
        page.get_by_role("button", name="Yes, Proceed").click()
        expect(page.get_by_text("The mailing is paused" if paused else "The mailing is resumed")).to_be_visible()
        assert api.send("GET", "/mailings/1/detail/").json()["paused"] is paused
    # After the start a change is refused, with the same error as in the API.
    api.start(1, clients=[7])
    page.get_by_role("link", name="Edit").click()
    page.locator("[name=text]").fill("too late")
    save(page)
    expect(page.get_by_text("unable to update mailing with start time in the past")).to_be_visible()
    page.goto("/admin/messages/list?q=1")
    expect(page.get_by_role("cell", name="Pending")).to_be_visible()
    expect(page.get_by_role("link", name="Edit")).to_have_count(0)
