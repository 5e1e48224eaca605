"""README and docs/: short, without broken links, with the real tree, and with reference pages that match the code."""

import re
from pathlib import Path

import pytest

from sales_assets_tests.architecture import reference
from sales_assets_tests.architecture.modules import PACKAGE

ROOT = PACKAGE.parent
README = ROOT / "README.md"
CITING = [PACKAGE, PACKAGE.parent / "sql", PACKAGE.parent / "sales_assets_tests"]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]

_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"")
_NAME_IN_FILE = re.compile(r"\[`([^`\n]+)`\]\(([^)#\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
# A page, also followed by the names of its sections in quotes, in brackets or behind a comma.
_CITATION = re.compile(r"(docs/[\w/.-]+\.md)((?:,| and| \()? ?\"[^\"\n]+\"(?: and \"[^\"\n]+\")*)?")
_QUOTED = re.compile(r"\"([^\"]+)\"")
_FOLDER = re.compile(r"^( *)(\w+)/")


def text_of(page: Path) -> str:
    """The text of a page without its blocks of code."""
    return _FENCED.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    names = (re.sub(r"[^\w\- ]", "", heading.strip().lower()) for heading in _HEADING.findall(text_of(page)))
    return {name.replace(" ", "-") for name in names}


def links(page: Path) -> list[str]:
    """The relative links and images of a page."""
    found = (link or image for link, image in _LINK.findall(_CODE.sub("", text_of(page))))
    return [link for link in found if "://" not in link and not link.startswith("mailto:")]


def broken_links(page: Path) -> list[str]:
    """The links of a page to files or headings that do not exist."""
    broken = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        is_page = target.suffix == ".md"
        if not target.exists() or (anchor and not (is_page and anchor in anchors(target))):
            broken.append(link)
    return broken


def missing_names(page: Path) -> list[str]:
    """The names in code style that a page links to a file which neither is called so nor contains them."""
    missing = []
    for name, link in _NAME_IN_FILE.findall(text_of(page)):
        target = page.parent / link
        if not (target.as_posix().endswith(name) or (target.is_file() and name in target.read_text(encoding="utf-8"))):
            missing.append(f"{name}: {link}")
    return missing


def tree(page: Path, top: str, levels: int) -> list[str]:
    """The folders that a page's tree shows below a top folder, down to a number of levels."""
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
    """The folders with modules below sales_assets, down to a number of levels."""
    parents = {module.parent.relative_to(PACKAGE) for module in PACKAGE.rglob("*.py")}
    return sorted(parent.as_posix() for parent in parents if 1 <= len(parent.parts) <= levels)


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_resolves(page: Path) -> None:
    assert broken_links(page) == []


def test_a_broken_link_is_noticed(tmp_path: Path) -> None:
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


def test_a_name_that_is_gone_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("HERE = 1\n", encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text("[`HERE`](code.py) [`code.py`](code.py) [`GONE`](code.py) [`lost.py`](code.py)\n", encoding="utf-8")
    assert missing_names(page) == ["GONE: code.py", "lost.py: code.py"]


def test_code_cites_pages_and_sections_that_exist() -> None:
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


def test_the_tree_of_the_architecture_is_the_real_one() -> None:
    assert sorted(tree(ROOT / "docs" / "architecture.md", "sales_assets", 2)) == packages(2)


def test_the_tree_of_the_readme_is_the_real_one() -> None:
    assert sorted(tree(README, "sales_assets", 1)) == packages(1)


@pytest.mark.parametrize("page", reference.PAGES)
def test_the_reference_is_current(page: str) -> None:
    assert (reference.FOLDER / page).read_text(encoding="utf-8") == reference.PAGES[page](), (
        "settings or commands changed: python -m sales_assets_tests.architecture.reference writes the pages again"
    )
