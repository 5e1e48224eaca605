"""Documentation site: builds without a warning, and no page, link, diagram or source file is missing."""

import re
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from sales_assets_tests.site.__main__ import CONFIG, build
from sales_assets_tests.site.diagrams import FOLDER, DiagramNotDrawnError, sources, svg
from sales_assets_tests.site.pages import DOCS, write_pages
from sales_assets_tests.ui.screenshots import SCENES
from sales_assets_tests.ui.test_steward_pages import PICTURES as STEWARD_PICTURES


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site."""
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "html"


class _Targets(HTMLParser):
    """Parser that collects the references of an HTML page: links, images, styles and scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "a" and (link := values.get("href")):
            self.links.append(link)
        elif target := values.get("src") or (values.get("href") if tag == "link" else None):
            self.loaded.append(target)


def targets(page: Path) -> _Targets:
    found = _Targets()
    found.feed(page.read_text(encoding="utf-8"))
    return found


def in_nav(items: list[object]) -> Iterator[str]:
    for item in items:
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            for value in item.values():
                yield from in_nav(value if isinstance(value, list) else [value])


def test_every_page_is_in_the_navigation_once() -> None:
    listed = list(in_nav(tomllib.loads(CONFIG.read_text(encoding="utf-8"))["project"]["nav"]))
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


@pytest.mark.external
def test_every_link_and_image_leads_to_a_file_of_the_site(site: Path) -> None:
    missing = []
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > len(list(DOCS.rglob("*.md")))
    for page in pages:
        if page.name == "404.html":  # served at any address, so its own links are absolute
            continue
        found = targets(page)
        for target in found.links + found.loaded:
            parts = urlsplit(target)
            if not parts.scheme and parts.path and not (page.parent / unquote(parts.path)).exists():
                missing.append(f"{page.relative_to(site)}: {target}")
    assert missing == []


@pytest.mark.external
def test_the_site_loads_nothing_from_other_hosts(site: Path) -> None:
    loaded = {target for page in site.rglob("*.html") for target in targets(page).loaded}
    assert loaded
    assert [target for target in loaded if urlsplit(target).netloc] == []


def test_diagrams_and_drawings_match() -> None:
    assert {file.stem for file in FOLDER.glob("*.svg")} == set(sources()), (
        "diagrams were changed: python -m sales_assets_tests.site.diagrams draws them"
    )


@pytest.mark.external
def test_diagrams_are_inserted_as_drawings(site: Path) -> None:
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    drawn = re.findall(r'<figure class="diagram"><svg id="d-(\w+)"', (site / "architecture.html").read_text("utf-8"))
    assert len(set(drawn)) == page.count("```mermaid") > 0


def test_every_image_is_used_and_is_a_known_screenshot() -> None:
    pictures = {file.name for file in (DOCS / "images").glob("*.png")}
    pages = "".join(page.read_text(encoding="utf-8") for page in DOCS.rglob("*.md"))
    assert {name for name in pictures if f"images/{name})" not in pages} == set()
    taken = (*(f"{name}.png" for name in SCENES), *(f"steward-{name}.png" for name in STEWARD_PICTURES))
    assert pictures == {"asset-graph.png", *taken}


def test_changed_diagram_fails_the_build() -> None:
    with pytest.raises(DiagramNotDrawnError, match="draws it"):
        svg("flowchart LR\n    a --> b\n", "mermaid", "diagram", {}, None)


def test_source_files_become_pages_and_links_follow(tmp_path: Path) -> None:
    write_pages(tmp_path)
    guide = (tmp_path / "guides" / "add-a-mart.md").read_text(encoding="utf-8")
    assert "(../source/sql/mart/f_activity.sql.md)" in guide
    assert "(backfills.md)" in guide, "a link inside docs/ stays"
    source = (tmp_path / "source" / "sql" / "mart" / "f_activity.sql.md").read_text(encoding="utf-8")
    assert "````sql\n-- " in source
