"""The browser and the platform behind the tests of the UI, one of each for all of them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from sales_assets_tests.ui.chromium import NoBrowserError, chromium
from sales_assets_tests.ui.platform import Platform, running_platform

# A run is a process that loads the code location first; two cores are often busy with other tests.
PATIENCE_MS = 90_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium. Without one the tests are skipped, with REQUIRE_BROWSER=1 they fail."""
    try:
        with chromium() as started:
            yield started
    except NoBrowserError as error:
        if os.environ.get("REQUIRE_BROWSER"):
            pytest.fail(f"REQUIRE_BROWSER is set, and {error}")
        pytest.skip(f"THE UI IS NOT TESTED: {error}")


@pytest.fixture(scope="module")
def platform(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """The running platform; it is not started where there is no browser to look at it."""
    with running_platform(tmp_path_factory.mktemp("platform")) as running:
        yield running


@pytest.fixture
def page(browser: Browser, platform: Platform, tmp_path: Path) -> Iterator[Page]:
    """A tab of its own on the platform's UI, with no memory of other tests."""
    with browser.new_context(base_url=platform.url, viewport={"width": 1500, "height": 1000}) as context:
        context.set_default_timeout(30_000)  # what is on the page already; results are waited for by `expect`
        tab = context.new_page()
        yield tab
        # For whoever looks into a failure: pytest keeps the folder.
        tab.screenshot(path=tmp_path / "last.png")
