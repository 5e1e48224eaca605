"""Documentation site in a real browser: pages, diagrams and search work without the internet."""

import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, expect

from sales_assets_tests.site.__main__ import build

pytestmark = pytest.mark.browser


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder over HTTP; yield its URL."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_pages_diagrams_and_search_send_no_request_to_other_hosts(browser: Browser, tmp_path: Path) -> None:
    done = build(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    requested_urls: list[str] = []
    with served(tmp_path / "html") as url, browser.new_context(base_url=url) as context:
        context.set_default_timeout(60_000)
        page = context.new_page()
        page.on("request", lambda request: requested_urls.append(request.url))
        page.goto("/architecture.html")
        expect(page.locator("figure.diagram svg").first).to_be_visible()
        page.get_by_role("button", name="Search").first.click()
        page.get_by_placeholder("Search").first.fill("resolve rejected rows")
        expect(page.get_by_text(re.compile(r"\d+ results"))).to_be_visible(timeout=60_000)
    assert {urlsplit(address).netloc for address in requested_urls if address.startswith("http")} == {
        urlsplit(url).netloc
    }
