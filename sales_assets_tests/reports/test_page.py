"""The page: one self-contained file, safe with hostile names, readable on phones and by screen readers."""

import datetime as dt
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from sales_assets.postgres.warehouse import Warehouse
from sales_assets.reports.charts import draw
from sales_assets.reports.figures import ReportError, overview
from sales_assets.reports.page import render, write_page
from sales_assets_tests.reports.conftest import HOSTILE, LAST, days_before

pytestmark = pytest.mark.external  # Matplotlib runs a program to list the machine's fonts

MADE_AT = dt.datetime(2024, 10, 3, 4, 5, tzinfo=dt.UTC)


class Tags(HTMLParser):
    """The tags of a page with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture
def written(insert_sale: Callable[..., None], names: None, cache: Path, tmp_path: Path) -> Path:
    """Write the page for 30 days of a mart with hostile names; return its path."""
    for day in days_before(LAST, 30):
        insert_sale(day)
    found = overview(Warehouse(), days=30)
    file = tmp_path / "sales overview.html"
    write_page(file, found, draw(found, "<RUB>", cache), "<RUB>", MADE_AT)
    return file


def test_the_page_is_self_contained_and_runs_no_code(written: Path) -> None:
    text = written.read_text(encoding="utf-8")
    tags = Tags(text).found
    assert {tag for tag, _ in tags} & {"script", "link", "iframe", "object", "form", "a"} == set()
    assert not any(name.startswith("on") for _, attributes in tags for name in attributes)
    sources = [attributes["src"] or "" for tag, attributes in tags if tag == "img"]
    assert len(sources) == 5
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "http" not in re.sub(r"base64,[^\"]+|http-equiv", "", text)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "&lt;RUB&gt;" in text
    assert [path.name for path in written.parent.iterdir() if path.suffix == ".part"] == []


def test_charts_have_descriptions_and_tables(written: Path) -> None:
    tags = Tags(written.read_text(encoding="utf-8")).found
    assert all(len(attributes["alt"] or "") > 40 for tag, attributes in tags if tag == "img")
    assert sum(tag == "table" for tag, _ in tags) == 5
    assert all(attributes.get("scope") == "col" for tag, attributes in tags if tag == "th")
    assert ("html", {"lang": "en"}) in tags


def test_the_page_of_an_empty_mart_reports_that_there_are_no_sales(warehouse_url: str, cache: Path) -> None:
    found = overview(Warehouse(), days=3)
    text = render(found, draw(found, "", cache), "", MADE_AT)
    assert "There are no sales in this period." in text
    assert "generated at 2024-10-03 04:05 UTC" in text


def test_a_failed_write_keeps_the_former_page(
    written: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = written.read_bytes()
    found = overview(Warehouse(), days=3)
    charts = draw(found, "", cache)

    def fail(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(Path, "write_text", fail)
        with pytest.raises(OSError, match="No space left"):
            write_page(written, found, charts, "", MADE_AT)
    assert written.read_bytes() == before
    with pytest.raises(ReportError, match=r"nowhere is not a folder"):
        write_page(tmp_path / "nowhere" / "page.html", found, charts, "", MADE_AT)
    write_page(written, found, charts, "", MADE_AT)
    assert written.read_bytes() != before


@pytest.fixture
def phone(browser: Browser) -> Iterator[Page]:
    """Yield an offline browser tab as wide as a small phone."""
    with browser.new_context(viewport={"width": 360, "height": 740}, offline=True) as context:
        yield context.new_page()


@pytest.mark.browser
def test_the_page_fits_the_width_of_a_phone(written: Path, phone: Page) -> None:
    console_messages: list[str] = []
    phone.on("console", lambda message: console_messages.append(message.text))
    phone.on("dialog", lambda dialog: console_messages.append(dialog.message))
    phone.goto(written.as_uri())
    for summary in phone.locator("summary").all():
        summary.click()
    assert phone.evaluate("document.documentElement.scrollWidth") <= 360
    images = "Array.from(document.images, image => [image.naturalWidth, image.clientWidth])"
    assert phone.evaluate(images) == [[1120, 328]] * 5
    assert phone.get_by_text(HOSTILE[0]).first.is_visible()
    assert console_messages == []
    phone.screenshot(path=written.with_suffix(".png"), full_page=True)
