"""Browser and platform for the UI tests, shared by the tests of a module."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from sales_assets_tests.ui.chromium import NoBrowserError, chromium
from sales_assets_tests.ui.platform import Platform, running_platform

# A run is a process that first loads the code location, while other tests often keep both cores busy.
TIMEOUT_MS = 90_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium. If none starts, skip the tests; with REQUIRE_BROWSER=1, fail them."""
    try:
        with chromium() as started:
            yield started
    except NoBrowserError as error:
        if os.environ.get("REQUIRE_BROWSER"):
            pytest.fail(f"REQUIRE_BROWSER is set, and {error}")
        pytest.skip(f"THE UI IS NOT TESTED: {error}")


@pytest.fixture(scope="module")
def platform(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """The running platform, which is only started if there is a browser."""
    with running_platform(tmp_path_factory.mktemp("platform")) as running:
        yield running


@pytest.fixture
def page(browser: Browser, platform: Platform, tmp_path: Path) -> Iterator[Page]:
    """A tab on the platform's UI in a new browser context."""
    with browser.new_context(base_url=platform.url, viewport={"width": 1500, "height": 1000}) as context:
        context.set_default_timeout(30_000)  # for content already on the page; `expect` waits longer for results
        tab = context.new_page()
        yield tab
        # For debugging a failure: pytest keeps the folder.
        tab.screenshot(path=tmp_path / "last.png")
