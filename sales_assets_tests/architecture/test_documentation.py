"""README and docs/: short, without broken links, with the real tree, and with reference pages that match the code."""

import re
from pathlib import Path

import dagster as dg
import pytest

from sales_assets_tests.architecture import reference
from sales_assets_tests.architecture.modules import PACKAGE
from sales_assets_tests.architecture.reference_assets import tables_page, tables_without_asset, undescribed

ROOT = PACKAGE.parent
README = ROOT / "README.md"
CITING = [PACKAGE, PACKAGE.parent / "sql", PACKAGE.parent / "sales_assets_tests"]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]

_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"")
_NAME_IN_FILE = re.compile(r"\[`([^`\n]+)`\]\(([^)#\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
# A page, optionally followed by its sections in quotes, in brackets or after a comma.
_CITATION = re.compile(r"(docs/[\w/.-]+\.md)((?:,| and| \()? ?\"[^\"\n]+\"(?: and \"[^\"\n]+\")*)?")
_QUOTED = re.compile(r"\"([^\"]+)\"")
_FOLDER = re.compile(r"^( *)(\w+)/")


def text_of(page: Path) -> str:
    """Return the text of a page without code blocks."""
    return _FENCED.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, like GitHub."""
    names = (re.sub(r"[^\w\- ]", "", heading.strip().lower()) for heading in _HEADING.findall(text_of(page)))
    return {name.replace(" ", "-") for name in names}


def links(page: Path) -> list[str]:
    """Return the relative links and images of a page."""
    found = (link or image for link, image in _LINK.findall(_CODE.sub("", text_of(page))))
    return [link for link in found if "://" not in link and not link.startswith("mailto:")]


def broken_links(page: Path) -> list[str]:
    """Return the links of a page to files or headings that don't exist."""
    broken = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        is_page = target.suffix == ".md"
        if not target.exists() or (anchor and not (is_page and anchor in anchors(target))):
            broken.append(link)
    return broken


def missing_names(page: Path) -> list[str]:
    """Return the linked names in code style that are neither the name of their target file nor in its text."""
    missing = []
    for name, link in _NAME_IN_FILE.findall(text_of(page)):
        target = page.parent / link
        if not (target.as_posix().endswith(name) or (target.is_file() and name in target.read_text(encoding="utf-8"))):
            missing.append(f"{name}: {link}")
    return missing


def tree(page: Path, top: str, levels: int) -> list[str]:
    """Return the folders that a page's tree shows below a top folder, down to a number of levels."""
    block = re.search(rf"^```\n({top}/.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert block, f"{page.name} has no tree of {top}/"
    found: list[str] = []
    path: list[str] = []
    for line in block[1].splitlines():
        if match := _FOLDER.match(line):
            depth = len(match[1]) // 2
            path = [*path[:depth], match[2]]
            if path[0] == top and 1 <= depth <= levels:
                found.append("/".join(path[1:]))
    return found


def packages(levels: int) -> list[str]:
    """Return the folders with modules below sales_assets, down to a number of levels."""
    parents = {module.parent.relative_to(PACKAGE) for module in PACKAGE.rglob("*.py")}
    return sorted(parent.as_posix() for parent in parents if 1 <= len(parent.parts) <= levels)


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_resolves(page: Path) -> None:
    assert broken_links(page) == []


def test_a_broken_link_is_detected(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A title, of *two* parts\n[a](#a-title-of-two-parts) [b](page.md#no) [c](gone.md) [d](https://example.org)\n"
        "`[e](code.md)` ![f](gone.png)\n```\n[g](block.md)\n# no-heading\n```\n[h](#no-heading)\n",
        encoding="utf-8",
    )
    assert broken_links(page) == ["page.md#no", "gone.md", "gone.png", "#no-heading"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_linked_names_are_in_their_files(page: Path) -> None:
    assert missing_names(page) == []


def test_a_missing_name_is_detected(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("HERE = 1\n", encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text("[`HERE`](code.py) [`code.py`](code.py) [`GONE`](code.py) [`lost.py`](code.py)\n", encoding="utf-8")
    assert missing_names(page) == ["GONE: code.py", "lost.py: code.py"]


def test_code_cites_existing_pages_and_sections() -> None:
    missing = []
    for file in sorted(path for folder in CITING for path in folder.rglob("*") if path.suffix in (".py", ".sql")):
        for page, sections in _CITATION.findall(file.read_text(encoding="utf-8")):
            if not (ROOT / page).exists():
                missing.append(f"{file}: {page}")
                continue
            headings = _HEADING.findall(text_of(ROOT / page))
            missing += [f"{file}: {page}, {name}" for name in _QUOTED.findall(sections) if name not in headings]
    assert missing == []


def test_every_page_is_reachable_from_the_readme() -> None:
    reached: set[Path] = set()
    pages = [README]
    while pages:
        page = pages.pop()
        if page not in reached:
            reached.add(page)
            targets = ((page.parent / link.partition("#")[0]).resolve() for link in links(page))
            pages += [target for target in targets if target.suffix == ".md"]
    assert [page for page in PAGES if page not in reached] == []


def test_the_tree_of_the_architecture_page_is_current() -> None:
    assert sorted(tree(ROOT / "docs" / "architecture.md", "sales_assets", 2)) == packages(2)


def test_the_tree_of_the_readme_is_current() -> None:
    assert sorted(tree(README, "sales_assets", 1)) == packages(1)


@pytest.mark.parametrize("page", reference.PAGES)
def test_the_reference_is_current(page: str) -> None:
    assert (reference.FOLDER / page).read_text(encoding="utf-8") == reference.PAGES[page](), (
        "settings or commands changed: python -m sales_assets_tests.architecture.reference writes the pages again"
    )


def test_the_reference_has_the_description_of_a_sensor() -> None:
    """A sensor of automation conditions has no function whose docstring could describe it."""
    page = reference.PAGES["assets.md"]()
    assert "Refresh each report after a change" in page
    assert (dg.AutomationConditionSensorDefinition.__doc__ or "").split("\n")[0] not in page


def test_the_reference_of_the_tables_is_current_and_complete(warehouse_url: str) -> None:
    """Every table and column that is not described by an asset has a comment in the migrations."""
    tables = tables_without_asset(warehouse_url)
    assert undescribed(tables) == []
    assert "staging.quarantine" in {table["name"] for table in tables}
    assert (reference.FOLDER / reference.TABLES).read_text(encoding="utf-8") == tables_page(tables), (
        "tables changed: python -m sales_assets_tests.architecture.reference writes the pages again"
    )
