"""Mermaid diagrams of the documentation as SVG files in ``docs/images/diagrams``, each named by a hash of its source.

Code hosts render the Mermaid blocks themselves. Zensical would load mermaid.js from a CDN in the reader's browser, so
offline the site would have no diagrams. Rendering takes seconds of CPU time per diagram, so the build only inserts
stored drawings; `python -m sales_assets_tests.site.diagrams` draws new ones and deletes unused ones.
"""

import hashlib
import html
import re
from typing import Any

from sales_assets_tests.site.pages import DOCS

FOLDER = DOCS / "images" / "diagrams"

_BLOCK = re.compile(r"^```mermaid\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Labels are text, never markup or scripts (mermaid's default, set explicitly). Table names are not wrapped: their width
# is computed for one font, and readers may have another.
_CONFIG = (
    '%%{init: {"theme": "neutral", "securityLevel": "strict", "fontFamily": "verdana, sans-serif",'
    ' "flowchart": {"wrappingWidth": 600}}}%%\n'
)


class DiagramNotDrawnError(Exception):
    """A diagram is new or was changed, and has not been drawn since."""


def sources() -> dict[str, str]:
    """Return {name: source} of the diagrams of all pages."""
    pages = sorted(DOCS.rglob("*.md"))
    blocks = (block for page in pages for block in _BLOCK.findall(page.read_text(encoding="utf-8")))
    return {_name(block): block for block in blocks}


def svg(source: str, language: str, css_class: str, options: dict[str, Any], md: object, **kwargs: Any) -> str:
    """Insert a stored drawing. Called by `pymdownx.superfences`, as configured in zensical.toml.

    Raises:
        DiagramNotDrawnError: There is no drawing of this source.
    """
    drawn = FOLDER / f"{_name(source)}.svg"
    if not drawn.exists():
        first = source.partition("\n")[0]
        raise DiagramNotDrawnError(
            f"a diagram ({first} ...) was changed: python -m sales_assets_tests.site.diagrams draws it"
        )
    return f'<figure class="{html.escape(css_class)}">{drawn.read_text(encoding="utf-8")}</figure>'


def draw() -> None:
    """Draw the diagrams without a drawing, and delete drawings without a diagram."""
    import mermaidx  # imported here, because neither the build nor the tests need it

    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = sources()
    for file in FOLDER.glob("*.svg"):
        if file.stem not in wanted:
            file.unlink()
    for name, source in wanted.items():
        if not (file := FOLDER / f"{name}.svg").exists():
            # mermaid uses one id for styles and markers, and a page may have several diagrams.
            text = mermaidx.Diagram(_CONFIG + source).svg().replace("my-svg", f"d-{name}")
            file.write_text(text + "\n", encoding="utf-8")


def _name(source: str) -> str:
    return hashlib.sha256(source.strip().encode()).hexdigest()[:12]


if __name__ == "__main__":
    draw()
