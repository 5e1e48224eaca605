"""The page /docs in a real browser: renders the operations, and sends no request to another host."""

from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Request, expect

from sales_assets_tests.services.mailings.fixtures import api_running

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("path", ["/docs", "/docs/"])
def test_api_documentation_works_without_the_internet(browser: Browser, warehouse_url: str, path: str) -> None:
    requested_urls: list[str] = []
    failed: list[str] = []

    def note(request: Request) -> None:
        if urlsplit(request.url).scheme not in ("data", "blob"):
            requested_urls.append(urlsplit(request.url).netloc)

    with api_running(warehouse_url) as api, browser.new_context(base_url=api.url) as context:
        page = context.new_page()
        page.on("request", note)
        page.on("response", lambda response: failed.append(response.url) if response.status >= 400 else None)
        page.goto(path)
        operation = page.locator(".opblock-summary", has_text="/api/v1/clients/list/")
        expect(operation).to_be_visible(timeout=60_000)
        expect(page.get_by_role("heading", name="sales_assets services")).to_be_visible()
        operation.click()
        expect(page.get_by_text("Clients in the order of their ids.").first).to_be_visible()
        assert set(requested_urls) == {urlsplit(api.url).netloc}
        assert failed == []
