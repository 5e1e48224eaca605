"""Pages of the Dagster UI shown in the guides. `make screenshots` takes the screenshots again.

A test opens each page and checks the content that its screenshot illustrates, so that guides show only existing pages.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import FloatRect, Page, expect

from sales_assets_tests.ui.chromium import chromium
from sales_assets_tests.ui.platform import BROKEN_DAY, Platform, running_platform

# The asset groups of a platform without LAKE_URL.
GROUPS = ("sources", "raw", "staging", "mart", "mailings", "reports")
FOLDER = Path(__file__).resolve().parents[2] / "docs" / "images"
SIZE = {"width": 1300, "height": 760}
# The graph is scaled to the window; at this size its names are readable.
GRAPH_SIZE = {"width": 2000, "height": 1500}
_MARGIN = 20
# A run is a process that first loads the code location, while other tests often keep both cores busy.
TIMEOUT_MS = 90_000


def asset_graph(page: Page, platform: Platform) -> None:
    """Show the asset graph: the tables of the mart, and the other groups as boxes."""
    page.set_viewport_size(GRAPH_SIZE)  # type: ignore[arg-type]
    page.goto("/asset-groups?expanded=global%40global%3Amart")
    for group in GROUPS:
        expect(page.locator(f"svg [data-tooltip={group}]").first).to_be_visible(timeout=TIMEOUT_MS)
    expect(page.locator("svg foreignObject").get_by_text("f_sales", exact=True)).to_be_visible(timeout=TIMEOUT_MS)
    # The graph moves until it fits into the window: wait until all boxes are at the same positions twice in a row.
    page.wait_for_function(
        """() => {
            const boxes = [...document.querySelectorAll("svg foreignObject")].map((box) => box.getBoundingClientRect());
            const now = JSON.stringify(boxes);
            const stays = now === window.boxesBefore;
            window.boxesBefore = now;
            return stays && boxes.every((box) => box.left >= 0 && box.top >= 0 && box.right <= window.innerWidth
                                                 && box.bottom <= window.innerHeight);
        }""",
        polling=500,
        timeout=TIMEOUT_MS,
    )


def _graph_only(page: Page) -> FloatRect:
    """Return the part of the page that contains the boxes of the graph.

    The window is enlarged, which moves the controls at its edges away, but not the graph.
    """
    page.set_viewport_size({side: length + 400 for side, length in GRAPH_SIZE.items()})  # type: ignore[arg-type]
    boxes = [box for one in page.locator("svg foreignObject").all() if (box := one.bounding_box())]
    left, top = min(box["x"] for box in boxes) - _MARGIN, min(box["y"] for box in boxes) - _MARGIN
    right = max(box["x"] + box["width"] for box in boxes) + _MARGIN
    bottom = max(box["y"] + box["height"] for box in boxes) + _MARGIN
    return {"x": left, "y": top, "width": right - left, "height": bottom - top}


def run(page: Page, platform: Platform) -> None:
    """Show the newest run with its log, which names each step."""
    newest = {"query": "{ runsOrError(limit: 1) { ... on Runs { results { runId } } } }"}
    response = page.request.post("/graphql", data=newest).json()
    page.goto(f"/runs/{response['data']['runsOrError']['results'][0]['runId']}")
    expect(page.get_by_text("Success", exact=True).first).to_be_visible(timeout=TIMEOUT_MS)


def partitions(page: Page, platform: Platform) -> None:
    """Show the partitions of mart.f_sales: the loaded days, and the metadata of one day."""
    page.goto(f"/assets/mart/f_sales?view=partitions&partition={platform.day(20)}")
    expect(page.get_by_text("Materialized", exact=True).first).to_be_visible(timeout=TIMEOUT_MS)


def quarantine(page: Page, platform: Platform) -> None:
    """Show the warning of a day with a rejected row: file, line and reason."""
    page.goto("/assets/staging/user_orders_log?view=checks")
    page.get_by_text("quarantine_empty").first.click()
    expect(page.get_by_text("status '...' is unknown").first).to_be_visible(timeout=TIMEOUT_MS)


SCENES: dict[str, Callable[[Page, Platform], None]] = {
    "asset-graph": asset_graph,
    "run": run,
    "partitions": partitions,
    "quarantine": quarantine,
}


def main() -> int:
    """Start a platform, load a day with a rejected row, and take the screenshots."""
    with tempfile.TemporaryDirectory() as folder, running_platform(Path(folder)) as platform, chromium() as browser:
        platform.load(BROKEN_DAY)
        for name, show in SCENES.items():
            with browser.new_context(base_url=platform.url, viewport=SIZE, device_scale_factor=1) as context:  # type: ignore[arg-type]
                context.set_default_timeout(TIMEOUT_MS)
                page = context.new_page()
                show(page, platform)
                page.wait_for_load_state("networkidle")
                clip = _graph_only(page) if show is asset_graph else None
                page.screenshot(path=FOLDER / f"{name}.png", clip=clip)
    return 0


if __name__ == "__main__":
    sys.exit(main())
