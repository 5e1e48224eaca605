"""Prepare the pages that Zensical builds: ``docs/``, and a page for each linked file outside it.

On a code host, links such as ``../../sql/roles.sql`` lead to the file. The site only has pages below its root, so the
file is turned into a page below ``source/``.
"""

import re
import shutil
from pathlib import Path
from posixpath import normpath, relpath

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

_FENCED = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)|(?<=src=\")(?!\w+:)([^\"]+)")
# Pygments lexers whose name is not the file suffix.
_LANGUAGES = {"py": "python", "yml": "yaml", "conf": "nginx", "target": "ini", "service": "ini", "": "text"}


def write_pages(target: Path) -> None:
    """Replace a folder with the pages of the site.

    Args:
        target: The folder; it contains only copies.
    """
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(DOCS, target)
    linked = {path for page in DOCS.rglob("*.md") for path in _outside(page)}
    written: set[Path] = set()
    while linked:
        path = linked.pop()
        written.add(path)
        page = target / source_page(path)
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(_page_of(path), encoding="utf-8")
        if path.suffix == ".md":
            linked |= _outside(path) - written
    for page in DOCS.rglob("*.md"):
        copy = target / page.relative_to(DOCS)
        copy.write_text(_relinked(page, page.relative_to(DOCS).as_posix()), encoding="utf-8")


def source_page(path: Path) -> str:
    """Return the address of a file's page, relative to the root of the site."""
    relative = path.relative_to(ROOT).as_posix()
    return f"source/{relative}" if path.suffix == ".md" else f"source/{relative}.md"


def _page_of(path: Path) -> str:
    """Return a page outside docs/ with adjusted links, or another file as a code block."""
    if path.suffix == ".md":
        return _relinked(path, source_page(path))
    text = path.read_text(encoding="utf-8").rstrip("\n")
    suffix = path.suffix.removeprefix(".")
    return f"# {path.relative_to(ROOT).as_posix()}\n\n````{_LANGUAGES.get(suffix, suffix)}\n{text}\n````\n"


def _outside(page: Path) -> set[Path]:
    """Return the files outside docs/ that a page links to."""
    text = _FENCED.sub("", page.read_text(encoding="utf-8"))
    targets = {(page.parent / (link or image)).resolve() for link, image in _LINK.findall(text)}
    return {target for target in targets if target.is_file() and not target.is_relative_to(DOCS)}


def _relinked(page: Path, address: str) -> str:
    """Return the text of a page with its links adjusted to an address of the site."""

    def turned(match: re.Match[str]) -> str:
        target = (page.parent / match[0]).resolve()
        if not target.is_file():
            return match[0]
        inside = target.is_relative_to(DOCS)
        place = target.relative_to(DOCS).as_posix() if inside else source_page(target)
        return normpath(relpath(place, Path(address).parent.as_posix()))

    parts = _FENCED.split(page.read_text(encoding="utf-8"))
    return "".join(part if part.startswith("```") else _LINK.sub(turned, part) for part in parts)
